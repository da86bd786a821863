//! What judges the long trials tells of that which they are there for: each is shown what it must never find.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::sources::end;
use crate::client::{block, mounted};
use crate::inside::check::{Ground, run};
use crate::inside::leftovers::{self, pool};

cases! {
    "a volume in the pool that lvm does not know is told, and so is a transaction of its own" => pool_disagrees,
    "a file system that is frozen and a device that is suspended are told" => held_back,
}

async fn pool_disagrees(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 400)?;
    let volume = ground.volume_in("thin", "own", "known", 16, block()).await?;
    ensure!(pool::problems_now("own", 0).is_empty(), "{:?}", pool::problems_now("own", 0));
    let tell = |message: &str| run(&["dmsetup", "message", "own-quarry--thin-tpool", "0", message]);
    tell("create_thin 77")?;
    let told = pool::problems_now("own", 0);
    ensure!(told.len() == 1 && told[0].contains("77"), "{told:?}");
    tell("delete 77")?;
    let now = lvm_transaction()?;
    tell(&format!("set_transaction_id {now} {}", now + 1))?;
    let told = pool::problems_now("own", 0);
    ensure!(told.len() == 1 && told[0].contains("transaction"), "{told:?}");
    tell(&format!("set_transaction_id {} {now}", now + 1))?;
    ensure!(pool::problems_now("own", 0).is_empty(), "{:?}", pool::problems_now("own", 0));
    volume.remove().await?;
    end(group)
}

fn lvm_transaction() -> Result<u64> {
    let text = crate::inside::check::lvm(&["lvs", "--noheadings", "-o", "transaction_id", "own/quarry-thin"])?;
    Ok(text.trim().parse()?)
}

async fn held_back(ground: &Ground) -> Result<()> {
    let limit = Duration::from_secs(1);
    let volume = ground.volume("frozen", 16, mounted("ext4")).await?;
    volume.stage().await?;
    let folder = volume.publish("user").await?;
    ensure!(leftovers::takes_writes(&folder, limit).await && leftovers::suspended().await?.is_empty());
    let path = folder.to_string_lossy().into_owned();
    run(&["fsfreeze", "--freeze", &path])?;
    let took = leftovers::takes_writes(&folder, limit).await;
    run(&["fsfreeze", "--unfreeze", &path])?;
    ensure!(!took, "it is frozen, but took a write");
    ensure!(leftovers::takes_writes(&folder, limit).await, "it does not take writes again");
    volume.remove().await?;
    // The node would set a volume of its own going.
    let slice = ground.slice(8)?;
    let path = slice.path();
    run(&["dmsetup", "suspend", &path])?;
    let told = leftovers::suspended().await;
    run(&["dmsetup", "resume", &path])?;
    slice.pull()?;
    ensure!(told.as_ref().is_ok_and(|told| told.len() == 1), "{told:?}");
    Ok(())
}
