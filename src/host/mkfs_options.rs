//! Which options of mkfs a class may give. What is not listed is refused: an option that names a device, a
//! path or a label, or one that makes a file system that cannot be grown, has no place in a class. Pure.

use super::file_system::FileSystem;
use super::option_value::{SWITCH, Shape};
use crate::error::{Error, Result};

/// Options of mkfs that were found to be right for a file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MkfsOptions {
    pairs: Vec<(String, String)>,
}

/// What may follow a flag.
enum Argument {
    Nothing,
    Value(Shape),
    /// `name=value` or, without a shape, `name`; several with commas in between.
    List(&'static [(&'static str, Option<Shape>)]),
}

const ANY: Shape = Shape::Number(0, u64::MAX);
const COUNT: Shape = Shape::Number(1, u64::MAX);

const EXT4: &[(&str, Argument)] = &[
    ("-b", Argument::Value(Shape::Words(&["1024", "2048", "4096"]))),
    ("-i", Argument::Value(Shape::Number(1024, 64 << 20))),
    ("-I", Argument::Value(Shape::Words(&["256", "512", "1024"]))),
    ("-m", Argument::Value(Shape::Percentage(50.0))),
    ("-N", Argument::Value(COUNT)),
    ("-G", Argument::Value(COUNT)),
    ("-T", Argument::Value(Shape::Words(&["small", "news", "largefile", "largefile4"]))),
    (
        "-O",
        Argument::Value(Shape::Features(&[
            "64bit",
            "casefold",
            "dir_index",
            "dir_nlink",
            "ea_inode",
            "encrypt",
            "extent",
            "extra_isize",
            "fast_commit",
            "flex_bg",
            "huge_file",
            "inline_data",
            "large_dir",
            "large_file",
            "metadata_csum",
            "metadata_csum_seed",
            "orphan_file",
            "project",
            "quota",
            "stable_inodes",
            "uninit_bg",
            "verity",
        ])),
    ),
    (
        "-E",
        Argument::List(&[
            ("stride", Some(ANY)),
            ("stripe_width", Some(ANY)),
            ("stripe-width", Some(ANY)),
            ("lazy_itable_init", Some(SWITCH)),
            ("lazy_journal_init", Some(SWITCH)),
            ("packed_meta_blocks", Some(SWITCH)),
            ("num_backup_sb", Some(Shape::Number(0, 2))),
            ("nodiscard", None),
        ]),
    ),
    ("-J", Argument::List(&[("size", Some(COUNT)), ("fast_commit_size", Some(COUNT))])),
];

const XFS: &[(&str, Argument)] = &[
    ("-K", Argument::Nothing),
    ("-b", Argument::List(&[("size", Some(Shape::Size))])),
    ("-s", Argument::List(&[("size", Some(Shape::Size))])),
    (
        "-d",
        Argument::List(&[
            ("su", Some(Shape::Size)),
            ("sw", Some(ANY)),
            ("sunit", Some(ANY)),
            ("swidth", Some(ANY)),
            ("noalign", None),
            ("agcount", Some(COUNT)),
            ("agsize", Some(Shape::Size)),
        ]),
    ),
    (
        "-i",
        Argument::List(&[
            ("size", Some(Shape::Size)),
            ("maxpct", Some(Shape::Number(0, 100))),
            ("nrext64", Some(SWITCH)),
            ("sparse", Some(SWITCH)),
            ("exchange", Some(SWITCH)),
        ]),
    ),
    (
        "-l",
        Argument::List(&[
            ("size", Some(Shape::Size)),
            ("su", Some(Shape::Size)),
            ("sunit", Some(ANY)),
            ("lazy-count", Some(SWITCH)),
        ]),
    ),
    (
        "-m",
        Argument::List(&[
            ("bigtime", Some(SWITCH)),
            ("crc", Some(SWITCH)),
            ("finobt", Some(SWITCH)),
            ("inobtcount", Some(SWITCH)),
            ("reflink", Some(SWITCH)),
            ("rmapbt", Some(SWITCH)),
        ]),
    ),
    ("-n", Argument::List(&[("size", Some(Shape::Size)), ("ftype", Some(SWITCH)), ("parent", Some(SWITCH))])),
];

const PROFILES: Shape = Shape::Words(&["single", "dup"]);
const BTRFS: &[(&str, Argument)] = &[
    ("-K", Argument::Nothing),
    ("-n", Argument::Value(Shape::Size)),
    ("-s", Argument::Value(Shape::Size)),
    (
        "-O",
        Argument::Value(Shape::Features(&[
            "block-group-tree",
            "extref",
            "free-space-tree",
            "no-holes",
            "quota",
            "skinny-metadata",
            "squota",
        ])),
    ),
    // Older versions of mkfs.btrfs want these here.
    ("-R", Argument::Value(Shape::Features(&["block-group-tree", "free-space-tree", "quota"]))),
    ("-m", Argument::Value(PROFILES)),
    ("-d", Argument::Value(PROFILES)),
    ("--csum", Argument::Value(Shape::Words(&["crc32c", "xxhash", "sha256", "blake2"]))),
];

