//! One request to one backend, outside the pools and the pipeline. No client made it and nobody is judged by it: it is for
//! `sekisho check --probe`, which asks what the operator wants to know.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::backend::BackendState;
use super::fleet::Servers;
use super::h2::Local;
use crate::config::{Backend, Service};

/// Asks one backend and reads its whole answer, within the service's own timeouts. The request's URI is a path. To be called
/// in a `LocalSet`.
///
/// # Errors
/// In words: the backend cannot be reached or proved, or gave no whole answer of at most `longest` bytes.
pub(crate) async fn ask(
    service: &Service,
    backend: &Backend,
    tls: Option<Arc<rustls::ClientConfig>>,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<Response<Bytes>, String> {
    let servers = Servers::alone(service);
    let place = service.backends.iter().position(|known| known == backend).unwrap_or_default();
    let state = BackendState::new(backend, &Rc::new(service.clone()), (&servers, place), tls, Rc::default());
    let state = state.map_err(|error| error.to_string())?;
    let late = |limit: Duration| move |_| format!("not within {} s", limit.as_secs());
    let stream = timeout(service.connect_timeout, state.stream()).await;
    let stream = TokioIo::new(stream.map_err(late(service.connect_timeout))?.map_err(|error| error.to_string())?);
    let exchanged = async {
        let broken = |error: hyper::Error| format!("no answer: {error}");
        let answer = if service.http2 {
            let (mut sender, connection) = http2::handshake(Local, stream).await.map_err(broken)?;
            drop(spawn_local(connection));
            sender.send_request(state.addressed(request)?).await
        } else {
            let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
            drop(spawn_local(connection));
            let mut request = request;
            request.headers_mut().insert(HOST, state.host.clone());
            sender.send_request(request).await
        };
        let (head, body) = answer.map_err(broken)?.into_parts();
        let body = Limited::new(body, longest).collect().await.map_err(|error| format!("no whole answer: {error}"))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    timeout(service.response_timeout, exchanged).await.map_err(late(service.response_timeout))?
}

impl BackendState {
    /// As HTTP/2 has it: `:scheme` and `:authority` before the path.
    pub(super) fn addressed(&self, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, String> {
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path);
        *request.uri_mut() = uri.build().map_err(|error| error.to_string())?;
        Ok(request)
    }
}
