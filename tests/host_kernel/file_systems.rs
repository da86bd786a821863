use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use quarry::host::file_system::FileSystem;
use quarry::host::kernel::{Kernel, Mount};
use quarry::host::probe::Content;

use super::stand::Stand;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 320 * MIB;

/// A path of just under 4,096 bytes below `folder`.
fn deep(folder: &Path) -> PathBuf {
    let mut path = folder.to_owned();
    while path.as_os_str().len() < 3850 {
        path.push("d".repeat(199));
    }
    let rest = 4095 - path.as_os_str().len() - 1;
    path.push("e".repeat(rest.min(255)));
    assert!((4000..4096).contains(&path.as_os_str().len()), "{}", path.as_os_str().len());
    path
}

async fn a_whole_life(file_system: FileSystem) {
    let Some(mut stand) = Stand::new(SIZE).await else { return };
    stand.put(0, &vec![0xa5; 2 << 20]);
    stand.put(SIZE - 2 * MIB, &vec![0xa5; 2 << 20]);
    assert_eq!(stand.content().await, Content::Other("data of unknown kind".into()));
    stand.zero_edges().await;
    assert_eq!(stand.content().await, Content::Blank);
    if !stand.make(file_system, "").await {
        return;
    }
    let found = stand.found().await;
    assert_eq!((found.file_system, found.has_errors), (file_system, false));
    assert!(found.bytes <= SIZE && found.bytes > SIZE - 8 * MIB && !found.needs_growing(SIZE), "{found:?}");

    let staged = stand.target(deep(stand.folder.path()));
    let published = stand.target(" a\tb\nc\\ ");
    let readable = stand.target("readable");
    stand.mount(file_system, &staged, &["noatime,discard", "nosuid"]).await;
    let bind = |target: &PathBuf, options: &[&str]| Mount::Bind {
        source: staged.clone(),
        target: target.clone(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    stand.kernel.mount(&bind(&published, &[])).await.unwrap();
    stand.kernel.mount(&bind(&readable, &["ro", "noexec"])).await.unwrap();

    let mounts = stand.kernel.mounts().await.unwrap();
    let entry = |target: &Path| mounts.iter().find(|entry| entry.target == target).unwrap();
    for (target, expected) in [
        (&staged, vec!["rw", "nosuid", "noatime"]),
        (&published, vec!["rw", "nosuid", "noatime"]),
        (&readable, vec!["ro", "nosuid", "noexec", "noatime"]),
    ] {
        let entry = entry(target);
        assert_eq!((entry.options.as_slice(), entry.file_system.as_str()), (&*strings(&expected), file_system.word()));
        assert_eq!(Path::new(&entry.source), stand.device);
        assert!(entry.super_options.iter().any(|option| option.starts_with("discard")), "{entry:?}");
    }

    std::fs::write(published.join("file"), "text").unwrap();
    assert_eq!(std::fs::write(readable.join("file"), "text").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(std::fs::read_to_string(readable.join("file")).unwrap(), "text");

    let usage = stand.kernel.usage(&published).await.unwrap();
    assert!(usage.total_bytes > 200 * MIB && usage.total_bytes <= SIZE, "{usage:?}");
    assert!(usage.used_bytes > 0 && usage.available_bytes > 0 && usage.available_bytes < usage.total_bytes);
    assert_eq!(usage.total_inodes == 0, file_system == FileSystem::Btrfs);

    stand.enlarge(2 * SIZE).await;
    assert!(stand.found().await.needs_growing(stand.size));
    let can_grow = Stand::can_grow(file_system);
    if can_grow {
        // Not by the deepest path: xfs_growfs reads lines of the mount table up to 4,096 bytes.
        stand.grow(file_system, &published).await;
        let grown = stand.kernel.usage(&readable).await.unwrap();
        assert!(grown.total_bytes > usage.total_bytes + 250 * MIB, "{grown:?}");
    }
    assert_eq!(std::fs::read_to_string(published.join("file")).unwrap(), "text");

    for target in [&readable, &published, &staged] {
        stand.kernel.unmount(target).await.unwrap();
    }
    assert_eq!(stand.kernel.unmount(&staged).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(stand.found().await.needs_growing(stand.size), !can_grow);
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn an_ext4_lives_from_mkfs_to_unmounting() {
    a_whole_life(FileSystem::Ext4).await;
}

#[tokio::test]
async fn an_xfs_lives_from_mkfs_to_unmounting() {
    a_whole_life(FileSystem::Xfs).await;
}

#[tokio::test]
async fn a_btrfs_lives_from_mkfs_to_unmounting() {
    a_whole_life(FileSystem::Btrfs).await;
}

/// `needs_growing` against the tools: what it denies, they do not do either.
#[tokio::test]
async fn growing_is_needed_exactly_when_the_tools_grow() {
    let layouts = [
        (FileSystem::Ext4, "-b 4096", 256 * MIB),
        (FileSystem::Ext4, "-b 1024", 64 * MIB),
        (FileSystem::Ext4, "-i 65536 -b 4096", 128 * MIB + 4096),
        (FileSystem::Xfs, "-d agcount=4", 512 * MIB),
        (FileSystem::Xfs, "", 512 * MIB + 64 * 1024),
        (FileSystem::Btrfs, "", 256 * MIB),
    ];
    for (file_system, options, size) in layouts {
        let Some(mut stand) = Stand::new(size).await else { return };
        if !Stand::can_grow(file_system) || !stand.make(file_system, options).await {
            continue;
        }
        let target = stand.target("target");
        let mut needless = 0;
        for extra in [4096, 64 * 1024, 252 * 1024, MIB, 2 * MIB + 8192, 8 * MIB + 8192, 9 * MIB, 128 * MIB] {
            stand.enlarge(stand.size + extra).await;
            let before = stand.found().await;
            stand.mount(file_system, &target, &[]).await;
            stand.grow(file_system, &target).await;
            stand.kernel.unmount(&target).await.unwrap();
            let after = stand.found().await;
            let context = format!("{file_system} {options}, {extra} more: {before:?} {after:?} on {}", stand.size);
            assert!(after.bytes >= before.bytes && after.bytes <= stand.size, "{context}");
            if after.bytes > before.bytes {
                assert!(before.needs_growing(stand.size), "{context}");
            } else if before.needs_growing(stand.size) {
                eprintln!("started for nothing: {context}");
                needless += 1;
            }
        }
        assert!(
            needless == 0 || (needless == 1 && file_system == FileSystem::Ext4),
            "{file_system} {options}: {needless}"
        );
    }
}

#[tokio::test]
async fn the_smallest_sizes_are_taken_by_mkfs_and_can_grow() {
    for file_system in FileSystem::ALL {
        let Some(mut stand) = Stand::new(file_system.minimum_bytes()).await else { return };
        if !stand.make(file_system, "").await {
            continue;
        }
        let target = stand.target("target");
        stand.mount(file_system, &target, &[]).await;
        std::fs::write(target.join("file"), vec![1; 64 << 10]).unwrap();
        if Stand::can_grow(file_system) {
            stand.enlarge(stand.size + 8 * MIB).await;
            stand.grow(file_system, &target).await;
            stand.kernel.unmount(&target).await.unwrap();
            assert!(stand.found().await.bytes > file_system.minimum_bytes());
        }
    }
}
