use quarry::host::commands::Command;
use quarry::host::probe::Content;

use super::stand::Stand;

const SIZE: u64 = 64 << 20;

/// The label of an LVM physical volume with LVM's checksum of it.
fn physical_volume_label() -> Vec<u8> {
    let mut label = vec![0_u8; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1_u64.to_le_bytes());
    label[20..24].copy_from_slice(&32_u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"0123456789abcdef0123456789abcdef");
    let checksum = label[20..].iter().fold(0xf597_a6cf_u32, |checksum, byte| {
        (0..8)
            .fold(checksum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    });
    label[16..20].copy_from_slice(&checksum.to_le_bytes());
    label
}

fn dos_partition_table() -> Vec<u8> {
    let mut sector = vec![0_u8; 512];
    sector[446 + 4] = 0x83;
    sector[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&65536_u32.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A RAID superblock of version 0.90, which lies at the end of its device.
fn raid_member() -> Vec<u8> {
    let mut superblock = vec![0_u8; 4096];
    for (place, word) in [0xa92b_4efc_u32, 0, 90, 0, 992, 0x1234].into_iter().enumerate() {
        superblock[place * 4..place * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    superblock
}

async fn described(stand: &Stand) -> String {
    match stand.content().await {
        Content::Other(description) => description,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_others_have_written_is_named_and_never_blank() {
    let signatures = [
        (0, b"LUKS\xba\xbe\x00\x01".to_vec(), "LUKS encryption"),
        (0, dos_partition_table(), "a dos partition table"),
        (512, physical_volume_label(), "an LVM physical volume"),
        (SIZE - (64 << 10), raid_member(), "a part of a RAID"),
        (700_000, b"some text".to_vec(), "data of unknown kind"),
        (4096, b"\x01".to_vec(), "data of unknown kind"),
    ];
    for (offset, bytes, description) in signatures {
        let Some(stand) = Stand::new(SIZE).await else { return };
        assert_eq!(stand.content().await, Content::Blank);
        stand.put(offset, &bytes);
        assert_eq!(described(&stand).await, description);
    }
}

#[tokio::test]
async fn what_other_tools_make_is_named_and_never_blank() {
    let tools: [(&'static str, &[&str], &str); 3] = [
        ("mkswap", &[], "swap space"),
        ("mkfs.vfat", &[], "a file system or other data of type vfat"),
        ("mke2fs", &["-q", "-F", "-O", "journal_dev"], "a journal of ext4"),
    ];
    for (program, arguments, description) in tools {
        let Some(stand) = Stand::new(SIZE).await else { return };
        let command = Command::new(program).arguments(arguments.iter().copied()).argument(&stand.device);
        if stand.run_if_installed(command).await {
            assert!(described(&stand).await.starts_with(description), "{program}");
        }
    }
}

#[tokio::test]
async fn a_partition_table_is_named() {
    let Some(stand) = Stand::new(SIZE).await else { return };
    if stand.processes.locate("sfdisk").is_err() {
        eprintln!("SKIPPED: sfdisk is not installed");
        return;
    }
    let script = "echo 'label: gpt' | sfdisk -q \"$1\"";
    stand.run(Command::new("sh").arguments(["-c", script, "sh"]).argument(&stand.device)).await;
    assert_eq!(described(&stand).await, "a gpt partition table");
    stand.zero_edges().await;
    assert_eq!(stand.content().await, Content::Blank);
}
