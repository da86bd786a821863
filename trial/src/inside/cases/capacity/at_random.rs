//! Random groups, random classes, random things in them: in every such state of real LVM the capacity is exact, with thick
//! volumes, pools, snapshots, reserves, promises beyond what there is, and what an administrator made mixed.

mod state;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{OutOfRange, ResourceExhausted};

use self::state::State;
use super::super::capacity_of;
use super::super::sources::{of_snapshot, request};
use crate::client::block;
use crate::inside::check::{Ground, MIB, Volume, answered, eventually, refused};

/// Bytes of the largest piece of a pool: what is smaller is counted as a whole piece, and grows by less than is counted.
const LARGEST_PIECE: i64 = 16 * MIB;

/// How much is tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many groups are made
    #[arg(long, default_value_t = 20)]
    pub groups: u64,
    /// States of each group in which all its classes are tried
    #[arg(long, default_value_t = 3)]
    pub states: u64,
    /// What all choices follow from; each further group has the next one
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    /// Capacities that were taken up whole, one extent more refused before.
    pub taken: u64,
    /// Capacities of nothing, one extent refused.
    pub nothing: u64,
    /// Volumes made of a snapshot, as large as the capacity.
    pub restored: u64,
    /// Volumes grown by the capacity.
    pub grown: u64,
}

/// Tries it; an error names the seed of the group, and what was done in it.
pub async fn run(ground: &Ground, options: &Options) -> Result<Tried> {
    let mut tried = Tried::default();
    for seed in (options.seed..).take(usize::try_from(options.groups)?) {
        let mut state = State::make(ground, seed).await.with_context(|| format!("seed {seed}"))?;
        for _ in 0..options.states {
            let one = one_state(ground, &mut state, &mut tried).await;
            one.with_context(|| format!("seed {seed}; {}", state.story()))?;
        }
        state.end().await?;
    }
    Ok(tried)
}

async fn one_state<'g>(ground: &'g Ground, state: &mut State<'g>, tried: &mut Tried) -> Result<()> {
    for _ in 0..state.random.u8(3..8) {
        state.change(ground).await?;
    }
    state.settled().await?;
    for class in State::classes() {
        exact(ground, state, class, tried).await.with_context(|| format!("class {class}"))?;
    }
    Ok(())
}

/// The largest volume of the class can be made, in one of the ways there are, and one of an extent more cannot.
async fn exact(ground: &Ground, state: &mut State<'_>, class: &str, tried: &mut Tried) -> Result<()> {
    let extent = state.extent;
    let (available, most) = capacity_of(ground, class).await?;
    state.note(format!("{class} has {most}"));
    ensure!(available == most, "available are {available}, for one volume {most}");
    let mut controller = ground.client().controller;
    for bytes in [most + 1, most + extent] {
        let answer = controller.create_volume(ground.request(class, "too-much", bytes, block())).await;
        refused(answer, ResourceExhausted, &["own"]).with_context(|| format!("{bytes} bytes, capacity {most}"))?;
    }
    if most == 0 {
        tried.nothing += 1;
        return Ok(());
    }
    let snapshot = state.snapshot_for(class, most);
    let volume = match (state.random.u8(..4), snapshot) {
        (0 | 1, Some(snapshot)) => {
            let of = |bytes| request(ground, class, of_snapshot(&snapshot), bytes, block());
            refused(controller.create_volume(of(most + extent)).await, ResourceExhausted, &["own"])
                .context("a volume of a snapshot, an extent too large")?;
            tried.restored += 1;
            ground.volume_from(of(most), "own").await.context("a volume of a snapshot")?
        }
        (2, _) => grown(ground, class, (most, extent), tried).await?,
        _ => ground.volume_from(ground.request(class, &ground.name("largest"), most, block()), "own").await?,
    };
    let size = volume.size().await?;
    ensure!(size == most, "the largest volume has {size} bytes, capacity was {most}");
    ensure!(capacity_of(ground, class).await? == (0, 0), "something is left beside the largest volume");
    refused(
        controller.create_volume(ground.request(class, "too-much", 1, block())).await,
        ResourceExhausted,
        &["own"],
    )?;
    tried.taken += 1;
    volume.delete().await?;
    volume.gone().await?;
    eventually("the room is back", || async { Ok(capacity_of(ground, class).await? == (most, most)) }).await
}

/// A volume that was grown to the capacity.
async fn grown<'g>(
    ground: &'g Ground,
    class: &str,
    (most, extent): (i64, i64),
    tried: &mut Tried,
) -> Result<Volume<'g>> {
    let small = most.min(LARGEST_PIECE);
    let volume = ground.volume_from(ground.request(class, &ground.name("grown"), small, block()), "own").await?;
    let (_, more) = capacity_of(ground, class).await?;
    let too_much = v1::ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(v1::CapacityRange { required_bytes: volume.bytes + more + extent, limit_bytes: 0 }),
        ..Default::default()
    };
    let mut controller = ground.client().controller;
    refused(controller.controller_expand_volume(too_much.clone()).await, OutOfRange, &["own"])
        .context("growth, an extent too large")?;
    let range = v1::CapacityRange { required_bytes: volume.bytes + more, limit_bytes: 0 };
    let exactly = v1::ControllerExpandVolumeRequest { capacity_range: Some(range), ..too_much };
    answered(controller.controller_expand_volume(exactly).await).context("growth by the capacity")?;
    tried.grown += 1;
    Ok(volume)
}
