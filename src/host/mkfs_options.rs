//! Which options of mkfs a class may carry. An allow-list: mkfs runs as root, and many of its options name
//! a file, a device or an identity that is not the caller's to choose.

use crate::host::file_system::FileSystem;
use crate::host::option_values::{self, BIT, COUNT, Pattern, Table};

/// What stands after a flag.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Nothing.
    Nothing,
    /// One value.
    Value(Pattern),
    /// `name=value` pairs joined by commas.
    Pairs(Table),
}

const EXT4_BLOCKS: &[&str] = &["1024", "2048", "4096", "8192", "16384", "32768", "65536"];
const EXT4_INODES: &[&str] = &["128", "256", "512", "1024", "2048", "4096"];

// Left out: what cannot be grown while mounted (sparse_super2, bigalloc) and what is on another device
// (journal_dev).
const EXT4_FEATURES: &[&str] = &[
    "64bit",
    "dir_index",
    "dir_nlink",
    "ea_inode",
    "encrypt",
    "ext_attr",
    "extent",
    "extents",
    "extra_isize",
    "fast_commit",
    "filetype",
    "flex_bg",
    "has_journal",
    "huge_file",
    "inline_data",
    "large_dir",
    "large_file",
    "meta_bg",
    "metadata_csum",
    "metadata_csum_seed",
    "orphan_file",
    "project",
    "quota",
    "resize_inode",
    "sparse_super",
    "stable_inodes",
    "uninit_bg",
    "verity",
];

// Left out: resize (bounds later growth), offset (moves the file system), hash_seed (an identity),
// assume_storage_prezeroed (a thick volume's blocks are not all zero).
const EXT4_EXTENDED: Table = &[
    ("stride", COUNT),
    ("stripe_width", COUNT),
    ("stripe-width", COUNT),
    ("lazy_itable_init", Pattern::Nothing),
    ("lazy_itable_init", BIT),
    ("lazy_journal_init", Pattern::Nothing),
    ("lazy_journal_init", BIT),
    ("packed_meta_blocks", Pattern::Nothing),
    ("packed_meta_blocks", BIT),
    ("num_backup_sb", Pattern::Number(0, 2)),
    ("root_owner", Pattern::Owner),
    ("discard", Pattern::Nothing),
    ("nodiscard", Pattern::Nothing),
];

const EXT4_USAGES: &[&str] = &["default", "floppy", "small", "big", "huge", "news", "largefile", "largefile4"];

const EXT4: &[(&str, Takes)] = &[
    ("-b", Takes::Value(Pattern::OneOf(EXT4_BLOCKS))),
    ("-i", Takes::Value(Pattern::Number(1024, 64 << 20))),
    ("-I", Takes::Value(Pattern::OneOf(EXT4_INODES))),
    ("-m", Takes::Value(Pattern::Percentage)),
    ("-N", Takes::Value(Pattern::Number(1, u32::MAX as u64))),
    ("-O", Takes::Value(Pattern::Features(EXT4_FEATURES))),
    ("-E", Takes::Pairs(EXT4_EXTENDED)),
    // MiB; a device= here would be an external journal.
    ("-J", Takes::Pairs(&[("size", Pattern::Number(1, 40_960))])),
    ("-T", Takes::Value(Pattern::List(EXT4_USAGES))),
    ("-j", Takes::Nothing),
];

const XFS: &[(&str, Takes)] = &[
    ("-b", Takes::Pairs(&[("size", Pattern::Size)])),
    // No size=, name= or file: the device is the volume, all of it.
    (
        "-d",
        Takes::Pairs(&[
            ("su", Pattern::Size),
            ("sw", COUNT),
            ("sunit", COUNT),
            ("swidth", COUNT),
            ("agcount", Pattern::Number(1, u32::MAX as u64)),
            ("agsize", Pattern::Size),
            ("noalign", Pattern::Nothing),
        ]),
    ),
    (
        "-i",
        Takes::Pairs(&[
            ("size", Pattern::Size),
            ("maxpct", Pattern::Number(0, 100)),
            ("nrext64", BIT),
            ("sparse", BIT),
            ("align", BIT),
        ]),
    ),
    (
        "-l",
        Takes::Pairs(&[
            ("size", Pattern::Size),
            ("lazy-count", BIT),
            ("su", Pattern::Size),
            ("sunit", COUNT),
            ("version", Pattern::OneOf(&["1", "2"])),
        ]),
    ),
    (
        "-m",
        Takes::Pairs(&[
            ("crc", BIT),
            ("reflink", BIT),
            ("bigtime", BIT),
            ("rmapbt", BIT),
            ("finobt", BIT),
            ("inobtcount", BIT),
        ]),
    ),
    ("-n", Takes::Pairs(&[("size", Pattern::Size), ("version", Pattern::OneOf(&["2", "ci"])), ("ftype", BIT)])),
    ("-s", Takes::Pairs(&[("size", Pattern::Size)])),
    ("-K", Takes::Nothing),
];

const BTRFS_PROFILES: &[&str] = &["single", "dup"];
const BTRFS_FEATURES: &[&str] =
    &["mixed-bg", "extref", "skinny-metadata", "no-holes", "free-space-tree", "block-group-tree", "quota", "squota"];

