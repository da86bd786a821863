//! What both modes do to serve.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::csi::endpoint::once_free;
use crate::telemetry::http::{self, Pages};

/// How often the files of certificates are looked at.
pub(super) const CERTIFICATES_EVERY: Duration = Duration::from_secs(1);

/// Listens at an address; waits a moment for one that is held.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = once_free(|| TcpListener::bind(address), |error| error.kind() == ErrorKind::AddrInUse).await;
    bound.with_context(|| format!("could not listen on {address}"))
}

/// Serves what is told of the process until the stop.
pub(super) async fn serve_pages(address: SocketAddr, pages: Pages, stop: CancellationToken) -> anyhow::Result<()> {
    let serving = http::serve(listen(address).await?, pages, stop);
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, %address, "metrics and health are not served any more");
        }
    });
    Ok(())
}

/// Cancels the token at the first SIGTERM or SIGINT.
pub(super) fn end_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: no new calls are taken, running ones go on to their end");
        stop.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_held_for_a_moment_only_is_waited_for() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let held = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(holder);
        });
        assert_eq!(listen(address).await.unwrap().local_addr().unwrap(), address);
        held.await.unwrap();
    }
}
