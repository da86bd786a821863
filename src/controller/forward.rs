//! One call to one node: its deadline goes with it, its answer comes back as it is, and where no answer came, that is
//! said with the node's name.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::Uri;
use tonic::{Request, Response, Status};

use super::connection::Connection;
use crate::csi::meant_node::name_node;
use crate::csi::v1::controller_client::ControllerClient;
use crate::csi::v1::group_controller_client::GroupControllerClient;
use crate::csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use crate::error::Error;

/// The most that a node may answer, bytes: a list of its volumes, some hundred bytes each.
const ANSWER_LIMIT: usize = 64 << 20;

/// A client of a node's Controller service.
pub type Client = ControllerClient<Connection>;
/// A client of a node's `GroupController` service.
pub type GroupClient = GroupControllerClient<Connection>;
/// A client of a node's `SnapshotMetadata` service.
pub type MetadataClient = SnapshotMetadataClient<Connection>;

/// A client of one of a node's services.
pub trait ServiceClient {
    /// Over a connection to the node.
    fn over(connection: Connection) -> Self;
}

impl ServiceClient for Client {
    fn over(connection: Connection) -> Self {
        Self::with_origin(connection, origin()).max_decoding_message_size(ANSWER_LIMIT)
    }
}

impl ServiceClient for GroupClient {
    fn over(connection: Connection) -> Self {
        Self::with_origin(connection, origin()).max_decoding_message_size(ANSWER_LIMIT)
    }
}

impl ServiceClient for MetadataClient {
    fn over(connection: Connection) -> Self {
        Self::with_origin(connection, origin()).max_decoding_message_size(ANSWER_LIMIT)
    }
}

/// The connection is to the node already; its requests must name some host.
fn origin() -> Uri {
    Uri::from_static("http://node")
}

/// When the caller stops waiting.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// That of a request.
    pub fn of(metadata: &MetadataMap) -> Self {
        let timeout = metadata.get("grpc-timeout").and_then(|text| parse(text.to_str().ok()?));
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// For calls of the controller's own.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// What comes of it until then, or nothing.
    async fn within<F: Future>(self, work: F) -> Option<F::Output> {
        match self.0 {
            Some(end) => timeout_at(end, work).await.ok(),
            None => Some(work.await),
        }
    }

    fn hand_on<T>(self, request: &mut Request<T>) {
        if let Some(deadline) = self.0 {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol: at most eight digits and a letter.
fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Why a call brought nothing.
#[derive(Debug)]
pub enum Failure {
    /// The node said so; it passes through as it is.
    Said(Status),
    /// It never went out: there was no connection. Nothing was done.
    Unsent(String),
    /// Something on the way to it or back; whether the call was done stays open.
    Unreachable(String),
    /// The caller's own deadline was over first, so nothing is known of this node.
    Late(String),
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Said(status) => status,
            Failure::Unsent(problem) | Failure::Unreachable(problem) => Error::Unavailable { problem }.into(),
            Failure::Late(node) => Error::Late { problem: format!("node {node} had not answered") }.into(),
        }
    }
}

/// Makes the call to the node at the other end of the connection.
pub async fn forward<K, Q, A, C, F>(
    node: &str,
    connection: Connection,
    deadline: Deadline,
    message: Q,
    call: C,
) -> Result<A, Failure>
where
    K: ServiceClient,
    C: FnOnce(K, Request<Q>) -> F,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let mut request = Request::new(message);
    deadline.hand_on(&mut request);
    name_node(request.metadata_mut(), node).map_err(|error| Failure::Said(error.into()))?;
    match deadline.within(call(K::over(connection), request)).await {
        Some(answer) => answer.map(Response::into_inner).map_err(|status| failure(node, status)),
        None => Err(Failure::Late(node.to_owned())),
    }
}

/// What an error of a call to a node means.
pub(super) fn failure(node: &str, status: Status) -> Failure {
    let mut causes = Vec::new();
    let mut next = status.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    if causes.is_empty() {
        return Failure::Said(status);
    }
    let mut problem = format!("node {node} cannot be reached: {}", status.message());
    for words in causes.iter().map(ToString::to_string) {
        if !problem.ends_with(&words) {
            problem = format!("{problem}: {words}");
        }
    }
    if causes.iter().any(|error| error.is::<tonic::ConnectError>()) {
        return Failure::Unsent(problem);
    }
    Failure::Unreachable(problem)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("2H", Some(Duration::from_hours(2))),
            ("3M", Some(Duration::from_mins(3))),
            ("15S", Some(Duration::from_secs(15))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("123456789S", None),
            ("-1S", None),
            ("5ß", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_node_says_passes_through_and_what_it_did_not_say_is_unavailable() {
        let said = Status::from(failure("n1", Status::resource_exhausted("full")));
        assert_eq!((said.code(), said.message()), (Code::ResourceExhausted, "full"));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        let told = Status::from(failure("n1", broken));
        assert_eq!(told.code(), Code::Unavailable);
        assert!(told.message().contains("node n1") && told.message().contains("reset by peer"), "{told:?}");
    }
}
