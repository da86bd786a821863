use super::*;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A `/sys` as the kernel shows it: a disk with an LVM volume on it, one that is part of a RAID, one that
/// is encrypted, and the devices on top.
fn sys() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let block = folder.path().join("class/block");
    let devices = [("sda", 8, 0), ("sdb", 8, 16), ("sdc", 8, 32), ("dm-0", 254, 0), ("dm-1", 254, 1), ("md0", 9, 0)];
    for (name, major, minor) in devices {
        write(
            &block.join(name).join("uevent"),
            &format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE=disk\n"),
        );
        write(&block.join(name).join("size"), "2097152\n");
        std::fs::create_dir(block.join(name).join("holders")).unwrap();
    }
    write(&block.join("dm-0/dm/uuid"), "LVM-abc\n");
    write(&block.join("dm-1/dm/uuid"), "CRYPT-LUKS2-abc\n");
    for (device, holder) in [("sda", "dm-0"), ("sdb", "md0"), ("sdc", "dm-0"), ("sdc", "dm-1")] {
        std::os::unix::fs::symlink(block.join(holder), block.join(device).join("holders").join(holder)).unwrap();
    }
    folder
}

#[test]
fn devices_are_read_with_what_sits_on_top_of_them() {
    let sys = sys();
    let devices = devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap();
    let seen: Vec<_> = devices
        .iter()
        .map(|device| (device.path.to_str().unwrap(), device.is_component, device.mapper_uuid.as_deref()))
        .collect();
    let expected = [
        ("/dev/dm-0", false, Some("LVM-abc")),
        ("/dev/dm-1", false, Some("CRYPT-LUKS2-abc")),
        ("/dev/md0", false, None),
        ("/dev/sda", false, None),
        ("/dev/sdb", true, None),
        ("/dev/sdc", true, None),
    ];
    assert_eq!(seen, expected);
    assert_eq!(devices[3].number, DeviceNumber { major: 8, minor: 0 });
    assert_eq!(devices[3].size, 1 << 30);
}

#[test]
fn volumes_of_lvm_and_devices_without_room_are_left_out() {
    let sys = sys();
    std::fs::write(sys.path().join("class/block/md0/size"), "0\n").unwrap();
    // Told by name, they are neither listed nor asked, here as a holder.
    std::fs::write(sys.path().join("class/block/dm-0/dm/uuid"), "other\n").unwrap();
    let devices = devices(sys.path(), Path::new("/dev"), &HashSet::from([String::from("dm-0")])).unwrap();
    let seen: Vec<_> = devices.iter().map(|device| (device.path.to_str().unwrap(), device.is_component)).collect();
    assert_eq!(seen, [("/dev/dm-1", false), ("/dev/sda", false), ("/dev/sdb", true), ("/dev/sdc", true)]);
}

#[test]
fn a_path_of_a_disk_that_the_kernel_hides_is_left_out() {
    let sys = sys();
    let block = sys.path().join("class/block");
    write(&block.join("nvme0c0n1/uevent"), "DEVTYPE=disk\n");
    write(&block.join("nvme0c0n1/size"), "2097152\n");
    assert_eq!(devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap().len(), 6);
    write(&block.join("nvme0c0n1/uevent"), "MAJOR=many\n");
    devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap_err();
}

#[test]
fn a_loop_device_counts_only_while_it_shows_a_file() {
    let sys = sys();
    let block = sys.path().join("class/block");
    for name in ["loop3", "loop3p1", "loopback"] {
        write(&block.join(name).join("uevent"), &format!("MAJOR=7\nMINOR=3\nDEVNAME={name}\n"));
        write(&block.join(name).join("size"), "2048\n");
    }
    let seen = || {
        let devices = devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap();
        let names = devices.iter().filter_map(|device| device.path.file_name()?.to_str().map(str::to_owned));
        names.filter(|name| name.starts_with("loop")).collect::<Vec<_>>()
    };
    assert_eq!(seen(), ["loop3p1", "loopback"]);
    std::fs::create_dir(block.join("loop3/loop")).unwrap();
    assert_eq!(seen(), ["loop3", "loop3p1", "loopback"]);
}

#[test]
fn a_device_that_goes_away_meanwhile_is_left_out() {
    let sys = sys();
    std::fs::write(sys.path().join("class/block/sda/uevent"), "").unwrap();
    std::fs::remove_file(sys.path().join("class/block/sdb/size")).unwrap();
    assert_eq!(devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap().len(), 4);
    std::fs::write(sys.path().join("class/block/sdc/size"), "many\n").unwrap();
    devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap_err();
}

#[test]
fn a_mapped_device_without_attributes_is_left_out_and_takes_nothing_from_the_one_below() {
    let sys = sys();
    std::fs::remove_dir_all(sys.path().join("class/block/dm-0/dm")).unwrap();
    let devices = devices(sys.path(), Path::new("/dev"), &HashSet::new()).unwrap();
    assert!(devices.iter().all(|device| device.path != Path::new("/dev/dm-0")), "{devices:?}");
    let disk = devices.iter().find(|device| device.path == Path::new("/dev/sda")).unwrap();
    assert!(!disk.is_component);
}

#[test]
fn the_devices_of_this_machine_are_read() {
    devices(Path::new("/sys"), Path::new("/dev"), &HashSet::new()).unwrap();
}

/// Regular files stand for devices: on a disk's file system (direct, kernel zeroes) and in memory (neither).
fn folders() -> Vec<tempfile::TempDir> {
    let places = [std::env::temp_dir(), "/dev/shm".into()];
    places.into_iter().filter_map(|place| tempfile::tempdir_in(place).ok()).collect()
}

#[test]
fn what_was_zeroed_reads_as_zeroes_and_the_rest_is_untouched() {
    for folder in folders() {
        let device = folder.path().join("device");
        std::fs::write(&device, vec![7; 3 << 20]).unwrap();
        zero(&Stretch { device: device.clone(), offset: 4096, length: (2 << 20) - 4096 }).unwrap();
        flush(&device).unwrap();
        let read = |offset, length| read(&Stretch { device: device.clone(), offset, length }).unwrap();
        assert_eq!(read(0, 4096), vec![7; 4096]);
        assert_eq!(read(4096, 8192), vec![0; 8192]);
        assert_eq!(read((2 << 20) - 4096, 8192), [vec![0; 4096], vec![7; 4096]].concat());
    }
}

#[test]
fn a_read_past_the_end_or_of_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("device");
    let stretch = Stretch { device: device.clone(), offset: 4096, length: 8192 };
    assert_eq!(read(&stretch).unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::write(&device, vec![7; 8192]).unwrap();
    assert_eq!(read(&stretch).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_stretch_beyond_all_numbers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("device");
    std::fs::write(&device, "").unwrap();
    zero(&Stretch { device, offset: u64::MAX, length: 1 << 20 }).unwrap_err();
}
