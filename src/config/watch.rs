//! The classes in force: those of the file as it is now, or as it last was good.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::classes::Classes;
use crate::config::classes_file::{ClassesError, read_text};

/// The file is looked at so often at most; a change is in force that much later at the latest.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

type Parse = Box<dyn Fn(&str) -> Result<Classes, ClassesError> + Send + Sync>;

/// The classes in force. Looks at the file when it is asked, so there is no task to start or to end.
///
/// What counts is the file's content: times and inodes are deceptive when a `ConfigMap` swaps its symbolic link
/// or an editor writes twice within a tick of the clock. Reading some kilobytes once a second costs less than
/// one volume operation.
pub struct ClassesInForce {
    file: Option<WatchedFile>,
    state: Mutex<State>,
}

struct WatchedFile {
    path: PathBuf,
    parse: Parse,
    look_every: Duration,
}

struct State {
    current: Arc<Classes>,
    error: Option<ClassesError>,
    /// What the last look found: the content, or why there was none.
    seen: Result<String, ClassesError>,
    looked: Instant,
}

impl ClassesInForce {
    /// Classes that never change.
    pub fn fixed(classes: Classes) -> Self {
        let state = State { current: Arc::new(classes), error: None, seen: Ok(String::new()), looked: Instant::now() };
        Self { file: None, state: Mutex::new(state) }
    }

    /// The classes of a file, which must be good now and is read again when it has changed. `parse` is
    /// [`Classes::parse`] with the check of options that the caller wants.
    pub fn watch(
        path: PathBuf,
        look_every: Duration,
        parse: impl Fn(&str) -> Result<Classes, ClassesError> + Send + Sync + 'static,
    ) -> Result<Self, ClassesError> {
        let file = WatchedFile { path, parse: Box::new(parse), look_every };
        let seen = read_text(&file.path);
        let current = Arc::new(file.judge(&seen)?);
        let state = State { current, error: None, seen, looked: Instant::now() };
        Ok(Self { file: Some(file), state: Mutex::new(state) })
    }

    /// The classes in force now. May read the file, at most once per interval.
    pub fn current(&self) -> Arc<Classes> {
        self.with_state(|state| Arc::clone(&state.current))
    }

    /// Why the file as it is now is not in force; `None` when it is.
    pub fn last_error(&self) -> Option<ClassesError> {
        self.with_state(|state| state.error.clone())
    }

    fn with_state<T>(&self, answer: impl FnOnce(&State) -> T) -> T {
        // The state is only ever replaced whole values at a time, so a panic elsewhere leaves nothing half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file
            && state.looked.elapsed() >= file.look_every
        {
            file.look(&mut state);
        }
        answer(&state)
    }
}

impl WatchedFile {
    fn look(&self, state: &mut State) {
        state.looked = Instant::now();
        let seen = read_text(&self.path);
        if seen == state.seen {
            return;
        }
        match self.judge(&seen) {
            Ok(classes) => {
                let has_recovered = state.error.take().is_some();
                if has_recovered || *state.current != classes {
                    info!(file = %self.path.display(), classes = classes.names(), "the classes file is in force");
                    state.current = Arc::new(classes);
                }
            }
            Err(error) => {
                let file = self.path.display();
                warn!(%file, %error, "the classes file has changed and is not used; the last good one stays in force");
                state.error = Some(error);
            }
        }
        state.seen = seen;
    }

    fn judge(&self, seen: &Result<String, ClassesError>) -> Result<Classes, ClassesError> {
        seen.as_ref().map_err(Clone::clone).and_then(|text| (self.parse)(text))
    }
}

impl fmt::Debug for ClassesInForce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.as_ref().map(|file| &file.path);
        formatter.debug_struct("ClassesInForce").field("path", &path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    fn text(name: &str) -> String {
        format!("classes:\n- name: {name}\n  volumeGroups: [vg]\n")
    }

    fn watch_every(path: &Path, look_every: Duration) -> Result<ClassesInForce, ClassesError> {
        ClassesInForce::watch(path.to_owned(), look_every, |text| Classes::parse(text, |_, _, _| Ok(())))
    }

    fn watch(path: &Path) -> ClassesInForce {
        watch_every(path, Duration::ZERO).unwrap()
    }

    fn file_with(name: &str) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("classes.yaml");
        fs::write(&path, text(name)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_changed_file_is_in_force_at_the_next_look() {
        let (_folder, path) = file_with("one");
        let classes = watch(&path);
        assert_eq!(classes.current().names(), "one");
        // The same length within the same tick of the clock: only the content tells.
        fs::write(&path, text("two")).unwrap();
        assert_eq!(classes.current().names(), "two");
        assert_eq!(classes.last_error(), None);
    }

    #[test]
    fn a_bad_file_leaves_the_old_one_in_force_until_it_is_good_again() {
        let (_folder, path) = file_with("one");
        let classes = watch(&path);
        fs::write(&path, format!("{}  wip: zero\n", text("two"))).unwrap();
        assert_eq!(classes.current().names(), "one");
        let error = classes.last_error().unwrap();
        assert_eq!(error.line, Some(4));
        assert!(error.reason.contains("wip"), "{error}");
        fs::write(&path, text("one")).unwrap();
        assert_eq!(classes.current().names(), "one");
        assert_eq!(classes.last_error(), None);
    }

    #[test]
    fn a_vanished_file_leaves_the_old_one_in_force() {
        let (_folder, path) = file_with("one");
        let classes = watch(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(classes.current().names(), "one");
        assert!(classes.last_error().unwrap().reason.contains("cannot be read"));
        fs::write(&path, text("two")).unwrap();
        assert_eq!(classes.current().names(), "two");
        assert_eq!(classes.last_error(), None);
    }

    #[test]
    fn a_config_map_that_swaps_its_link_is_followed() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let publish = |version: &str, content: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("classes.yaml"), content).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        publish("..2026_1", &text("one"));
        symlink("..data/classes.yaml", at("classes.yaml")).unwrap();
        let classes = watch(&at("classes.yaml"));
        assert_eq!(classes.current().names(), "one");
        publish("..2026_2", &text("two"));
        fs::remove_dir_all(at("..2026_1")).unwrap();
        assert_eq!(classes.current().names(), "two");
        assert_eq!(classes.last_error(), None);
    }

    #[test]
    fn the_file_is_looked_at_no_more_often_than_agreed() {
        let (_folder, path) = file_with("one");
        let classes = watch_every(&path, Duration::from_hours(1)).unwrap();
        let before = classes.current();
        fs::write(&path, text("two")).unwrap();
        assert!(Arc::ptr_eq(&before, &classes.current()));
    }

    #[test]
    fn what_is_no_good_file_at_the_start_is_refused() {
        let (folder, path) = file_with("one");
        fs::write(&path, "").unwrap();
        assert!(watch_every(&path, LOOK_EVERY).unwrap_err().reason.contains("empty"));
        assert!(watch_every(folder.path(), LOOK_EVERY).unwrap_err().reason.contains("it is no file"));
        fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(watch_every(&path, LOOK_EVERY).unwrap_err().reason.contains("larger than 1 MiB"));
        assert!(watch_every(Path::new("/nowhere"), LOOK_EVERY).unwrap_err().reason.contains("cannot be read"));
    }

    #[test]
    fn classes_from_a_flag_never_change() {
        let classes = ClassesInForce::fixed(Classes::single(&[String::from("vg")]).unwrap());
        assert_eq!(classes.current().names(), "default");
        assert_eq!(classes.last_error(), None);
    }
}
