use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt};

use quarry::host::kernel::{Kernel, Mount, Stretch};
use quarry::host::linux::Linux;

use super::stand::Stand;

const SIZE: u64 = 64 << 20;

#[tokio::test]
async fn a_device_is_listed_with_its_size_and_number() {
    let Some(mut stand) = Stand::new(SIZE).await else { return };
    for size in [SIZE, SIZE + 4096] {
        stand.enlarge(size).await;
        let devices = stand.kernel.block_devices().await.unwrap();
        let device = devices.iter().find(|device| device.path == stand.device).unwrap();
        assert_eq!((device.size, device.is_component, device.number.major), (size, false, 7));
        assert_eq!(device.mapper_uuid, None);
    }
}

#[tokio::test]
async fn zeroed_and_discarded_stretches_read_as_zeroes_and_their_neighbours_stay() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    stand.put(0, &vec![7; 8 << 20]);
    stand.kernel.zero(stand.stretch(4096, 1 << 20)).await.unwrap();
    match stand.kernel.discard(stand.stretch(4 << 20, 1 << 20)).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            eprintln!("SKIPPED: discard: this loop device cannot: {error}");
            stand.kernel.zero(stand.stretch(4 << 20, 1 << 20)).await.unwrap();
        }
        Err(error) => panic!("{error}"),
    }
    stand.kernel.flush(&stand.device).await.unwrap();
    let (page, mib) = (4096, 1 << 20);
    let stretches = [0, page, mib, mib + page, 4 * mib - page, 4 * mib, 5 * mib - page, 5 * mib];
    let stretches = stretches.map(|offset| stand.stretch(offset, page)).to_vec();
    let bytes: Vec<u8> = stand.kernel.read(stretches).await.into_iter().map(|answer| answer.unwrap()[0]).collect();
    assert_eq!(bytes, [7, 0, 0, 7, 7, 0, 0, 7]);
}

#[tokio::test]
async fn a_read_sees_what_was_written_past_the_page_cache() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    for round in 1..20 {
        stand.put_behind(8192, &[round; 4096]);
        let read = stand.kernel.read(vec![stand.stretch(8192, 4096)]).await.remove(0).unwrap();
        assert_eq!(read, vec![round; 4096]);
    }
    let past_the_end = stand.kernel.read(vec![stand.stretch(SIZE, 4096)]).await.remove(0).unwrap_err();
    assert_eq!(past_the_end.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_read_only_device_refuses_writes_until_it_is_released() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    stand.kernel.set_read_only(&stand.device, true).await.unwrap();
    stand.kernel.zero(stand.stretch(0, 4096)).await.unwrap_err();
    stand.kernel.flush(&stand.device).await.unwrap();
    stand.kernel.set_read_only(&stand.device, false).await.unwrap();
    stand.kernel.zero(stand.stretch(0, 4096)).await.unwrap();
}

#[tokio::test]
async fn a_stretch_past_the_end_is_neither_zeroed_nor_discarded() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    stand.kernel.zero(stand.stretch(SIZE, 4096)).await.unwrap_err();
    stand.kernel.discard(stand.stretch(SIZE, 4096)).await.unwrap_err();
}

/// How a raw block volume reaches a pod: the device node shown at a file of the target.
#[tokio::test]
async fn a_device_node_can_be_bound_onto_a_file() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    let target = stand.folder.path().join("node");
    File::create(&target).unwrap();
    let bind = Mount::Bind { source: stand.device.clone(), target: target.clone(), options: vec!["ro".into()] };
    stand.kernel.mount(&bind).await.unwrap();
    assert!(target.metadata().unwrap().file_type().is_block_device());
    stand.put(0, &[9; 4096]);
    let read = stand.kernel.read(vec![Stretch { device: target.clone(), offset: 0, length: 4096 }]).await;
    assert_eq!(read[0].as_ref().unwrap()[0], 9);
    stand.kernel.unmount(&target).await.unwrap();
    assert!(target.metadata().unwrap().is_file());
}

#[tokio::test]
async fn device_mapper_is_listed_where_there_is_one() {
    let devices = Linux::new().mapped_devices().await.unwrap();
    if File::options().read(true).write(true).open("/dev/mapper/control").is_err() {
        eprintln!("SKIPPED: this kernel has no device-mapper: the list was empty, as it should be");
        assert!(devices.is_empty());
        return;
    }
    let blocks = Linux::new().block_devices().await.unwrap();
    for device in devices {
        let block = blocks.iter().find(|block| block.number == device.number).unwrap();
        assert_eq!(block.mapper_uuid.as_deref().unwrap_or_default(), device.uuid);
        let name = std::fs::read_to_string(format!("/sys/block/dm-{}/dm/name", device.number.minor)).unwrap();
        assert_eq!(name.trim(), device.name);
        let suspended = std::fs::read_to_string(format!("/sys/block/dm-{}/dm/suspended", device.number.minor)).unwrap();
        assert_eq!(suspended.trim() == "1", device.suspended);
    }
}

/// `put` and reads go different ways: without this the tests above would prove nothing.
#[tokio::test]
async fn the_file_behind_a_device_is_what_the_device_shows() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    stand.kernel.zero(stand.stretch(0, 4096)).await.unwrap();
    File::options().write(true).open(&stand.device).unwrap().write_all_at(&[3; 4096], 0).unwrap();
    stand.kernel.flush(&stand.device).await.unwrap();
    let mut bytes = [0; 4096];
    File::open(stand.image()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [3; 4096]);
}
