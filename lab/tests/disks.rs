//! What the lab promises about disks: what a power cut takes and leaves, plugging and pulling, faults.
#![allow(clippy::unwrap_used)]

use quarry_lab::{Behaviour, Command, Disk, DiskKind, Guest, Options};

const GIB: u64 = 1 << 30;

fn shell(guest: &Guest, script: &str) -> String {
    guest.run(&Command::shell(script)).unwrap().checked().unwrap().text()
}

#[test]
fn a_volume_is_made_formatted_and_outlives_a_power_cut_on_a_plain_disk() {
    let disks = tempfile::tempdir().unwrap();
    let options = Options::new().memory(GIB / 2).disk_folder(disks.path()).disk(Disk::plain("pv0", GIB));
    let guest = Guest::boot(&options).unwrap();
    let device = guest.device("pv0").unwrap();
    shell(&guest, &format!("pvcreate -q {device}; vgcreate -q v {device}; lvcreate -q -n a -L 300M v"));
    shell(
        &guest,
        "mkfs.xfs -q /dev/v/a; mount /dev/v/a /mnt; echo kept >/mnt/file; sync -f /mnt; echo lost >/mnt/late",
    );
    guest.cut_power().unwrap();
    assert!(format!("{:#}", guest.run(&Command::new("true")).unwrap_err()).contains("power was cut"));
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    shell(&guest, "vgchange -q -ay v; mount /dev/v/a /mnt");
    assert_eq!(shell(&guest, "cat /mnt/file"), "kept");
    guest.power_off().unwrap();
}

#[test]
fn a_power_cut_loses_what_a_volatile_disk_was_not_told_to_flush_and_nothing_else() {
    let disks = tempfile::tempdir().unwrap();
    let options = Options::new().memory(GIB / 2).disk_folder(disks.path()).disk(Disk::volatile("cache", GIB));
    let guest = Guest::boot(&options).unwrap();
    let device = guest.device("cache").unwrap();
    // LVM writes past the page cache and never flushes; so does this.
    shell(&guest, &format!("pvcreate -q {device}; vgcreate -q lost {device}; vgs lost"));
    guest.cut_power().unwrap();
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    assert!(!guest.run(&Command::new("pvs").arg(&device)).unwrap().status.success());
    shell(
        &guest,
        &format!("pvcreate -q {device}; vgcreate -q kept {device}; sync {device}; lvcreate -q -n late -L 20M kept"),
    );
    guest.cut_power().unwrap();
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    assert_eq!(shell(&guest, "vgs --noheadings -o vg_name"), "kept");
    assert_eq!(shell(&guest, "lvs --noheadings -o lv_name"), "");
    // A clean end flushes all.
    shell(&guest, "lvcreate -q -n switched -L 20M kept");
    guest.power_off().unwrap();
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    assert_eq!(shell(&guest, "lvs --noheadings -o lv_name"), "switched");
}

#[test]
fn disks_are_plugged_in_and_pulled_out_of_a_running_guest() {
    let guest =
        Guest::boot(&Options::new().memory(GIB / 2).wrapper(["unshare", "--net"]).disk(Disk::plain("first", GIB)))
            .unwrap();
    for kind in [DiskKind::Plain, DiskKind::Volatile] {
        for _ in 0..2 {
            let device = guest.add_disk(&Disk::new("second", GIB, kind)).unwrap();
            assert!(guest.add_disk(&Disk::new("second", GIB, kind)).is_err());
            assert_eq!(shell(&guest, &format!("blockdev --getsize64 {device}")), GIB.to_string());
            shell(&guest, &format!("pvcreate -q -ff -y {device}; pvs {device}; pvremove -q {device}"));
            guest.pull_disk("second").unwrap();
            assert!(
                !guest.run(&Command::new("blockdev").args(["--getbsz", &device])).unwrap().status.success()
                    || shell(&guest, &format!("blockdev --getsize64 {device}")) == "0"
            );
        }
    }
    let device = guest.device("first").unwrap();
    shell(&guest, &format!("mkfs.ext4 -q {device}; mount {device} /mnt"));
    let busy = format!("{:#}", guest.pull_disk("first").unwrap_err());
    assert!(busy.contains("refuses"), "{busy}");
    // A volatile disk is torn out of its users' hands.
    let device = guest.add_disk(&Disk::volatile("torn", GIB)).unwrap();
    shell(&guest, &format!("mkfs.ext4 -q {device}; mkdir /tmp/torn; mount {device} /tmp/torn"));
    guest.pull_disk("torn").unwrap();
    assert!(!guest.run(&Command::shell("echo x >/tmp/torn/file; sync /tmp/torn/file")).unwrap().status.success());
}

#[test]
fn faults_come_and_go_below_a_volume_group() {
    let guest = Guest::boot(&Options::new().memory(GIB / 2).disk(Disk::plain("pv0", GIB))).unwrap();
    let fault = guest.fault("pv0").unwrap();
    let device = fault.device();
    let made = guest
        .run(&Command::shell(format!("pvcreate {device}; vgcreate v {device}; lvcreate -n a -L 100M v; pvs")))
        .unwrap();
    let made = made.checked().unwrap();
    assert!(!made.error_text().contains("WARNING"), "{}", made.error_text());
    let write = Command::shell("dd if=/dev/zero of=/dev/v/a bs=4096 count=1 oflag=direct");
    let read = Command::shell("dd if=/dev/v/a of=/dev/null bs=4096 count=1 iflag=direct");
    let works = |command: &Command| guest.run(command).unwrap().status.success();
    assert!(works(&write) && works(&read));
    for (behaviour, writes, reads) in [
        (Behaviour::Error, false, false),
        (Behaviour::FailWrites, false, true),
        (Behaviour::DropWrites, true, true),
        (Behaviour::Flakey { up_seconds: 0, down_seconds: 60 }, false, false),
        (Behaviour::BadBlocks(Vec::new()), true, true),
        (Behaviour::Healthy, true, true),
    ] {
        fault.set(&behaviour).unwrap();
        assert_eq!((works(&write), works(&read)), (writes, reads), "{behaviour:?}");
    }
    // The first extent lies at 1 MiB.
    fault.set(&Behaviour::BadBlocks(vec![2048])).unwrap();
    assert!(!works(&read));
    assert!(works(&write) && works(&read));
    fault.set(&Behaviour::Delay { milliseconds: 300 }).unwrap();
    let slow = guest.run(&read).unwrap().seconds;
    assert!(slow > 0.3, "{slow}");
    fault.set(&Behaviour::Healthy).unwrap();
    assert_eq!(shell(&guest, "vgs --noheadings -o vg_name"), "v");
}
