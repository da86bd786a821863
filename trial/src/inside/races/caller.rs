//! Calls the node, and keeps what was asked and answered for each volume. Snapshots and copies are in `family`.

mod family;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use quarry::csi::v1;
use tokio::sync::RwLock;
use tonic::{Code, Response, Status};

use crate::client::{self, Client, is_slow_disk, patiently};
use crate::inside::kind::{Kind, range, unsigned};
use crate::inside::races::Report;
use crate::inside::races::history::{Event, illegal};
use crate::inside::races::model::family::SOURCES;
use crate::inside::races::model::{Answer, Call, TARGETS};

/// A call that takes longer hangs.
const CALL_LIMIT: Duration = Duration::from_mins(3);

/// A volume that the clients fight over.
#[derive(Debug)]
pub struct Subject {
    pub name: String,
    pub kind: Kind,
    staging: PathBuf,
    targets: [PathBuf; TARGETS],
    events: Mutex<Vec<Event>>,
    /// Who writes to it, or reads a copy of it, has it alone: nobody takes that away meanwhile.
    use_of: RwLock<()>,
    numbers: AtomicU64,
}

impl Subject {
    /// With its paths made as kubelet makes them.
    pub fn new(index: usize, kind: Kind, kubelet: &Path) -> Result<Self> {
        let name = format!("race-{index}");
        let staging = kubelet.join("staging").join(&name);
        std::fs::create_dir_all(&staging)?;
        std::fs::create_dir_all(kubelet.join("target"))?;
        let targets = [0, 1].map(|target| kubelet.join("target").join(format!("{name}-{target}")));
        for copy in 0..SOURCES.len() {
            std::fs::create_dir_all(kubelet.join("staging").join(format!("{name}-c{copy}")))?;
        }
        let (events, use_of, numbers) = (Mutex::default(), RwLock::default(), AtomicU64::new(1));
        Ok(Self { name, kind, staging, targets, events, use_of, numbers })
    }

    /// A number that was not written yet.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn volume_id(&self) -> String {
        id(&self.name)
    }

    fn target(&self, target: usize) -> String {
        self.targets[target].to_string_lossy().into_owned()
    }

    fn staging(&self) -> String {
        self.staging.to_string_lossy().into_owned()
    }
}

/// What all clients share.
pub struct Caller {
    client: Client,
    pub subjects: Vec<Subject>,
    clock: AtomicU64,
    slowest: Mutex<Duration>,
    problems: Mutex<Vec<String>>,
}

impl Caller {
    pub fn new(client: Client, subjects: Vec<Subject>) -> Self {
        Self { client, subjects, clock: AtomicU64::new(0), slowest: Mutex::default(), problems: Mutex::default() }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// One call about one volume.
    pub async fn call(&self, subject: usize, call: Call) -> Answer {
        let subject = &self.subjects[subject];
        let (_alone, _among) = match call {
            Call::Write { .. } | Call::Read(_) => (Some(subject.use_of.write().await), None),
            Call::Unpublish { .. } | Call::Unstage | Call::Delete | Call::DeleteCopy(_) => {
                (None, Some(subject.use_of.read().await))
            }
            _ => (None, None),
        };
        let begin = self.tick();
        let answer = match self.limited(&subject.name, || self.send(subject, call)).await {
            Ok(answer) => answer,
            Err(status) => {
                self.note_unusual(&subject.name, call, &status);
                Answer::Refused(status.code())
            }
        };
        locked(&subject.events).push(Event { begin, end: self.tick(), call, answer });
        answer
    }

    /// A list of all volumes, which is one call about each.
    pub async fn list(&self) {
        let begin = self.tick();
        let list = || async { self.client.controller.clone().list_volumes(v1::ListVolumesRequest::default()).await };
        match self.limited("list", list).await {
            Err(status) => locked(&self.problems).push(format!("ListVolumes: {status}")),
            Ok(list) => {
                let end = self.tick();
                let entries = list.into_inner().entries;
                let volumes: Vec<v1::Volume> = entries.into_iter().filter_map(|entry| entry.volume).collect();
                for subject in &self.subjects {
                    let listed = volumes.iter().find(|volume| volume.volume_id == subject.volume_id());
                    let answer = Answer::Listed(listed.map(|volume| unsigned(volume.capacity_bytes)));
                    locked(&subject.events).push(Event { begin, end, call: Call::List, answer });
                }
            }
        }
    }

    /// The room there is, which is never refused.
    pub async fn capacity(&self) {
        let ask = || async { self.client.controller.clone().get_capacity(v1::GetCapacityRequest::default()).await };
        if let Err(status) = self.limited("capacity", ask).await {
            locked(&self.problems).push(format!("GetCapacity: {status}"));
        }
    }

    async fn limited<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let answered = patiently(CALL_LIMIT, is_slow_disk, call);
        let answer = tokio::time::timeout(CALL_LIMIT, answered).await.unwrap_or_else(|_| {
            locked(&self.problems).push(format!("a call about {what} did not end within {CALL_LIMIT:?}"));
            Err(Status::new(Code::DeadlineExceeded, "hangs"))
        });
        let mut slowest = locked(&self.slowest);
        *slowest = slowest.max(begun.elapsed());
        answer
    }

