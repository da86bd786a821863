use std::sync::Mutex;

use super::*;

fn shell(script: impl Into<OsString>) -> Command {
    Command::new("sh").argument("-c").argument(script)
}

/// Waits for something that another process does, on a machine that may be busy.
fn until(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "it did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_command_gives_its_status_and_both_outputs() {
    let output = Processes::new().run(&shell("echo out; echo error >&2; exit 5")).await.unwrap();
    assert_eq!(output, Output { status: Some(5), stdout: b"out\n".to_vec(), stderr: "error\n".into() });
    let error = Processes::new().run_ok(&shell("echo why >&2; exit 5")).await.unwrap_err();
    assert!(error.to_string().contains("status 5: why"), "{error}");
}

#[tokio::test]
async fn a_signal_is_no_status() {
    assert_eq!(Processes::new().run(&shell("kill -9 $$")).await.unwrap().status, None);
}

#[tokio::test]
async fn a_program_that_is_not_installed_is_missing() {
    for program in ["no-such-program", "", "..", "../bin/sh/"] {
        let error = Processes::new().run(&Command::new(program)).await.unwrap_err();
        assert!(matches!(error, CommandError::Missing { .. }), "{program:?}: {error}");
    }
}

/// Root is needed to look at process 1 and to go there.
#[tokio::test]
async fn a_program_of_the_host_runs_where_its_first_process_is() {
    let Ok(host) = std::fs::read_link("/proc/1/ns/mnt") else {
        return;
    };
    let processes = Processes::new().variable("LVM_SYSTEM_DIR", "/run/quarry").on_host("sh");
    let output = processes.run(&shell("readlink /proc/self/ns/mnt; echo $LVM_SYSTEM_DIR; exit 5")).await.unwrap();
    let text = format!("{}\n/run/quarry\n", host.display());
    assert_eq!(output, Output { status: Some(5), stdout: text.into_bytes(), stderr: String::new() });
    let other = processes.run(&Command::new("readlink").argument("/proc/self/ns/mnt")).await.unwrap();
    let own = format!("{}\n", std::fs::read_link("/proc/self/ns/mnt").unwrap().display());
    assert_eq!(other.stdout, own.into_bytes());
}

#[tokio::test]
async fn the_environment_is_ours_alone_and_there_is_no_input() {
    let processes = Processes::new().variable("LVM_SYSTEM_DIR", "/run/quarry");
    let output = processes.run(&Command::new("env")).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["LC_ALL", "LVM_SUPPRESS_FD_WARNINGS", "LVM_SYSTEM_DIR", "PATH"]);
    assert_eq!(processes.run(&Command::new("cat")).await.unwrap().stdout, b"");
}

#[tokio::test]
async fn only_the_end_of_standard_error_is_kept() {
    let output = Processes::new().run(&shell("head -c 200000 /dev/zero >&2; echo end >&2")).await.unwrap();
    assert_eq!(u64::try_from(output.stderr.len()).unwrap(), STDERR_KEPT);
    assert!(output.stderr.ends_with("end\n"));
}

#[tokio::test]
async fn an_endless_output_is_an_error_and_not_cut_silently() {
    let error = Processes::new().run(&shell("head -c 67108865 /dev/zero")).await.unwrap_err();
    assert!(matches!(error, CommandError::Nonsense { .. }), "{error}");
}

#[tokio::test]
async fn a_child_that_outlives_the_command_does_not_hold_up_the_answer() {
    let started = Instant::now();
    Processes::new().run(&shell("sleep 30 & echo done")).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn a_command_runs_to_its_end_when_nobody_waits_for_it_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = format!("sleep 0.3; echo x; echo x >&2; echo $$ > {}", mark.display());
    let processes = Processes::new();
    let command = shell(script);
    tokio::time::timeout(Duration::from_millis(50), processes.run(&command)).await.unwrap_err();
    until(|| std::fs::read(&mark).is_ok_and(|text| text.ends_with(b"\n")));
    let process = std::fs::read_to_string(&mark).unwrap();
    let entry = Path::new("/proc").join(process.trim());
    // Reaping is this runtime's work: it must have its turn.
    while entry.try_exists().unwrap() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_command_runs_to_its_end_when_the_runtime_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command = shell(format!("sleep 0.3; echo x; echo x >&2; touch {}", mark.display()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(50), Processes::new().run(&command)).await.unwrap_err();
    });
    drop(runtime);
    until(|| mark.try_exists().unwrap());
}

