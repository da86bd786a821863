//! A client of the API server that gives up when that does not answer, and says so: a request that hangs would neither
//! fail nor be tried again.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

/// How long the API server may take to begin an answer. A watch may then last as long as it likes.
const ANSWERING: Duration = Duration::from_secs(15);
/// How long it may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long it may say nothing in the middle of an answer; watches that are alive end or speak earlier.
const SILENCE: Duration = Duration::from_mins(6);

/// A client of the cluster that this process runs in, or that its kubeconfig names.
pub async fn of_this_cluster() -> anyhow::Result<Client> {
    Ok(patient(Config::infer().await?)?)
}

fn patient(mut config: Config) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECTING);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWERING)).build())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;
    use kube::api::WatchParams;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn server() -> (TcpListener, Api<Secret>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let client = patient(Config::new(address.parse().unwrap())).unwrap();
        (listener, Api::namespaced(client, "quarry"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_told_in_time() {
        let (_silent, secrets) = server().await;
        let begun = Instant::now();
        let error = secrets.get("one").await.unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
        assert!(begun.elapsed() < ANSWERING + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_lasts_although_little_happens() {
        let (listener, secrets) = server().await;
        let pause = Duration::from_mins(5);
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").await.unwrap();
            for _ in 0..3 {
                sleep(pause).await;
                let secret = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}}"#;
                let event = format!("{{\"type\": \"MODIFIED\", \"object\": {secret}}}\n");
                stream.write_all(event.as_bytes()).await.unwrap();
            }
        };
        let watching = async {
            let events = secrets.watch(&WatchParams::default(), "0").await.unwrap();
            events.try_fold(0, async |count, _| Ok(count + 1)).await.unwrap()
        };
        let ((), events) = tokio::join!(serving, watching);
        assert_eq!(events, 3);
    }
}
