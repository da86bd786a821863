//! `/metrics` for Prometheus and `/healthz` for the kubelet.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::brief::Brief;
use super::{Gauges, Metrics};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prometheus gives up after 10 s by default and would then lose the counters as well.
const MEASURING: Duration = Duration::from_secs(5);

/// What the server asks the driver.
#[tonic::async_trait]
pub trait Source: Send + Sync + 'static {
    /// Measures what the gauges show; called once per scrape.
    async fn gauges(&self) -> Gauges;

    /// What a person should know although the driver works on. Not async on purpose: it must not wait for LVM, for a
    /// restart makes no disk faster.
    fn warning(&self) -> Option<String>;
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    source: Arc<dyn Source>,
}

/// What is served.
pub type Pages = Router;

/// `/metrics` and `/healthz`.
pub fn everything(metrics: Arc<Metrics>, source: Arc<dyn Source>) -> Pages {
    let measured = Router::new().route("/metrics", get(show_metrics));
    measured.with_state(Shared { metrics, source: Arc::clone(&source) }).merge(health(source))
}

/// `/healthz` alone.
pub fn health(source: Arc<dyn Source>) -> Pages {
    Router::new().route("/healthz", get(show_health)).with_state(source)
}

/// Serves on `listener` until the stop: one request a connection, so that none has to stay.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> io::Result<()> {
    let pages = pages.layer(map_response(async |answer: Response| ([(CONNECTION, "close")], answer)));
    let serving = axum::serve(Brief::new(listener), pages);
    // Not graceful: a scrape is worth no delay of the end.
    tokio::select! {
        served = async { serving.await } => served,
        () = stop.cancelled() => Ok(()),
    }
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    let gauges = tokio::time::timeout(MEASURING, shared.source.gauges()).await.unwrap_or_else(|_| {
        tracing::warn!("measuring takes too long: the metrics go out without gauges");
        Gauges::default()
    });
    match shared.metrics.encode(&gauges) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whoever answers is healthy. A warning changes nothing of that: the orchestrator would end a driver that works, to
/// start one that may not.
async fn show_health(State(source): State<Arc<dyn Source>>) -> String {
    source.warning().map_or_else(|| String::from("ok"), |warning| format!("ok, but {warning}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;

    /// A driver with something to tell, or nothing.
    #[derive(Clone, Copy, PartialEq)]
    enum Driver {
        Sound,
        Warning,
        Hanging,
    }

    #[tonic::async_trait]
    impl Source for Driver {
        async fn gauges(&self) -> Gauges {
            if *self == Self::Hanging {
                std::future::pending::<()>().await;
            }
            Gauges { wipes_pending: Some(5), ..Gauges::default() }
        }

        fn warning(&self) -> Option<String> {
            (*self == Self::Warning).then(|| String::from("the classes file is refused"))
        }
    }

    async fn answer(driver: Driver, path: &str) -> String {
        let metrics = Arc::new(Metrics::new());
        metrics.command("lvs");
        answer_of(everything(metrics, Arc::new(driver)), path).await
    }

    async fn answer_of(pages: Pages, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, pages, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let _idle = TcpStream::connect(address).await.unwrap();
        stop.cancel();
        serving.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_hold_counters_and_fresh_gauges() {
        let answer = answer(Driver::Sound, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains(OPEN_METRICS), "{answer}");
        assert!(answer.contains("quarry_wipes_pending 5\n"), "{answer}");
        assert!(answer.contains(r#"quarry_commands_total{program="lvs"} 1"#), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_come_without_gauges_when_measuring_hangs() {
        let answer = answer(Driver::Hanging, "/metrics").await;
        assert!(answer.contains(r#"quarry_commands_total{program="lvs"} 1"#), "{answer}");
        assert!(!answer.contains("quarry_wipes_pending"), "{answer}");
    }

    #[tokio::test]
    async fn health_is_ok_and_says_what_a_person_should_know() {
        let sound = answer(Driver::Sound, "/healthz").await;
        assert!(sound.starts_with("HTTP/1.1 200 OK") && sound.ends_with("\r\n\r\nok"), "{sound}");
        let hanging = answer(Driver::Hanging, "/healthz").await;
        assert!(hanging.ends_with("\r\n\r\nok"), "{hanging}");
        let warning = answer(Driver::Warning, "/healthz").await;
        assert!(warning.starts_with("HTTP/1.1 200 OK"), "{warning}");
        assert!(warning.ends_with("\r\n\r\nok, but the classes file is refused"), "{warning}");
    }

    #[tokio::test]
    async fn those_who_connect_and_say_nothing_keep_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, health(Arc::new(Driver::Sound)), CancellationToken::new()));
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        // The first had to go.
        assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_may_take_his_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut slow = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(serve(listener, health(Arc::new(Driver::Sound)), CancellationToken::new()));
        let begun = Instant::now();
        while slow.write_all(b"G").await.is_ok() && begun.elapsed() < Duration::from_mins(1) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn health_is_served_without_metrics_too() {
        let answer = answer_of(health(Arc::new(Driver::Sound)), "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nok"), "{answer}");
        let answer = answer_of(health(Arc::new(Driver::Sound)), "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}
