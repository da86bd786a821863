//! However a lab ends, nothing of it stays: no process, no mount, no loop device, no file.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quarry_lab::{Guest, Options, Recipe, Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quarry-lab");

/// A cache of its own that borrows the finished root, so that other guests of this machine are not counted.
struct Lab {
    cache: tempfile::TempDir,
    memory: String,
}

impl Lab {
    fn new(megabytes: u32) -> Self {
        let root = quarry_lab::root(Recipe::Storage).unwrap();
        let cache = tempfile::tempdir().unwrap();
        symlink(&root, cache.path().join(root.file_name().unwrap())).unwrap();
        Self { cache, memory: format!("{megabytes}M") }
    }

    fn command(&self, words: &[&str]) -> Command {
        // Where tests run in the background of a shell, SIGINT is ignored, and what they start inherits that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", PROGRAM]);
        command.args(["run", "--memory", &self.memory, "--disk", "64M", "--volatile-disk", "64M", "--"]).args(words);
        command.env("QUARRY_CACHE", self.cache.path()).env_remove("LAB");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A lab whose guest runs a program.
    fn start(&self) -> Child {
        let mut child = self.command(&["sh", "-c", "echo here; sleep 1000"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        assert!(self.processes("").len() >= 4, "{:?}", self.processes(""));
        child
    }

    /// Processes of this lab whose command line has the word.
    fn processes(&self, word: &str) -> Vec<(i32, String)> {
        let cache = self.cache.path().to_string_lossy().into_owned();
        let memory = format!("mem={}", self.memory);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if (line.contains(&cache) || line.contains(&memory) || line.contains(&format!("--memory {}", self.memory)))
                && line.contains(word)
            {
                found.push((pid, line));
            }
        }
        found
    }

    fn assert_nothing_stays(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let folders = || {
            fs::read_dir(self.cache.path().join("runs"))
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_name() != "lock")
                .count()
        };
        while (!self.processes("").is_empty() || folders() > 0) && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
        assert_eq!(self.processes(""), []);
        assert_eq!(folders(), 0);
        let cache = self.cache.path().to_string_lossy().into_owned();
        assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&cache));
    }
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

#[test]
fn the_commands_status_is_passed_on_and_nothing_stays() {
    let lab = Lab::new(513);
    let output = lab.command(&["sh", "-c", "lsblk -n -o NAME,SIZE; echo aside >&2; exit 42"]).output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ubda") && text.contains("nbd0"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("aside\n"));
    lab.assert_nothing_stays();
}

#[test]
fn killing_or_interrupting_the_lab_leaves_nothing() {
    let lab = Lab::new(514);
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        let mut child = lab.start();
        send(child.id(), signal);
        child.wait().unwrap();
        lab.assert_nothing_stays();
    }
}

#[test]
fn killing_the_launcher_ends_the_guest_with_a_clear_error() {
    let lab = Lab::new(515);
    let mut child = lab.start();
    let (launcher, _) = lab.processes(" launch ")[0];
    send(launcher.cast_unsigned(), Signal::SIGKILL);
    assert_eq!(child.wait().unwrap().code(), Some(125));
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("died unexpectedly"), "{text}");
    lab.assert_nothing_stays();
}

#[test]
fn what_a_crash_of_everything_left_is_swept_by_the_next_run() {
    let lab = Lab::new(516);
    let mut child = lab.start();
    let (launcher, _) = lab.processes(" launch ")[0];
    send(child.id(), Signal::SIGSTOP);
    send(launcher.cast_unsigned(), Signal::SIGKILL);
    send(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !lab.processes("").is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(lab.cache.path().join("runs")).unwrap().count(), 2);
    assert!(lab.command(&["true"]).status().unwrap().success());
    lab.assert_nothing_stays();
}

#[test]
fn without_device_mapper_the_host_is_refused_in_a_sentence() {
    if Path::new("/dev/mapper/control").try_exists().unwrap() {
        return;
    }
    let output = Lab::new(517).command(&["true"]).env("LAB", "host").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no device-mapper"), "{output:?}");
}

/// The guest is the machine with device-mapper on which `LAB=host` runs.
#[test]
fn on_the_machine_itself_everything_is_undone() {
    let guest = Guest::boot(&Options::new().share(PROGRAM, "/usr/local/bin/quarry-lab")).unwrap();
    let run = |script: &str| guest.run(&quarry_lab::Command::shell(script)).unwrap();
    let lab = "LAB=host QUARRY_CACHE=/tmp/cache exec quarry-lab run --disk 400M -- sh -e -c";
    let work = "{ pvcreate -q /dev/loop0; vgcreate -q v /dev/loop0; lvcreate -q -n a -L 100M v; mkfs.ext4 -q /dev/v/a; \
                mount /dev/v/a /mnt; } >/dev/null; lvs --noheadings -o lv_name";
    let output = run(&format!("{lab} '{work}; exit 7'"));
    assert_eq!((output.status.code(), output.text().as_str()), (7, "a"), "{}", output.error_text());
    for signal in [0, 2, 9] {
        if signal != 0 {
            let log = tempfile::NamedTempFile::new().unwrap();
            let script = format!("{lab} '{work}; echo done; sleep 100'");
            let mut process = guest.spawn(&quarry_lab::Command::shell(script), log.path()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !fs::read_to_string(log.path()).unwrap().contains("done") && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            process.signal(signal).unwrap();
            assert_eq!(process.wait(Duration::from_secs(20)).unwrap(), Status::Killed(signal));
        }
        let left = run("for turn in $(seq 100); do [ \"$(ls /tmp/cache/runs)\" = lock ] && break; sleep 0.1; done
                        losetup -a; dmsetup ls; grep /mnt /proc/mounts || true; ls /tmp/cache/runs; pgrep -a quarry-lab | grep -v -w agent || true");
        assert_eq!(
            left.text(),
            "No devices found\nlock\n1 /lab/quarry-lab init console=tty0",
            "after signal {signal}: {}",
            left.error_text()
        );
    }
}
