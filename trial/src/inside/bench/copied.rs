//! How fast a thick volume is restored, against `dd` of as many bytes between the same devices. The restore is counted from the
//! call to the answer: with the making of the volume, with what is found out about the source, and with the flush.

use std::time::Instant;

use anyhow::{Context, Result};
use quarry::host::kernel::Kernel as _;
use quarry::host::linux::Linux;

use super::Bench;
use super::calls::{in_class, staging_folder};
use super::compared::our_name;
use super::machine::{bare, settle, untimed};
use super::thin::{ROOM, fill};
use super::turns::in_turn;
use crate::bench::GROUP;
use crate::client;

impl Bench {
    pub(super) async fn copy_rate(&mut self) -> Result<()> {
        let (used, calls) = (self.repetitions.used, self.calls.clone());
        let bytes = used * ROOM;
        let id =
            calls.create_as(in_class(client::create("pvc-copied", bytes, client::mounted("ext4")), "thick")).await?;
        let folder = staging_folder("copied")?;
        calls.stage(&id, &folder).await?;
        // What the file system itself takes is used, too, and copied.
        let usage = Linux::new().usage(&folder).await?;
        let own = bytes - i64::try_from(usage.total_bytes - usage.used_bytes)?;
        fill(&folder.join("used"), used - own)?;
        let snapshot = calls.snapshot("snapshot-copied", &id).await?;
        let logical = snapshot.split_once('/').context("an id without a slash")?.1;
        untimed(&["lvcreate", "-y", "-n", "bare-copy", "-L", &format!("{bytes}b"), GROUP])?;
        let words = [
            "dd".to_owned(),
            format!("if=/dev/{GROUP}/{logical}"),
            format!("of=/dev/{GROUP}/bare-copy"),
            "bs=1M".to_owned(),
            format!("count={}", used >> 20),
            "iflag=direct".to_owned(),
            "oflag=direct".to_owned(),
            "conv=fsync".to_owned(),
        ];
        let ours = async |round| {
            let start = Instant::now();
            let copy = calls.copy(&format!("thick-{}", our_name(round)), bytes, "thick", (&snapshot, true)).await?;
            let took = start.elapsed();
            calls.delete(&copy).await?;
            settle().await?;
            Ok(took)
        };
        let theirs = async |_| bare(&words.each_ref().map(String::as_str));
        let (ours, theirs) = in_turn(self.repetitions.copies, ours, theirs).await?;
        self.figures.rate_ratio("copy_rate_ratio", &ours, &theirs);
        calls.unstage(&id, &folder).await?;
        calls.delete_snapshot(&snapshot).await?;
        untimed(&["lvremove", "-f", &format!("{GROUP}/bare-copy")])
    }
}
