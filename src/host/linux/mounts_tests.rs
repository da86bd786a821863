use std::path::PathBuf;

use super::*;
use crate::host::file_system::FileSystem;
use crate::host::mount_options;

fn strings(options: &[&str]) -> Vec<String> {
    options.iter().map(|option| (*option).to_owned()).collect()
}

#[test]
fn options_become_flags_and_everything_else_goes_to_the_file_system() {
    let options = [
        "rw",
        "noatime",
        "nosuid",
        "dirsync",
        "discard",
        "defaults",
        r#"context="system_u:object_r:t:s0:c1,c2""#,
        "logbsize=256k",
    ];
    let (flags, data) = flags_and_data(&strings(&options)).unwrap();
    assert_eq!(flags, MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_DIRSYNC);
    assert_eq!(data, r#"discard,context="system_u:object_r:t:s0:c1,c2",logbsize=256k"#);
}

/// What the kernel reads is known only from its source (`selinux_sb_eat_lsm_opts`): it ends an option at a comma
/// outside double quotes, and takes the quotes away itself. No kernel of ours has `SELinux`, so this is about the text.
#[test]
fn a_context_with_commas_reaches_mount_as_one_option_in_its_quotes() {
    let context = r#"context="system_u:object_r:container_file_t:s0:c1,c2""#;
    let joined = format!("noatime,discard,{context},nosuid");
    for words in [vec!["noatime,discard", context, "nosuid"], vec![&joined]] {
        let options = mount_options::parse(&strings(&words)).unwrap();
        for file_system in FileSystem::ALL {
            mount_options::check(file_system, &options).unwrap();
        }
        let (flags, data) = flags_and_data(&options).unwrap();
        assert_eq!(flags, MsFlags::MS_NOATIME | MsFlags::MS_NOSUID);
        assert_eq!(data, r#"discard,context="system_u:object_r:container_file_t:s0:c1,c2""#);
    }
}

#[test]
fn the_last_of_contradicting_options_counts() {
    let (flags, _) = flags_and_data(&strings(&["ro", "noatime", "rw", "strictatime", "nosuid", "suid"])).unwrap();
    assert_eq!(flags, MsFlags::MS_STRICTATIME);
    let mut attributes = MountAttributes { set: 0, clear: 0, propagation: 0, user_namespace: 0 };
    for option in ["ro", "noatime", "rw", "strictatime", "nosuid"] {
        PerMount::parse(option).unwrap().apply_to_attributes(&mut attributes);
    }
    assert_eq!(attributes.set, attribute::ACCESS_TIME_STRICT | attribute::NO_SET_USER_ID);
    assert_eq!(attributes.clear, attribute::ACCESS_TIME_MASK | attribute::READ_ONLY);
}

#[test]
fn more_text_than_the_kernel_takes_is_refused_and_not_cut() {
    let error = flags_and_data(&[format!("x={}", "y".repeat(5000))]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// A folder with file systems in memory in it; everything is unmounted when it goes.
struct Playground {
    folder: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Playground {
    /// `None`, loudly, where mounts are not allowed.
    fn new() -> Option<Self> {
        let mut playground = Self { folder: tempfile::tempdir().unwrap(), mounted: Vec::new() };
        let base = playground.target("base");
        match mount(Some("none"), &base, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOATIME, None::<&str>) {
            Ok(()) => Some(playground),
            Err(error) => {
                eprintln!("SKIPPED: this test needs the right to mount: {error}");
                None
            }
        }
    }

    fn target(&mut self, name: &str) -> PathBuf {
        let target = self.folder.path().join(name);
        std::fs::create_dir(&target).unwrap();
        self.mounted.push(target.clone());
        target
    }

    fn options(target: &Path) -> Vec<String> {
        let table = super::super::mountinfo::parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        table.into_iter().rfind(|entry| entry.target == target).map(|entry| entry.options).unwrap_or_default()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        for target in self.mounted.iter().rev() {
            while unmount(target).is_ok() {}
        }
    }
}

#[test]
fn both_ways_to_bind_add_the_options_and_keep_those_of_the_source() {
    let Some(mut playground) = Playground::new() else { return };
    let base = playground.mounted[0].clone();
    let options: Vec<PerMount> = ["ro", "nodiratime"].into_iter().filter_map(PerMount::parse).collect();
    for (name, bind) in [("complete", complete_bind as fn(&Path, &Path, &[PerMount]) -> _), ("old", bind_then_remount)]
    {
        let target = playground.target(name);
        bind(&base, &target, &options).unwrap();
        assert_eq!(Playground::options(&target), ["ro", "nosuid", "noatime", "nodiratime"], "{name}");
        assert_eq!(std::fs::write(target.join("x"), "x").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        std::fs::write(base.join("x"), "x").unwrap();
    }
}

#[test]
fn a_read_only_bind_mount_is_read_only_wherever_it_spreads_to() {
    let Some(mut playground) = Playground::new() else { return };
    let base = playground.mounted[0].clone();
    mount(None::<&str>, &base, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    let peer = playground.target("peer");
    plain_bind(&base, &peer).unwrap();
    for folder in ["source", "target"] {
        std::fs::create_dir(base.join(folder)).unwrap();
    }
    let wanted =
        Mount::Bind { source: base.join("source"), target: base.join("target"), options: strings(&["ro", "noexec"]) };
    make(&wanted).unwrap();
    playground.mounted.push(base.join("target"));
    for target in [base.join("target"), peer.join("target")] {
        assert_eq!(Playground::options(&target), ["ro", "nosuid", "noexec", "noatime"], "{}", target.display());
    }
}

#[test]
fn a_bind_mount_whose_options_cannot_be_set_is_undone() {
    let Some(mut playground) = Playground::new() else { return };
    let base = playground.mounted[0].clone();
    let target = playground.target("target");
    plain_bind(&base, &target).unwrap();
    undone_on_failure(&target, Err(io::Error::other("x"))).unwrap_err();
    assert_eq!(Playground::options(&target), Vec::<String>::new());
    let unknown = PerMount::Switch { flag: MsFlags::empty(), attribute: 1 << 40, on: true };
    complete_bind(&base, &target, &[unknown]).unwrap_err();
    assert_eq!(Playground::options(&target), Vec::<String>::new());
    let wanted = Mount::Bind { source: base, target: target.clone(), options: strings(&["ro", "discard"]) };
    assert!(make(&wanted).unwrap_err().to_string().contains("discard"));
    assert_eq!(Playground::options(&target), Vec::<String>::new());
}

#[test]
fn nothing_is_mounted_or_unmounted_through_a_symbolic_link() {
    let Some(mut playground) = Playground::new() else { return };
    let base = playground.mounted[0].clone();
    let target = playground.target("target");
    let link = playground.folder.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let wanted = |target: &Path| Mount::Bind { source: base.clone(), target: target.to_owned(), options: Vec::new() };
    assert_eq!(make(&wanted(&link)).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    make(&wanted(&target)).unwrap();
    unmount(&link).unwrap_err();
    unmount(&target).unwrap();
}

#[test]
fn the_room_of_a_file_system_adds_up() {
    let usage = usage(Path::new("/")).unwrap();
    assert!(usage.total_bytes > 0 && usage.used_bytes + usage.available_bytes <= usage.total_bytes);
    assert!(usage.free_inodes <= usage.total_inodes);
}
