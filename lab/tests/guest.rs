//! Boots real guests: what the lab promises about programs, and about kernels that die.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use quarry_lab::{Command, Guest, Options, Status};

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
}
