//! The work that the end of the power cuts off: several clients, each with a few volumes of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::client::PAUSE;
use crate::inside::Place;
use crate::inside::kind::Kind;
use crate::inside::power::caller::{Caller, asks_for_patience};
use crate::inside::power::churn;
use crate::inside::power::journal::Journal;
use crate::inside::power::ledger::{Answer, Call, Content, Existence, Volume, member};
use crate::inside::power::room_watch::RoomWatch;

/// Most records that a volume gets.
const RECORDS: usize = 400;
const REPORT_PAUSE: Duration = Duration::from_millis(50);
/// Which of a client's volumes is a large one, and which may be a copy of that.
const LARGE: usize = 2;
const COPY_OF_LARGE: usize = 1;
/// Most that a volume grows beyond its first size, extents.
const GROWTH: u64 = 8;

/// What the workload is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The journal
    #[arg(long)]
    log: PathBuf,
    /// What the choices follow from
    #[arg(long)]
    seed: u64,
    /// Clients at once
    #[arg(long, default_value_t = 4)]
    clients: u64,
    /// Kinds of volumes; the first clients have the first ones more often
    #[arg(long, value_delimiter = ',', default_values = ["ext4", "thin-ext4", "block", "thin-block", "xfs", "btrfs"])]
    kinds: Vec<Kind>,
    /// Give volumes up soon and make copies in their places
    #[arg(long)]
    copies: bool,
}

