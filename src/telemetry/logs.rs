//! Lines on standard error: JSON in a cluster, text on a terminal.

use std::io::IsTerminal;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::flags::LogFormat;

/// Directives such as `info` or `quarry::lvm=debug`; the notation is that of `RUST_LOG`.
pub const VARIABLE: &str = "QUARRY_LOG";
const DEFAULT: &str = "info";

/// Libraries that see requests as they come over the wire, secrets included. At trace level they tell of every frame.
/// Today they leave the data out, but that is theirs to change with any release: no directive turns it on.
const WIRE: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot read the log directives {directives:?}")]
    Directives {
        directives: String,
        #[source]
        source: ParseError,
    },
    #[error("cannot start the log")]
    Start(#[from] TryInitError),
}

/// Starts the log of this process, at the level that [`VARIABLE`] says.
pub fn start(format: LogFormat) -> Result<(), LogError> {
    let directives = std::env::var(VARIABLE).unwrap_or_default();
    subscriber(format, &directives, std::io::stderr)?.try_init()?;
    Ok(())
}

/// What [`start`] installs, for any writer. Empty directives mean the default.
pub fn subscriber<W>(
    format: LogFormat,
    directives: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + 'static, LogError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let directives = match directives.trim() {
        "" => DEFAULT,
        given => given,
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|source| LogError::Directives { directives: directives.to_owned(), source })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        // The list of spans holds the call with its number even where a span within the call is the current one.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let filter = filter.and(filter_fn(is_not_of_the_wire));
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

fn is_not_of_the_wire(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::DEBUG || !WIRE.contains(&library)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat, directives: &str, events: impl Fn()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, directives, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_holds_the_event_and_its_spans() {
        let line = log(LogFormat::Json, "", || {
            let _call = tracing::info_span!("call", number = 7).entered();
            tracing::info!(volume = "a", "made");
            tracing::debug!("below the default level");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "made");
        assert_eq!(line["volume"], "a");
        assert_eq!(line["spans"][0]["number"], 7);
    }

    #[test]
    fn no_directive_turns_the_trace_of_the_wire_on() {
        let lines = log(LogFormat::Text, "trace,h2=trace,h2::codec=trace", || {
            tracing::trace!(target: "h2::codec::framed_read", "frame");
            tracing::trace!(target: "tonic::codec", "message");
            tracing::debug!(target: "h2", "connection");
            tracing::trace!(target: "h2o", "namesake");
        });
        assert!(!lines.contains("frame"), "{lines}");
        assert!(!lines.contains("message"), "{lines}");
        assert!(lines.contains("connection") && lines.contains("namesake"), "{lines}");
    }

    #[test]
    fn directives_that_cannot_be_read_are_an_error() {
        let refused = subscriber(LogFormat::Json, "quarry=loud", std::io::sink);
        assert!(matches!(refused, Err(LogError::Directives { .. })));
    }
}
