//! When one's own certificate expires: for the metrics, and in the log when it is soon. Certificates are renewed weeks
//! earlier, so then something does not work that should.

use std::future::pending;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::InForce;

/// So long before the end it is told.
const SOON: Duration = Duration::from_hours(24);
/// How often it is looked at, and told.
const EVERY: Duration = Duration::from_hours(1);

/// When the certificate in force expires, seconds since 1970; `None` while there is none.
pub fn expires(material: &InForce) -> Option<u64> {
    let expires = material.borrow().as_ref()?.expires;
    expires.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Writes into the log when the certificate in force expires soon, until the stop.
pub async fn watch(mut material: InForce, stop: CancellationToken) {
    loop {
        let expires = material.borrow_and_update().as_ref().map(|material| material.expires);
        if let Some(left) = expires.and_then(|expires| left(expires, SystemTime::now())) {
            let hours = left.as_secs() / 3600;
            tracing::warn!(hours, "this process's certificate expires soon, or has expired, and was not renewed");
        }
        // A new one is looked at at once.
        let is_new = async {
            if material.changed().await.is_err() {
                // Nobody renews it any more.
                pending::<()>().await;
            }
        };
        if stop.run_until_cancelled(timeout(EVERY, is_new)).await.is_none() {
            return;
        }
    }
}

/// How long it is good for, if that is not long.
fn left(expires: SystemTime, now: SystemTime) -> Option<Duration> {
    let left = expires.duration_since(now).unwrap_or_default();
    (left < SOON).then_some(left)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watch_rests_also_when_nobody_renews_the_certificate_any_more() {
        let (_, material) = watch::channel(None);
        let stop = CancellationToken::new();
        let watching = tokio::spawn(super::watch(material, stop.clone()));
        // Paused time goes on only while everybody rests.
        tokio::time::sleep(EVERY * 2).await;
        stop.cancel();
        watching.await.unwrap();
    }

    #[test]
    fn a_certificate_that_ends_within_a_day_is_told() {
        let now = SystemTime::now();
        let (minute, almost) = (Duration::from_mins(1), Duration::from_mins(23 * 60 + 59));
        assert_eq!(left(now + SOON, now), None);
        assert_eq!(left(now + almost, now), Some(almost));
        assert_eq!(left(now - minute, now), Some(Duration::ZERO));
    }
}
