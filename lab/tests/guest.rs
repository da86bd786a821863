//! Boots real guests: what the lab promises about programs, disks, faults and power cuts.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quarry_lab::{Behaviour, Command, Disk, DiskKind, Guest, Options, Status};

const GIB: u64 = 1 << 30;

fn shell(guest: &Guest, script: &str) -> String {
    guest
        .run(&Command::shell(script))
        .unwrap()
        .checked()
        .unwrap()
        .text()
}

#[test]
fn programs_run_with_their_input_output_and_status() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("read me"), "from outside").unwrap();
    let options = Options::new()
        .memory(GIB / 2)
        .share_writable(shared.path(), "/shared");
    let guest = Guest::boot(&options).unwrap();
    println!(
        "boot: {:.2} s, Linux {}",
        guest.boot_seconds(),
        guest.kernel()
    );

    let output = guest
        .run(
            &Command::shell("cat; echo bad >&2; echo $A $PWD; exit 3")
                .stdin("in ")
                .env("A", "b c")
                .folder("/tmp"),
        )
        .unwrap();
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(
        (output.text().as_str(), output.error_text().as_str()),
        ("in b c /tmp", "bad")
    );
    assert!(
        output
            .checked()
            .unwrap_err()
            .to_string()
            .contains("exit status 3")
    );
    assert_eq!(
        guest.run(&Command::shell("kill -9 $$")).unwrap().status,
        Status::Killed(9)
    );
    let missing = format!(
        "{:#}",
        guest.run(&Command::new("/no/such/program")).unwrap_err()
    );
    assert!(missing.contains("/no/such/program"), "{missing}");
    assert_eq!(
        guest
            .run(&Command::new("true"))
            .unwrap()
            .checked()
            .unwrap()
            .text(),
        ""
    );

    let bytes: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(
        guest
            .run(&Command::new("cat").stdin(bytes.clone()))
            .unwrap()
            .stdout,
        bytes
    );
    // A daemon that keeps the pipe open does not keep the caller.
    let begun = Instant::now();
    assert_eq!(shell(&guest, "sleep 100 & echo started"), "started");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let late = guest
        .run(
            &Command::new("sleep")
                .arg("100")
                .limit(Duration::from_millis(300)),
        )
        .unwrap_err();
    assert!(
        late.to_string().contains("did not end within 300ms"),
        "{late}"
    );

    let in_guest = guest.path(&shared.path().join("read me")).unwrap();
    assert_eq!(in_guest, "/shared/read me");
    assert_eq!(
        guest
            .run(&Command::new("cat").arg(in_guest))
            .unwrap()
            .text(),
        "from outside"
    );
    shell(&guest, "echo from inside >/shared/result");
    assert_eq!(
        fs::read_to_string(shared.path().join("result")).unwrap(),
        "from inside\n"
    );

    let log = shared.path().join("daemon.log");
    let mut daemon = guest
        .spawn(&Command::shell("echo up; exec sleep 100"), &log)
        .unwrap();
    assert_eq!(daemon.try_wait().unwrap(), None);
    assert!(daemon.wait(Duration::from_millis(100)).is_err());
    assert_eq!(
        shell(&guest, &format!("cat /proc/{}/comm", daemon.pid())),
        "sleep"
    );
    assert_eq!(daemon.kill().unwrap(), Status::Killed(9));
    assert_eq!(fs::read_to_string(&log).unwrap(), "up\n");

    // Many at once.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let guest = &guest;
            scope.spawn(move || {
                assert_eq!(
                    shell(guest, &format!("sleep 0.5; echo {number}")),
                    number.to_string()
                )
            });
        }
    });
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );

    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            guest.run(&Command::new("true")).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "`true` from the call to the answer: median {:?}, slowest {:?}",
        times[50], times[99]
    );
    let begun = Instant::now();
    guest.power_off().unwrap();
    println!("power off: {:?}", begun.elapsed());
    assert!(
        format!("{:#}", guest.run(&Command::new("true")).unwrap_err()).contains("switched off")
    );
}

#[test]
fn a_volume_is_made_formatted_and_outlives_a_power_cut_on_a_plain_disk() {
    let disks = tempfile::tempdir().unwrap();
    let options = Options::new()
        .memory(GIB / 2)
        .disk_folder(disks.path())
        .disk(Disk::plain("pv0", GIB));
    let guest = Guest::boot(&options).unwrap();
    let device = guest.device("pv0").unwrap();
    shell(
        &guest,
        &format!("pvcreate -q {device}; vgcreate -q v {device}; lvcreate -q -n a -L 300M v"),
    );
    shell(
        &guest,
        "mkfs.xfs -q /dev/v/a; mount /dev/v/a /mnt; echo kept >/mnt/file; sync -f /mnt; echo lost >/mnt/late",
    );
    guest.cut_power().unwrap();
    assert!(
        format!("{:#}", guest.run(&Command::new("true")).unwrap_err()).contains("power was cut")
    );
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    shell(&guest, "vgchange -q -ay v; mount /dev/v/a /mnt");
    assert_eq!(shell(&guest, "cat /mnt/file"), "kept");
    guest.power_off().unwrap();
}