/// Works without end.
pub async fn run(options: &Options) -> Result<()> {
    let journal = Arc::new(Journal::open(&options.log)?);
    tokio::spawn(report(Arc::clone(&journal)));
    let client = Client::connect(&options.place.socket).await?;
    let caller = Caller::new(client, journal, options.place.kubelet.clone());
    let room = Arc::new(RoomWatch::new(&options.place.group));
    let mut clients = JoinSet::new();
    let (watch, journal) = (Arc::clone(&room), Arc::clone(&caller.journal));
    clients.spawn(async move { watch.watch(&journal).await });
    for number in 0..options.clients {
        let random = fastrand::Rng::with_seed(options.seed.wrapping_add(number));
        let names = (0..3).map(|volume| format!("v{number}-{volume}")).collect();
        let snapshots = (0..2).map(|snapshot| format!("s{number}-{snapshot}")).collect();
        // One large volume for each client, and one copy of it: xfs for some, btrfs for others.
        let (large, small): (Vec<Kind>, Vec<Kind>) = options.kinds.iter().partition(|kind| kind.is_large());
        let large = large.get(usize::try_from(number)? % large.len().max(1)).copied();
        let (caller, room, group) = (caller.clone(), Arc::clone(&room), format!("g{number}"));
        let copies = options.copies;
        let worker = Worker { caller, room, random, names, snapshots, group, small, large, copies };
        clients.spawn(worker.work());
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

/// Says all the time how much of the journal must be there after the cut, by another way than the journal's own.
async fn report(journal: Arc<Journal>) -> Result<()> {
    loop {
        println!("{}", journal.safe_bytes()?);
        tokio::time::sleep(REPORT_PAUSE).await;
    }
}

struct Worker {
    caller: Caller,
    room: Arc<RoomWatch>,
    random: fastrand::Rng,
    names: Vec<String>,
    snapshots: Vec<String>,
    /// A group snapshot.
    group: String,
    small: Vec<Kind>,
    large: Option<Kind>,
    copies: bool,
}

impl Worker {
    async fn work(mut self) -> Result<()> {
        loop {
            // What was not answered comes first: what it is about must stay as it is until then.
            if let Some((name, call)) = self.unanswered() {
                self.call(&name, &call).await?;
                continue;
            }
            let roll = self.random.u8(..100);
            if roll < 8 {
                if let Some(call) = self.choose_for_group() {
                    let name = self.group.clone();
                    self.call(&name, &call).await?;
                }
                continue;
            }
            if roll < 25 {
                let name = self.snapshots[self.random.usize(..self.snapshots.len())].clone();
                if let Some(call) = self.choose_for_snapshot(&name) {
                    self.call(&name, &call).await?;
                }
                continue;
            }
            let index = self.random.usize(..self.names.len());
            let name = self.names[index].clone();
            let volume = self.caller.journal.volume(&name);
            match self.choose(index, &volume) {
                Step::Write(count) => {
                    self.room.room().await;
                    self.caller.write(&name, &volume, count, &mut self.random)?;
                }
                Step::Churn => {
                    // Not more than there is room for, so not by what was seen a while ago.
                    self.room.look(&self.caller.journal).await?;
                    self.room.room().await;
                    self.churn(&name, &volume)?;
                }
                Step::Call(call) => self.call(&name, &call).await?,
                Step::GrowWhileWriting(call) => self.grow_while_writing(&name, &volume, &call).await?,
            }
        }
    }

    async fn call(&self, name: &str, call: &Call) -> Result<()> {
        let answer = self.caller.call(name, call).await?;
        if matches!(&answer, Answer::Refused { code, .. } if asks_for_patience(code)) {
            tokio::time::sleep(PAUSE).await;
        }
        let is_repeated = !matches!(answer, Answer::Refused { .. }) && fastrand::u8(..10) == 0;
        if is_repeated {
            // A caller that missed the answer asks again.
            self.caller.call(name, call).await?;
        }
        Ok(())
    }

    fn unanswered(&self) -> Option<(String, Call)> {
        self.names.iter().chain(&self.snapshots).chain([&self.group]).find_map(|name| {
            let (call, _) = self.caller.journal.volume(name).pending?;
            Some((name.clone(), call))
        })
    }

    /// Snapshots are made of volumes that are in use, and deleted.
    fn choose_for_snapshot(&mut self, name: &str) -> Option<Call> {
        if self.caller.journal.volume(name).existence == Existence::Present {
            return (self.random.u8(..6) == 0).then_some(Call::Delete);
        }
        let of = self.names[self.random.usize(..self.names.len())].clone();
        let volume = self.caller.journal.volume(&of);
        volume.published.then_some(Call::Snapshot { of })
    }

    /// A group snapshot is of all thin volumes that hold something.
    fn choose_for_group(&mut self) -> Option<Call> {
        if self.caller.journal.volume(&self.group).existence == Existence::Present {
            return (self.random.u8(..3) == 0).then_some(Call::Delete);
        }
        let is_thin = |name: &&String| {
            let volume = self.caller.journal.volume(name);
            let is_used = volume.content != Content::Nothing;
            volume.existence == Existence::Present && is_used && volume.kind.is_some_and(Kind::is_thin)
        };
        let of: Vec<String> = self.names.iter().filter(is_thin).cloned().collect();
        (!of.is_empty()).then_some(Call::SnapshotGroup { of })
    }

    /// A copy of a volume in use, or of a snapshot: in its own layout or in the other, sometimes larger. A large one has a place
    /// of its own.
    fn choose_copy(&mut self, index: usize) -> Option<Call> {
        let of_group = self.caller.journal.volume(&self.group).members;
        let of_group = of_group.iter().map(|of| member(&self.group, of));
        let all = self.names.iter().chain(&self.snapshots).cloned().chain(of_group);
        let sources = all.map(|name| (self.caller.journal.volume(&name), name)).filter(|(source, _)| {
            let is_there = source.published || source.snapshot_of.is_some() && source.existence == Existence::Present;
            is_there && source.kind.is_some_and(|kind| !kind.is_large() || index == COPY_OF_LARGE)
        });
        let sources: Vec<(Volume, String)> = sources.collect();
        let (source, from) = self.random.choice(&sources)?;
        let kind = source.kind?.copies()[self.random.usize(..2)];
        let more = if self.random.bool() { 0 } else { self.random.u64(..(8 << 20)) };
        Some(Call::Copy { from: from.clone(), kind, bytes: source.bytes + more })
    }

    /// Whether a volume is held by its snapshots: thick ones are neither grown nor deleted while there are any.
    fn is_held(&self, name: &str, volume: &Volume) -> bool {
        let is_of_it = |snapshot: &String| self.caller.journal.volume(snapshot).snapshot_of.as_deref() == Some(name);
        !volume.kind.is_some_and(Kind::is_thin) && self.snapshots.iter().any(is_of_it)
    }

    fn churn(&mut self, name: &str, volume: &Volume) -> Result<()> {
        let Some(kind) = volume.kind else { return Ok(()) };
        let target = self.caller.target(name);
        tokio::task::block_in_place(|| churn::write(kind, &target, volume.bytes, &mut self.random))
    }

    async fn grow_while_writing(&mut self, name: &str, volume: &Volume, call: &Call) -> Result<()> {
        let (caller, owner) = (self.caller.clone(), name.to_owned());
        let call = call.clone();
        let growing = tokio::spawn(async move { caller.call(&owner, &call).await });
        let mut now = volume.clone();
        while !growing.is_finished() && now.records.len() < RECORDS {
            self.room.room().await;
            self.caller.write(name, &now, 2, &mut self.random)?;
            now.records = self.caller.journal.volume(name).records;
        }
        let is_grown = matches!(growing.await??, Answer::Bytes(_));
        if is_grown && volume.kind.is_some_and(|kind| !kind.is_block()) {
            self.caller.call(name, &Call::GrowOnNode).await?;
        }
        Ok(())
    }

    fn choose(&mut self, index: usize, volume: &Volume) -> Step {
        if volume.existence == Existence::Absent {
            if index != LARGE
                && (self.random.bool() || self.copies)
                && let Some(copy) = self.choose_copy(index)
            {
                return Step::Call(copy);
            }
            let kind = match self.large {
                Some(large) if index == LARGE || self.small.is_empty() => large,
                _ => self.small[self.random.usize(..self.small.len())],
            };
            let bytes = kind.least_bytes() + self.random.u64(..(16 << 20));
            return Step::Call(Call::Create { kind, bytes });
        }
        let is_held = self.is_held(&self.names[index], volume);
        let is_given_up = self.copies && index != LARGE && volume.content == Content::Used && !is_held;
        if is_given_up && self.random.u8(..100) < 70 {
            return Step::Call(match (volume.staged, volume.published) {
                (_, true) => Call::Unpublish,
                (true, false) => Call::Unstage,
                (false, false) => Call::Delete,
            });
        }
        let roll = self.random.u8(..100);
        let can_grow = !is_held
            && volume.kind.is_some_and(|kind| {
                volume.bytes < kind.least_bytes() + (16 << 20) + GROWTH * crate::inside::kind::EXTENT
            });
        let grow = Call::Grow { bytes: volume.bytes + self.random.u64(1..(12 << 20)) };
        match (volume.staged, volume.published) {
            (false, _) => Step::Call(match roll {
                0..65 => Call::Stage,
                65..80 if can_grow => grow,
                _ if is_held => Call::Stage,
                _ => Call::Delete,
            }),
            (true, false) => Step::Call(match roll {
                0..70 => Call::Publish,
                70..80 if can_grow => grow,
                _ => Call::Unstage,
            }),
            // Its snapshots are to live until their room has grown.
            (true, true) if is_held => match roll {
                0..75 => Step::Churn,
                75..90 if volume.records.len() < RECORDS => Step::Write(self.random.usize(1..8)),
                _ => Step::Call(Call::Unpublish),
            },
            (true, true) => match roll {
                0..65 if volume.records.len() < RECORDS => Step::Write(self.random.usize(1..8)),
                65..78 if can_grow => Step::GrowWhileWriting(grow),
                _ => Step::Call(Call::Unpublish),
            },
        }
    }
}

enum Step {
    Call(Call),
    Write(usize),
    /// Fills the room of its snapshots.
    Churn,
    GrowWhileWriting(Call),
}
