//! Many clients at random on a few volumes. What each asked and was answered is kept, and judged at the end.

pub mod caller;
pub mod history;
pub mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use self::caller::{Caller, Subject};
use self::model::family::{SNAPSHOTS, SOURCES};
use self::model::{Call, TARGETS};
use crate::client::Client;
use crate::inside::Place;
use crate::inside::kind::{EXTENT, Kind};
use crate::inside::leftovers;

/// The copies that all begins with: of a snapshot in its own layout, of the volume in the other one.
const FIRST_COPIES: [usize; 2] = [0, 3];
/// How long all may take to be deleted at the end.
const END_LIMIT: Duration = Duration::from_mins(2);

/// What the races are told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Calls in all
    #[arg(long)]
    calls: u64,
    /// What the choices follow from
    #[arg(long)]
    seed: u64,
    /// Clients at once
    #[arg(long)]
    clients: u64,
    /// One volume of each
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
}

/// What came of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    pub calls: u64,
    /// How many calls there were of each kind with each answer.
    pub answers: BTreeMap<String, u64>,
    pub seconds: f64,
    /// The longest that one call took.
    pub slowest_seconds: f64,
    pub violations: Vec<String>,
}

/// Runs the clients, judges the answers, deletes everything and looks at what is left; prints the report.
pub async fn run(options: &Options) -> Result<()> {
    let client = Client::connect(&options.place.socket).await?;
    let subjects = options.kinds.iter().enumerate();
    let subjects =
        subjects.map(|(index, kind)| Subject::new(index, *kind, &options.place.kubelet)).collect::<Result<_>>()?;
    let caller = Arc::new(Caller::new(client, subjects));
    let begun = Instant::now();
    let mut violations = insist(&caller, first_calls).await;
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let random = fastrand::Rng::with_seed(options.seed.wrapping_add(number));
        clients.spawn(work(Arc::clone(&caller), options.calls / options.clients.max(1), random));
    }
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    let mut report = Report { seed: options.seed, seconds: begun.elapsed().as_secs_f64(), ..Report::default() };
    report.violations.append(&mut violations);
    if caller.delete_group().await != model::Answer::Done {
        report.violations.push(String::from("the group snapshot cannot be deleted at the end"));
    }
    report.violations.extend(insist(&caller, last_calls).await);
    caller.judge(&mut report);
    report.violations.extend(leftovers::emptied(&options.place.group, 0).await?);
    // The socket's connection, the runtime and the log; not one for each of thousands of calls.
    report.violations.extend(leftovers::open_files("quarry", 64)?);
    report.violations.extend(leftovers::suspended().await?);
    report.violations.extend(leftovers::metadata(&options.place.group).await?);
    report.violations.extend(leftovers::mounts_below(&options.place.kubelet)?);
    report.violations.extend(leftovers::files_in(&options.place.kubelet.join("target"))?);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn work(caller: Arc<Caller>, calls: u64, mut random: fastrand::Rng) {
    for _ in 0..calls {
        let subject = random.usize(..caller.subjects.len());
        let is_busy = match random.u8(..100) {
            0..3 => {
                caller.list().await;
                false
            }
            3..5 => {
                caller.capacity().await;
                false
            }
            5 => {
                caller.group().await;
                false
            }
            6 => {
                caller.delete_group().await;
                false
            }
            _ => {
                let call = choose(&caller.subjects[subject], &mut random);
                caller.call(subject, call).await == model::Answer::Refused(tonic::Code::Aborted)
            }
        };
        if is_busy {
            // Else nearly all calls would only be told to wait.
            tokio::time::sleep(Duration::from_millis(random.u64(100..2_000))).await;
        }
    }
}

fn choose(subject: &Subject, random: &mut fastrand::Rng) -> Call {
    let kind = subject.kind;
    if !kind.is_large() && random.u8(..100) < 45 {
        return choose_of_family(subject, random);
    }
    let target = random.usize(..TARGETS);
    let bytes = kind.least_bytes() + random.u64(..3) * EXTENT;
    match random.u8(..100) {
        0..16 => Call::Create { bytes, limit: if random.bool() { bytes } else { 0 } },
        16..24 => Call::Delete,
        24..40 => Call::Stage,
        40..47 => Call::Unstage,
        47..65 => Call::Publish { target, read_only: random.u8(..3) == 0 },
        65..77 => Call::Unpublish { target },
        77..82 => Call::Grow { bytes: bytes + random.u64(1..4) * EXTENT },
        82..86 => Call::GrowOnNode { target },
        86..92 => Call::Stats { target },
        92..96 => Call::Get,
        _ => Call::Validate,
    }
}

fn choose_of_family(subject: &Subject, random: &mut fastrand::Rng) -> Call {
    let (snapshot, target) = (random.usize(..SNAPSHOTS), random.usize(..TARGETS));
    // The last one is of the group snapshot, which holds thin volumes alone.
    let copy = random.usize(..SOURCES.len() - usize::from(!subject.kind.is_thin()));
    match random.u8(..100) {
        0..25 => Call::Write { target, number: subject.number() },
        25..40 => Call::Snapshot(snapshot),
        40..48 => Call::DeleteSnapshot(snapshot),
        48..66 => Call::Copy(copy),
        66..74 => Call::DeleteCopy(copy),
        _ => Call::Read(copy),
    }
}

/// What all calls begin with: everything that is made of a volume is there, and the volume was written to again. So each kind is
/// seen however the races go.
fn first_calls(subject: &Subject) -> Vec<Call> {
    let bytes = subject.kind.least_bytes();
    let mut calls = vec![Call::Create { bytes, limit: 0 }, Call::Stage, Call::Publish { target: 0, read_only: false }];
    if !subject.kind.is_large() {
        let write = || Call::Write { target: 0, number: subject.number() };
        calls.push(write());
        calls.extend((0..SNAPSHOTS).map(Call::Snapshot));
        calls.push(write());
        calls.extend(FIRST_COPIES.map(Call::Copy));
        calls.push(write());
        calls.extend(FIRST_COPIES.map(Call::Read));
    }
    calls
}

/// Takes everything away; what is in the copies is read before.
fn last_calls(subject: &Subject) -> Vec<Call> {
    let mut calls = Vec::new();
    if !subject.kind.is_large() {
        calls.extend((0..SOURCES.len()).flat_map(|copy| [Call::Read(copy), Call::DeleteCopy(copy)]));
        calls.extend((0..SNAPSHOTS).map(Call::DeleteSnapshot));
    }
    calls.extend((0..TARGETS).map(|target| Call::Unpublish { target }));
    calls.extend([Call::Unstage, Call::Delete]);
    calls
}

/// Makes calls about each volume one after the other, all volumes side by side; those that cannot be made are violations.
async fn insist(caller: &Arc<Caller>, calls: fn(&Subject) -> Vec<Call>) -> Vec<String> {
    let mut subjects = JoinSet::new();
    for subject in 0..caller.subjects.len() {
        let caller = Arc::clone(caller);
        subjects.spawn(async move {
            let mut violations = Vec::new();
            for call in calls(&caller.subjects[subject]) {
                let begun = Instant::now();
                while caller.call(subject, call).await == model::Answer::Refused(tonic::Code::Aborted) {
                    if begun.elapsed() > END_LIMIT {
                        violations.push(format!("{call:?} of {} never gets its turn", caller.subjects[subject].name));
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            violations
        });
    }
    subjects.join_all().await.concat()
}
