//! What both modes do to serve.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry::http::{self, Pages};

/// How often the files of certificates are looked at.
pub(super) const CERTIFICATES_EVERY: Duration = Duration::from_secs(1);

/// Listens at an address.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
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