#[test]
fn a_power_cut_loses_what_a_volatile_disk_was_not_told_to_flush_and_nothing_else() {
    let disks = tempfile::tempdir().unwrap();
    let options = Options::new()
        .memory(GIB / 2)
        .disk_folder(disks.path())
        .disk(Disk::volatile("cache", GIB));
    let guest = Guest::boot(&options).unwrap();
    let device = guest.device("cache").unwrap();
    // LVM writes past the page cache and never flushes; so does this.
    shell(
        &guest,
        &format!("pvcreate -q {device}; vgcreate -q lost {device}; vgs lost"),
    );
    guest.cut_power().unwrap();
    drop(guest);
    let guest = Guest::boot(&options).unwrap();
    assert!(
        !guest
            .run(&Command::new("pvs").arg(&device))
            .unwrap()
            .status
            .success()
    );
    shell(
        &guest,
        &format!(
            "pvcreate -q {device}; vgcreate -q kept {device}; sync {device}; lvcreate -q -n late -L 20M kept"
        ),
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
    let guest = Guest::boot(
        &Options::new()
            .memory(GIB / 2)
            .disk(Disk::plain("first", GIB)),
    )
    .unwrap();
    for kind in [DiskKind::Plain, DiskKind::Volatile] {
        for _ in 0..2 {
            let device = guest.add_disk(&Disk::new("second", GIB, kind)).unwrap();
            assert!(guest.add_disk(&Disk::new("second", GIB, kind)).is_err());
            assert_eq!(
                shell(&guest, &format!("blockdev --getsize64 {device}")),
                GIB.to_string()
            );
            shell(
                &guest,
                &format!("pvcreate -q -ff -y {device}; pvs {device}; pvremove -q {device}"),
            );
            guest.pull_disk("second").unwrap();
            assert!(
                !guest
                    .run(&Command::new("blockdev").args(["--getbsz", &device]))
                    .unwrap()
                    .status
                    .success()
                    || shell(&guest, &format!("blockdev --getsize64 {device}")) == "0"
            );
        }
    }
    let device = guest.device("first").unwrap();
    shell(
        &guest,
        &format!("mkfs.ext4 -q {device}; mount {device} /mnt"),
    );
    let busy = format!("{:#}", guest.pull_disk("first").unwrap_err());
    assert!(busy.contains("refuses"), "{busy}");
    // A volatile disk is torn out of its users' hands.
    let device = guest.add_disk(&Disk::volatile("torn", GIB)).unwrap();
    shell(
        &guest,
        &format!("mkfs.ext4 -q {device}; mkdir /tmp/torn; mount {device} /tmp/torn"),
    );
    guest.pull_disk("torn").unwrap();
    assert!(
        !guest
            .run(&Command::shell(
                "echo x >/tmp/torn/file; sync /tmp/torn/file"
            ))
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn faults_come_and_go_below_a_volume_group() {
    let guest = Guest::boot(&Options::new().memory(GIB / 2).disk(Disk::plain("pv0", GIB))).unwrap();
    let fault = guest.fault("pv0").unwrap();
    let device = fault.device();
    let made = guest
        .run(&Command::shell(format!(
            "pvcreate {device}; vgcreate v {device}; lvcreate -n a -L 100M v; pvs"
        )))
        .unwrap();
    let made = made.checked().unwrap();
    assert!(
        !made.error_text().contains("WARNING"),
        "{}",
        made.error_text()
    );
    let write = Command::shell("dd if=/dev/zero of=/dev/v/a bs=4096 count=1 oflag=direct");
    let read = Command::shell("dd if=/dev/v/a of=/dev/null bs=4096 count=1 iflag=direct");
    let works = |command: &Command| guest.run(command).unwrap().status.success();
    assert!(works(&write) && works(&read));
    for (behaviour, writes, reads) in [
        (Behaviour::Error, false, false),
        (Behaviour::FailWrites, false, true),
        (Behaviour::DropWrites, true, true),
        (
            Behaviour::Flakey {
                up_seconds: 0,
                down_seconds: 60,
            },
            false,
            false,
        ),
        (Behaviour::BadBlocks(Vec::new()), true, true),
        (Behaviour::Healthy, true, true),
    ] {
        fault.set(&behaviour).unwrap();
        assert_eq!(
            (works(&write), works(&read)),
            (writes, reads),
            "{behaviour:?}"
        );
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

#[test]
fn a_panic_of_the_guests_kernel_is_a_clear_error() {
    let guest = Guest::boot(&Options::new().memory(GIB / 2)).unwrap();
    let error = guest
        .run(&Command::shell("echo c >/proc/sysrq-trigger; sleep 60"))
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("died unexpectedly") && text.contains("panic"),
        "{text}"
    );
}

#[test]
fn a_guest_that_cannot_boot_says_why_and_leaves_nothing() {
    let options = Options::new()
        .memory(GIB / 2)
        .kernel_argument("root=/dev/nonsense")
        .kernel_argument("rootfstype=ext4");
    let text = format!("{:#}", Guest::boot(&options).unwrap_err());
    assert!(
        text.contains("did not boot") && text.contains("VFS"),
        "{text}"
    );
    let missing = Options::new().share("/no/such/folder", "/x");
    let text = format!("{:#}", Guest::boot(&missing).unwrap_err());
    assert!(text.contains("/no/such/folder"), "{text}");
    let _: PathBuf = quarry_lab::cache_folder().unwrap();
}
