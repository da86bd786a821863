//! Boots real guests: what the lab promises about programs, and about kernels that die.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use quarry_lab::{Command, Guest, Options, Status};

const GIB: u64 = 1 << 30;

fn shell(guest: &Guest, script: &str) -> String {
    guest.run(&Command::shell(script)).unwrap().checked().unwrap().text()
}

fn boot() -> Guest {
    Guest::boot(&Options::new().memory(GIB / 2)).unwrap()
}

#[test]
fn programs_run_with_their_input_output_and_status() {
    let guest = boot();
    let command = Command::shell("cat; echo bad >&2; echo $A $PWD; exit 3").stdin("in ").env("A", "b c").folder("/tmp");
    let output = guest.run(&command).unwrap();
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(output.text(), "in b c /tmp");
    assert_eq!(output.error_text(), "bad");
    assert!(output.checked().unwrap_err().to_string().contains("exit status 3"));
    let killed = guest.run(&Command::shell("kill -9 $$")).unwrap();
    assert_eq!(killed.status, Status::Killed(9));
    let missing = guest.run(&Command::new("/no/such/program")).unwrap_err();
    assert!(format!("{missing:#}").contains("/no/such/program"), "{missing:#}");
    let long = "x".repeat(100_000);
    assert_eq!(guest.run(&Command::new("echo").arg(&long)).unwrap().text(), long);
    let slow = Command::new("sleep").arg("100").limit(Duration::from_millis(300));
    let late = guest.run(&slow).unwrap_err().to_string();
    assert!(late.contains("did not end within 300ms"), "{late}");
}

#[test]
fn many_bytes_and_many_programs_pass_at_once() {
    let guest = boot();
    let bytes: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let begun = Instant::now();
    assert_eq!(guest.run(&Command::new("cat").stdin(bytes.clone())).unwrap().stdout, bytes);
    println!("200 kB there and back: {:?}", begun.elapsed());
    let begun = Instant::now();
    let output = guest.run(&Command::shell("head -c 5M /dev/zero")).unwrap();
    assert_eq!(output.stdout.len(), 5 << 20);
    println!("5 MiB back: {:?}", begun.elapsed());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let guest = &guest;
            let script = format!("sleep 3; head -c 500K /dev/zero | wc -c; echo {number}");
            scope.spawn(move || assert_eq!(shell(guest, &script), format!("512000\n{number}")));
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn daemons_and_shared_folders_reach_both_sides() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("read me"), "from outside").unwrap();
    let options = Options::new().memory(GIB / 2).share_writable(shared.path(), "/shared");
    let guest = Guest::boot(&options.share(shared.path(), "/read-only")).unwrap();
    let in_guest = guest.path(&shared.path().join("read me")).unwrap();
    assert_eq!(guest.run(&Command::new("cat").arg(in_guest)).unwrap().text(), "from outside");
    shell(&guest, "echo from inside >/shared/result");
    let result = fs::read_to_string(shared.path().join("result")).unwrap();
    assert_eq!(result, "from inside\n");
    assert!(!guest.run(&Command::shell("echo x >/read-only/result")).unwrap().status.success());

    // A daemon that keeps the pipe open does not keep the caller.
    let begun = Instant::now();
    assert_eq!(shell(&guest, "sleep 100 & echo started"), "started");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let log = shared.path().join("daemon.log");
    let mut daemon = guest.spawn(&Command::shell("echo up; exec sleep 100"), &log).unwrap();
    assert_eq!(daemon.try_wait().unwrap(), None);
    assert!(daemon.wait(Duration::from_millis(100)).is_err());
    assert_eq!(shell(&guest, &format!("cat /proc/{}/comm", daemon.pid())), "sleep");
    assert_eq!(daemon.kill().unwrap(), Status::Killed(9));
    assert_eq!(fs::read_to_string(&log).unwrap(), "up\n");
    let dropped = guest.spawn(&Command::shell("trap '' TERM; sleep 100"), &log).unwrap();
    let pid = dropped.pid();
    drop(dropped);
    shell(&guest, &format!("while [ -d /proc/{pid} ]; do sleep 0.01; done"));
}

#[test]
fn booting_asking_and_switching_off_are_quick() {
    let guest = boot();
    println!("boot: {:.2} s, Linux {}", guest.boot_seconds(), guest.kernel());
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        guest.run(&Command::new("true")).unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("`true` from call to answer: median {:?}, slowest {:?}", times[50], times[99]);
    let begun = Instant::now();
    guest.power_off().unwrap();
    println!("power off: {:?}", begun.elapsed());
    let error = guest.run(&Command::new("true")).unwrap_err();
    assert!(format!("{error:#}").contains("switched off"), "{error:#}");
}

#[test]
fn a_panic_of_the_guests_kernel_is_a_clear_error() {
    let guest = Guest::boot(&Options::new().memory(GIB / 2)).unwrap();
    let error = guest.run(&Command::shell("echo c >/proc/sysrq-trigger; sleep 60")).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("died unexpectedly") && text.contains("panic"), "{text}");
}

#[test]
fn a_guest_that_cannot_boot_says_why_and_leaves_nothing() {
    let options =
        Options::new().memory(GIB / 2).kernel_argument("root=/dev/nonsense").kernel_argument("rootfstype=ext4");
    let text = format!("{:#}", Guest::boot(&options).unwrap_err());
    assert!(text.contains("did not boot") && text.contains("VFS"), "{text}");
    let missing = Options::new().share("/no/such/folder", "/x");
    let text = format!("{:#}", Guest::boot(&missing).unwrap_err());
    assert!(text.contains("/no/such/folder"), "{text}");
}
