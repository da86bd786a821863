use tokio::task::JoinSet;

use super::*;

const LIMIT: Duration = Duration::from_secs(2);
const PLACES: Places = Places { each: 4, all: 128 };

fn stretch(device: &Path, offset: u64) -> Stretch {
    Stretch { device: device.to_owned(), offset, length: 4096 }
}

fn device(folder: &Path, name: &str, byte: u8) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, vec![byte; 8192]).unwrap();
    path
}

/// A pipe that nobody writes to: opening it hangs, like a device whose disk does not answer, until this
/// value is dropped.
struct HangingDevice(PathBuf);

impl HangingDevice {
    fn new(folder: &Path) -> Self {
        let path = folder.join("hanging");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self(path)
    }
}

impl Drop for HangingDevice {
    /// The pipe stays open for good: a thread that comes late must not hang at the end of the test.
    fn drop(&mut self) {
        std::mem::forget(std::fs::OpenOptions::new().read(true).write(true).open(&self.0));
    }
}

#[tokio::test]
async fn the_answers_are_in_the_order_of_the_stretches() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (device(folder.path(), "a", 1), device(folder.path(), "b", 2));
    let missing = folder.path().join("missing");
    let stretches = [stretch(&a, 0), stretch(&b, 4096), stretch(&missing, 0), stretch(&a, 8192), stretch(&b, 0)];
    let answers = Lanes::new(LIMIT, PLACES).read(stretches.to_vec()).await;
    let seen: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map(|bytes| bytes[0]).map_err(io::Error::kind)).collect();
    let (gone, past_the_end) = (io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof);
    assert_eq!(seen, [Ok(1), Ok(2), Err(gone), Err(past_the_end), Ok(2)]);
    assert!(Lanes::new(LIMIT, PLACES).read(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_device_that_hangs_holds_up_no_other_and_then_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (good, hanging) = (device(folder.path(), "good", 1), HangingDevice::new(folder.path()));
    let lanes = Lanes::new(LIMIT, PLACES);
    let answers = lanes.read(vec![stretch(&hanging.0, 0), stretch(&good, 0), stretch(&hanging.0, 4096)]).await;
    assert_eq!(answers[1].as_ref().unwrap()[0], 1);
    for place in [0, 2] {
        let error = answers[place].as_ref().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    let started = Instant::now();
    for _ in 0..20 {
        let error = lanes.read(vec![stretch(&hanging.0, 0)]).await.remove(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("hung"), "{error}");
    }
    assert!(started.elapsed() < 10 * LIMIT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_device_that_answers_again_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let hanging = HangingDevice::new(folder.path());
    let lanes = Lanes::new(LIMIT, PLACES);
    lanes.read(vec![stretch(&hanging.0, 0)]).await.remove(0).unwrap_err();
    let path = hanging.0.clone();
    drop(hanging);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![9; 4096]).unwrap();
    while lanes.lane(&path).oldest() > Duration::ZERO {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(lanes.read(vec![stretch(&path, 0)]).await.remove(0).unwrap()[0], 9);
}

#[tokio::test]
async fn many_readers_of_a_hanging_device_take_few_threads() {
    let folder = tempfile::tempdir().unwrap();
    let hanging = HangingDevice::new(folder.path());
    let lanes = Lanes::new(LIMIT, PLACES);
    let mut readers = JoinSet::new();
    for _ in 0..50 {
        let (lanes, stretch) = (lanes.clone(), stretch(&hanging.0, 0));
        readers.spawn(async move { lanes.read(vec![stretch]).await });
    }
    while let Some(answers) = readers.join_next().await {
        assert_eq!(answers.unwrap()[0].as_ref().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
    let lane = lanes.lane(&hanging.0);
    assert_eq!(lane.running.lock().unwrap().started.len(), PLACES.each);
}

#[tokio::test]
async fn idle_devices_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = Lanes::new(LIMIT, PLACES);
    for name in ["a", "b", "c"] {
        lanes.read(vec![stretch(&device(folder.path(), name, 1), 0)]).await.remove(0).unwrap();
    }
    // The last thread gives its lane back a moment after its answer.
    while lanes.by_device.lock().unwrap().len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        lanes.lane(&folder.path().join("a"));
    }
}

#[tokio::test]
async fn a_device_that_does_not_answer_costs_one_thread_and_the_others_are_asked() {
    let lanes = Lanes::new(LIMIT, Places { each: 1, all: 2 });
    let (let_go, hung) = std::sync::mpsc::channel::<()>();
    let hang = move || hung.recv().map_err(io::Error::other);
    assert_eq!(lanes.ask("LVM-hung", hang).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    for _ in 0..20 {
        let started = Instant::now();
        let error = lanes.ask("LVM-hung", || Ok(())).await.unwrap_err();
        assert!(error.to_string().contains("has hung for"), "{error}");
        assert_eq!(lanes.ask("LVM-sound", || Ok(7)).await.unwrap(), 7);
        assert!(started.elapsed() < LIMIT);
    }
    assert_eq!(lanes.lane(Path::new("LVM-hung")).running.lock().unwrap().started.len(), 1);
    let_go.send(()).unwrap();
    while lanes.lane(Path::new("LVM-hung")).oldest() > Duration::ZERO {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lanes.ask("LVM-hung", || Ok(())).await.unwrap();
}

#[tokio::test]
async fn each_caller_gets_an_answer_to_its_own_question() {
    let lanes = Lanes::new(LIMIT, Places { each: 1, all: 2 });
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let slow = || {
        begun.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        Ok(1)
    };
    let first = tokio::spawn({
        let lanes = lanes.clone();
        async move { lanes.ask("LVM-x", slow).await }
    });
    beginning.await.unwrap();
    // What an answer that was under way says may be old by now.
    assert_eq!(lanes.ask("LVM-x", || Ok(2)).await.unwrap(), 2);
    assert_eq!(first.await.unwrap().unwrap(), 1);
}