const BTRFS: &[(&str, Takes)] = &[
    ("-n", Takes::Value(Pattern::Size)),
    ("-s", Takes::Value(Pattern::Size)),
    ("-O", Takes::Value(Pattern::Features(BTRFS_FEATURES))),
    ("-R", Takes::Value(Pattern::Features(&["quota", "free-space-tree"]))),
    ("-m", Takes::Value(Pattern::OneOf(BTRFS_PROFILES))),
    ("-d", Takes::Value(Pattern::OneOf(BTRFS_PROFILES))),
    ("--csum", Takes::Value(Pattern::OneOf(&["crc32c", "xxhash", "sha256", "blake2"]))),
    ("-M", Takes::Nothing),
];

fn table(file_system: FileSystem) -> &'static [(&'static str, Takes)] {
    match file_system {
        FileSystem::Ext4 => EXT4,
        FileSystem::Xfs => XFS,
        FileSystem::Btrfs => BTRFS,
    }
}

/// Checks that mkfs may be given these words: a flag and its value are two words. Nothing in them can name
/// a path, a device, a label or an identity. The message names the option and says what is right.
pub fn check(file_system: FileSystem, words: &[String]) -> Result<(), String> {
    let table = table(file_system);
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let Some((_, takes)) = table.iter().find(|(known, _)| known == flag) else {
            let allowed: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "{flag:?} is not allowed for mkfs.{file_system}; allowed are {}, each value as a word of its own",
                allowed.join(", ")
            ));
        };
        let mut value =
            || words.next().ok_or_else(|| format!("{flag} of mkfs.{file_system} lacks its value, the next word"));
        match takes {
            Takes::Nothing => {}
            Takes::Value(pattern) => {
                let value = value()?;
                if !option_values::fits(*pattern, Some(value)) {
                    return Err(format!("{flag} of mkfs.{file_system} takes {pattern}, not {value:?}"));
                }
            }
            Takes::Pairs(pairs) => {
                for pair in value()?.split(',') {
                    option_values::check_pair(pair, pairs)
                        .map_err(|problem| format!("{flag} of mkfs.{file_system}: {problem}"))?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(file_system: FileSystem, text: &str) -> Result<(), String> {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        check(file_system, &words)
    }

    #[test]
    fn what_tunes_a_file_system_is_allowed() {
        for (file_system, text) in [
            (FileSystem::Ext4, ""),
            (FileSystem::Ext4, "-m 0 -E stride=16,stripe_width=64 -E lazy_itable_init,lazy_journal_init=0"),
            (FileSystem::Ext4, "-b 4096 -i 16384 -I 256 -N 1000 -O ^has_journal,project -J size=64 -T largefile -j"),
            (FileSystem::Xfs, "-b size=4096 -d su=64k,sw=4 -d agcount=8 -i size=512,maxpct=25 -l size=64m -K"),
            (FileSystem::Xfs, "-m crc=1,reflink=0 -n size=64k,version=ci,ftype=1 -s size=4096"),
            (FileSystem::Btrfs, "-n 16k -s 4k -O ^no-holes -R quota -m dup -d single --csum xxhash -M"),
        ] {
            assert_eq!(checked(file_system, text), Ok(()), "{text}");
        }
    }

    #[test]
    fn paths_devices_labels_and_identities_are_refused() {
        for (file_system, texts) in [
            (
                FileSystem::Ext4,
                "-J device=/dev/sda|-O journal_dev|-d /etc|-L name|-U random|-E offset=4096|-z /undo|-m0|-b -4096\
                 |-E discard,hash_seed=x|-O sparse_super2|/dev/sda|-n|-t ext2|-E assume_storage_prezeroed=1|-J size=x\
                 |-E stride=1,,discard|-O |-l /bad|-c|-S",
            ),
            (
                FileSystem::Xfs,
                "-l logdev=/dev/sda|-d name=/dev/sda|-d file=1|-d size=1g|-r rtdev=/dev/sda|-p /file|-c options=/file\
                 |-L name|-m uuid=x|-Kfoo|-N|-d noalign=1|-l internal=0|-d su=/dev/sda",
            ),
            (
                FileSystem::Btrfs,
                "-r /etc|--rootdir /etc|-L name|-U x|/dev/sda|-m raid1|-d raid0|-b 1g|--csum md5|-O zoned",
            ),
        ] {
            for text in texts.split('|') {
                assert!(checked(file_system, text).is_err(), "{file_system} {text}");
            }
        }
    }

    #[test]
    fn a_message_names_the_option_and_what_is_right() {
        let problem = |file_system, text| checked(file_system, text).unwrap_err();
        assert!(problem(FileSystem::Btrfs, "-L x").starts_with("\"-L\" is not allowed for mkfs.btrfs; allowed are -n"));
        assert_eq!(problem(FileSystem::Ext4, "-m"), "-m of mkfs.ext4 lacks its value, the next word");
        assert_eq!(problem(FileSystem::Ext4, "-m x"), "-m of mkfs.ext4 takes a percentage from 0 to 50, not \"x\"");
        assert_eq!(
            problem(FileSystem::Ext4, "-J device=/dev/sda"),
            "-J of mkfs.ext4: \"device\" is not allowed; allowed are size"
        );
    }
}
