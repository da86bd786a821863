//! Clients name the server in `:authority`, which says nothing on a unix socket, so each library sends something else.
//! Called by a client of our own, since Rust's refuse to send what others do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{Bench, LONG};

/// Kinds of frames, RFC 9113.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;

const END_OF_STREAM: u8 = 1;
const END_OF_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

async fn connect(bench: &Bench) -> UnixStream {
    let mut connection = UnixStream::connect(bench.socket()).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    connection.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    connection
}

/// Calls `GetPluginInfo` with an empty message; answers with the kind of the first frame that comes for it.
async fn call(connection: &mut UnixStream, stream: u8, authority: Option<&str>) -> u8 {
    // RFC 7541: the entries ":method: POST" and ":scheme: http", the names ":path" and ":authority", any other name.
    let mut headers = [&[0x83, 0x86, 4], &*text("/csi.v1.Identity/GetPluginInfo")].concat();
    headers.extend(authority.iter().flat_map(|authority| [vec![1], text(authority)].concat()));
    headers.extend([&[0], &*text("content-type"), &*text("application/grpc")].concat());
    headers.extend([&[0], &*text("te"), &*text("trailers")].concat());
    connection.write_all(&frame(HEADERS, END_OF_HEADERS, stream, &headers)).await.unwrap();
    connection.write_all(&frame(DATA, END_OF_STREAM, stream, &[0; 5])).await.unwrap();
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        connection.read_exact(&mut payload).await.unwrap();
        if head[8] == stream && head[3] != DATA {
            return head[3];
        }
    }
}

#[tokio::test]
async fn a_client_is_served_whatever_host_it_names() {
    let bench = Bench::start(LONG).await;
    let names = [Some("localhost"), Some("csi.sock"), Some("host.example:80"), Some("[::1]"), None];
    for authority in names {
        assert_eq!(call(&mut connect(&bench).await, 1, authority).await, HEADERS, "{authority:?}");
    }
    bench.await_calls("GetPluginInfo", "OK", 5).await;
}

/// The library (h2) refuses what is no host, before anything of ours is asked; should it ever serve such clients, this
/// fails, and docs/operations.md need not mention them any more. Nobody else on the connection is disturbed.
#[tokio::test]
async fn a_client_that_names_a_path_is_refused_alone() {
    let bench = Bench::start(LONG).await;
    for authority in ["%2Frun%2Fquarry%2Fcsi.sock", "/run/quarry/csi.sock", ""] {
        let mut connection = connect(&bench).await;
        assert_eq!(call(&mut connection, 1, Some(authority)).await, RESET, "{authority:?}");
        assert_eq!(call(&mut connection, 3, Some("localhost")).await, HEADERS, "after {authority:?}");
    }
    bench.await_calls("GetPluginInfo", "OK", 3).await;
}
