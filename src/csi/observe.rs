//! The layer around every call: a span, a line in the log, a count in the metrics, and no error without words.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body::Frame;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::codegen::{BoxFuture, Bytes};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::method::Method;
use crate::error::code_name;
use crate::telemetry::Metrics;

/// Makes the layer; clones share the metrics and the numbering of calls.
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    metrics: Arc<Metrics>,
    calls: Arc<AtomicU64>,
}

/// Notes in the log which volume or snapshot the current call is about. Its messages carry secrets, its id does not.
pub fn subject(id: &str) {
    Span::current().record("subject", id);
}

impl ObserveLayer {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, calls: Arc::default() }
    }

    fn begin(&self, path: &str) -> Call {
        let method = Method::of_path(path);
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        // At error level the span is there whatever the log's level is, and a warning within has its context.
        let span = tracing::error_span!("call", method = method.name, number, subject = Empty);
        Call { method, span, metrics: Arc::clone(&self.metrics), started: Instant::now(), end: None }
    }
}

impl Layer<Routes> for ObserveLayer {
    type Service = Observe;

    fn layer(&self, inner: Routes) -> Observe {
        Observe { layer: self.clone(), inner }
    }
}

#[derive(Clone, Debug)]
pub struct Observe {
    layer: ObserveLayer,
    inner: Routes,
}

impl Service<Request<Body>> for Observe {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = self.layer.begin(request.uri().path());
        let answer = self.inner.call(request).instrument(call.span.clone());
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            // An error comes in the headers, without a body. Else the code comes in the trailers, after the body.
            call.look_at(&mut head.headers);
            let body = Body::new(ObservedBody { body, call });
            Ok(Response::from_parts(head, body))
        })
    }
}

/// A call under way. Dropped without an end, it was given up by its caller: the deadline drops the handler.
struct Call {
    method: Method,
    span: Span,
    metrics: Arc<Metrics>,
    started: Instant,
    end: Option<Status>,
}

impl Call {
    /// Takes the status from the headers if it is there, and gives an error words if it has none that say anything.
    fn look_at(&mut self, headers: &mut HeaderMap) {
        let Some(mut status) = Status::from_header_map(headers) else {
            return;
        };
        // Sidecars show the message to users, and the spec forbids an empty one.
        let words = match status.code() {
            // Nobody of ours says this: the call has no handler, or its whole service has none.
            Code::Unimplemented => Some(format!("{} is not offered by this driver", self.method.name)),
            code if code != Code::Ok && status.message().is_empty() => Some(code.description().to_owned()),
            _ => None,
        };
        if let Some(words) = words {
            // Instead of what tonic said.
            HeaderValue::from_str(&words).map(|value| headers.insert(Status::GRPC_MESSAGE, value)).ok();
            status = Status::new(status.code(), words);
        }
        self.end = Some(status);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let end = self.end.take().unwrap_or_else(|| {
            if std::thread::panicking() {
                Status::internal("the handler panicked")
            } else {
                Status::cancelled("the caller gave up")
            }
        });
        let code = code_name(end.code());
        self.metrics.csi_call(self.method.name, code, seconds);
        // To the millisecond, for people.
        let seconds = (seconds * 1000.0).round() / 1000.0;
        let message = end.message();
        self.span.in_scope(|| match (end.code(), self.method.mutates) {
            (Code::Ok, true) => tracing::info!(seconds, "done"),
            (Code::Ok, false) => tracing::debug!(seconds, "done"),
            _ => tracing::warn!(seconds, code, error = message, "failed"),
        });
    }
}

/// The body of an answer, watched to its end.
struct ObservedBody {
    body: Body,
    call: Call,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(context);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.call.look_at(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => this.call.end = Some(status.clone()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::v1::controller_server::{Controller, ControllerServer};

    /// Offers none of its calls.
    struct Nothing;

    impl Controller for Nothing {}

    #[tokio::test]
    async fn a_call_that_a_service_does_not_offer_is_refused_with_one_message() {
        let layer = ObserveLayer::new(Arc::new(Metrics::new()));
        let mut observed = layer.layer(Routes::new(ControllerServer::new(Nothing)));
        let empty = Body::new(String::from("\0\0\0\0\0"));
        let request = Request::builder().method("POST").uri("/csi.v1.Controller/CreateSnapshot").body(empty).unwrap();
        let answer = observed.call(request).await.unwrap();
        let messages: Vec<_> = answer.headers().get_all(Status::GRPC_MESSAGE).iter().collect();
        assert_eq!(messages, ["CreateSnapshot is not offered by this driver"]);
    }
}
