//! What a backup program asks goes through a controller to the node: a real one of each, with what they trust each other by.

use anyhow::Result;

use super::blocks;
use crate::inside::check::Ground;

cases! {
    "through a controller the blocks of a snapshot are the same, and go on from where they were cut off" => blocks_of,
}

async fn blocks_of(ground: &Ground) -> Result<()> {
    let controller = ground.put_controller_before().await?;
    blocks::rebuilt(ground).await?;
    blocks::resumed(ground).await?;
    drop(controller);
    // A node that no controller reaches any more.
    ground.crash().await
}