    /// The words of refusals that no state of a volume explains.
    fn note_unusual(&self, name: &str, call: Call, status: &Status) {
        let usual = [Code::Aborted, Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition];
        if !usual.contains(&status.code()) {
            locked(&self.problems).push(format!("{name}: {call:?}: {:?}: {}", status.code(), status.message()));
        }
    }

    async fn send(&self, subject: &Subject, call: Call) -> Result<Answer, Status> {
        let (mut controller, mut node) = (self.client.controller.clone(), self.client.node.clone());
        let (volume_id, kind) = (subject.volume_id(), subject.kind);
        match call {
            Call::Create { bytes, limit } => {
                let answer = controller.create_volume(kind.create(&subject.name, bytes, limit)).await?;
                Ok(bytes_of(answer.into_inner().volume))
            }
            Call::Delete => {
                done(controller.delete_volume(v1::DeleteVolumeRequest { volume_id, ..Default::default() })).await
            }
            Call::Stage => {
                done(node.node_stage_volume(client::stage(&volume_id, &subject.staging, kind.capability()))).await
            }
            Call::Unstage => {
                let staging_target_path = subject.staging();
                done(node.node_unstage_volume(v1::NodeUnstageVolumeRequest { volume_id, staging_target_path })).await
            }
            Call::Publish { target, read_only } => {
                let target = &subject.targets[target];
                let mut request = client::publish(&volume_id, &subject.staging, target, kind.capability());
                request.readonly = read_only;
                done(node.node_publish_volume(request)).await
            }
            Call::Unpublish { target } => {
                let target_path = subject.target(target);
                done(node.node_unpublish_volume(v1::NodeUnpublishVolumeRequest { volume_id, target_path })).await
            }
            Call::Grow { bytes } => {
                let capacity_range = range(bytes, 0);
                let request = v1::ControllerExpandVolumeRequest { volume_id, capacity_range, ..Default::default() };
                let answer = controller.controller_expand_volume(request).await?.into_inner();
                Ok(Answer::Bytes(unsigned(answer.capacity_bytes)))
            }
            Call::GrowOnNode { target } => {
                let volume_path = subject.target(target);
                let request = v1::NodeExpandVolumeRequest { volume_id, volume_path, ..Default::default() };
                let answer = node.node_expand_volume(request).await?.into_inner();
                Ok(Answer::Bytes(unsigned(answer.capacity_bytes)))
            }
            Call::Stats { target } => {
                let volume_path = subject.target(target);
                let request = v1::NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() };
                let answer = node.node_get_volume_stats(request).await?.into_inner();
                let bytes = answer.usage.iter().find(|usage| usage.unit() == v1::volume_usage::Unit::Bytes);
                Ok(Answer::Bytes(bytes.map_or(0, |usage| unsigned(usage.total))))
            }
            Call::Get => {
                let request = v1::ControllerGetVolumeRequest { volume_id };
                Ok(bytes_of(controller.controller_get_volume(request).await?.into_inner().volume))
            }
            Call::Validate => {
                let volume_capabilities = vec![kind.capability()];
                let request =
                    v1::ValidateVolumeCapabilitiesRequest { volume_id, volume_capabilities, ..Default::default() };
                done(controller.validate_volume_capabilities(request)).await
            }
            Call::List | Call::Group | Call::DeleteGroup => {
                Err(Status::new(Code::Unimplemented, "is a call about several volumes"))
            }
            Call::Write { target, number } => family::write(&subject.targets[target], kind, number).await,
            Call::Snapshot(_) | Call::DeleteSnapshot(_) | Call::Copy(_) | Call::DeleteCopy(_) | Call::Read(_) => {
                self.send_of_family(subject, call).await
            }
        }
    }

    /// Counts the answers and finds the illegal ones.
    pub fn judge(&self, report: &mut Report) {
        report.slowest_seconds = locked(&self.slowest).as_secs_f64();
        report.violations.append(&mut locked(&self.problems));
        for subject in &self.subjects {
            let events = locked(&subject.events);
            for event in events.iter() {
                let call = format!("{:?}", event.call);
                let call = call.split([' ', '{', '(']).next().unwrap_or_default();
                let answer = match event.answer {
                    Answer::Refused(code) => format!("{code:?}"),
                    _ => String::from("Ok"),
                };
                *report.answers.entry(format!("{call} {answer}")).or_default() += 1;
                report.calls += u64::from(event.call != Call::List);
            }
            let problems = illegal(subject.kind, &events);
            // One wrong answer makes many that follow look wrong.
            report.violations.extend(
                problems.into_iter().take(5).map(|problem| format!("{} ({:?}): {problem}", subject.name, subject.kind)),
            );
        }
    }
}

fn id(name: &str) -> String {
    format!("{}/{name}", crate::site::NODE_NAME)
}

fn bytes_of(volume: Option<v1::Volume>) -> Answer {
    Answer::Bytes(volume.map_or(0, |volume| unsigned(volume.capacity_bytes)))
}

async fn done<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<Answer, Status> {
    answer.await.map(|_| Answer::Done)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