#[tokio::test]
async fn a_command_is_in_a_process_group_of_its_own() {
    let output = Processes::new().run(&shell("echo $$; cut -d' ' -f5 /proc/self/stat")).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<&str> = text.lines().collect();
    assert_eq!(numbers[0], numbers[1]);
}

#[tokio::test]
async fn every_command_is_observed_with_its_success() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let observer = move |command: &Command, elapsed: Duration, ok: bool| {
        log.lock().unwrap().push((command.program, elapsed > Duration::ZERO, ok));
    };
    let processes = Processes::new().observed(Arc::new(observer));
    processes.run(&Command::new("true")).await.unwrap();
    processes.run(&Command::new("false")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [("true", true, true), ("false", true, false)]);
}

/// The clock is a test's: it jumps ahead whenever nothing but time is waited for.
#[tokio::test(start_paused = true)]
async fn a_command_that_takes_long_is_reported_and_left_alone() {
    struct Reports(std::sync::atomic::AtomicUsize);
    impl Observer for Reports {
        fn still_running(&self, _: &Command, _: Duration) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        fn ended(&self, _: &Command, _: Duration, _: bool) {}
    }
    let reports = Arc::new(Reports(0.into()));
    let processes = Processes::new().observed(reports.clone());
    let output = processes.run(&Command::new("sleep").argument("0.2")).await.unwrap();
    assert_eq!(output.status, Some(0));
    assert!(reports.0.swap(0, std::sync::atomic::Ordering::Relaxed) > 0);
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    // What it complains of is not kept without bounds meanwhile.
    let script = "head -c 67108865 /dev/zero >&2; sleep 0.5; echo end >&2";
    let output = processes.stream(&shell(script), sender).await.unwrap();
    assert_eq!((output.status, output.stderr.as_str()), (Some(0), "end\n"));
    assert!(reports.0.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn what_is_streamed_arrives_as_it_is_printed_and_is_not_bounded() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let command = shell("head -c 100000000 /dev/zero; echo why >&2");
    let processes = Processes::new();
    let counting = async {
        let mut bytes = 0;
        while let Some(piece) = receiver.recv().await {
            assert!(piece.len() <= PIECE && !piece.is_empty());
            bytes += piece.len();
        }
        bytes
    };
    let (output, bytes) = tokio::join!(processes.stream(&command, sender), counting);
    assert_eq!((bytes, output.unwrap().stderr), (100_000_000, String::from("why\n")));
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let error = processes.stream(&shell("echo why >&2; exit 5"), sender).await.unwrap_err();
    assert!(error.to_string().contains("status 5: why"), "{error}");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_any_more_is_ended() {
    for script in ["while :; do echo more; done", "echo one; exec sleep 1000"] {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let streaming = tokio::spawn(async move { Processes::new().stream(&shell(script), sender).await });
        assert!(receiver.recv().await.is_some());
        drop(receiver);
        let ended = tokio::time::timeout(Duration::from_secs(20), streaming).await.unwrap().unwrap();
        assert_eq!(ended.unwrap().status, None, "{script}");
    }
}

#[tokio::test]
async fn a_command_that_is_given_up_is_killed_and_no_other() {
    let (processes, given_up) = (Processes::new(), CancellationToken::new());
    let output = processes.run_ok_unless(&shell("echo done"), given_up.clone()).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    let waiting = tokio::spawn({
        let (processes, given_up) = (processes.clone(), given_up.clone());
        async move { processes.run_ok_unless(&shell("exec sleep 1000"), given_up).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    given_up.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("a signal"));
}