impl MkfsOptions {
    /// Reads options as one would type them after the name of mkfs, such as `-m 0 -E stride=16`. `field` is
    /// named in the error.
    pub fn parse(field: &str, file_system: FileSystem, text: &str) -> Result<Self> {
        let table = match file_system {
            FileSystem::Ext4 => EXT4,
            FileSystem::Xfs => XFS,
            FileSystem::Btrfs => BTRFS,
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut words = text.split_whitespace();
        while let Some(flag) = words.next() {
            let refuse =
                |problem: String| Error::invalid(field, format!("option {flag:?} of mkfs.{file_system}: {problem}"));
            let Some((_, argument)) = table.iter().find(|(known, _)| *known == flag) else {
                let allowed: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
                return Err(refuse(format!("it is not allowed; allowed are {}", allowed.join(" "))));
            };
            let value = match argument {
                Argument::Nothing => "",
                _ => words.next().ok_or_else(|| refuse("its value is missing".into()))?,
            };
            argument.check(value).map_err(&refuse)?;
            let is_list = matches!(argument, Argument::List(_) | Argument::Value(Shape::Features(_)));
            if !is_list && pairs.iter().any(|(known, _)| known == flag) {
                return Err(refuse("it is given twice".into()));
            }
            pairs.push((flag.to_owned(), value.to_owned()));
        }
        Ok(Self { pairs })
    }

    /// Flags with their values (empty where they have none), in the order given.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl Argument {
    fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Nothing => Ok(()),
            Self::Value(shape) if shape.fits(value) => Ok(()),
            Self::Value(shape) => Err(format!("{value:?} is not {shape}")),
            Self::List(names) => value.split(',').try_for_each(|item| check_item(names, item)),
        }
    }
}

fn check_item(names: &[(&str, Option<Shape>)], item: &str) -> Result<(), String> {
    let (name, value) = item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
    let Some((_, shape)) = names.iter().find(|(known, _)| *known == name) else {
        let allowed: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
        return Err(format!("{name:?} is not allowed in it; allowed are {}", allowed.join(", ")));
    };
    match (shape, value) {
        (None, None) => Ok(()),
        (Some(shape), Some(value)) if shape.fits(value) => Ok(()),
        (None, Some(_)) => Err(format!("{name:?} takes no value")),
        (Some(shape), _) => Err(format!("{item:?} should be {name}= and {shape}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_options_are_taken() {
        let sound = [
            (
                FileSystem::Ext4,
                "-b 4096 -i 65536 -I 256 -m 0.5 -N 1000 -O quota,^64bit -E stride=4,nodiscard -J size=64",
            ),
            (
                FileSystem::Xfs,
                "-b size=4096 -d su=64k,sw=4 -d agcount=8 -i size=512,nrext64=0 -l size=64m -m reflink=0 -K",
            ),
            (FileSystem::Btrfs, "-n 16384 -s 4k -O quota,^no-holes -m dup -d single --csum xxhash"),
            (FileSystem::Xfs, ""),
            (FileSystem::Xfs, "  \n "),
        ];
        for (file_system, options) in sound {
            MkfsOptions::parse("mkfsOptions", file_system, options).unwrap();
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let refused = [
            (FileSystem::Ext4, "-J device=/dev/sda", "device"),
            (FileSystem::Ext4, "-O journal_dev", "journal_dev"),
            (FileSystem::Ext4, "-O ^resize_inode", "resize_inode"),
            (FileSystem::Ext4, "-E assume_storage_prezeroed=1", "assume_storage_prezeroed"),
            (FileSystem::Ext4, "-E discard", "discard"),
            (FileSystem::Ext4, "-E stride", "stride"),
            (FileSystem::Ext4, "-E nodiscard=1", "nodiscard"),
            (FileSystem::Ext4, "-E stride=4,,", "\"\""),
            (FileSystem::Ext4, "-L data", "-L"),
            (FileSystem::Ext4, "/dev/sda", "/dev/sda"),
            (FileSystem::Ext4, "-b", "-b"),
            (FileSystem::Ext4, "-b 4096 -b 1024", "twice"),
            (FileSystem::Ext4, "-m -F", "-F"),
            (FileSystem::Xfs, "-l logdev=/dev/sda", "logdev"),
            (FileSystem::Xfs, "-r rtdev=/dev/sda", "-r"),
            (FileSystem::Xfs, "-d size=10m", "size"),
            (FileSystem::Xfs, "-m crc=2", "crc=2"),
            (FileSystem::Xfs, "-N", "-N"),
            (FileSystem::Btrfs, "-d raid1", "raid1"),
            (FileSystem::Btrfs, "-r /etc", "-r"),
            (FileSystem::Btrfs, "-b 100m", "-b"),
            (FileSystem::Btrfs, "--csum=xxhash", "--csum=xxhash"),
        ];
        for (file_system, options, named) in refused {
            let error = MkfsOptions::parse("mkfsOptions", file_system, options).unwrap_err().to_string();
            assert!(error.contains(named) && error.starts_with("mkfsOptions: "), "{options}: {error}");
        }
        let error = MkfsOptions::parse("mkfsOptions", FileSystem::Btrfs, "-b 1").unwrap_err().to_string();
        assert!(error.ends_with("allowed are -K -n -s -O -R -m -d --csum"), "{error}");
    }
}
