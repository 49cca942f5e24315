//! The public keys of `Sekisho-Identity`, for backends, on a socket of their own: no page of the admin listener is there,
//! and nobody needs a certificate (C16).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use super::{JWKS_PATH, JWKS_TYPE, page};

/// From accept to the answer's end: the page is small, and a backend keeps it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Connections at once. More wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Serves until dropped.
pub async fn serve(listener: TcpListener, jwks: Bytes) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a backend that asks for keys");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let jwks = jwks.clone();
        spawn_local(async move {
            let _place = place;
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response = answer(&request, &jwks);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(DEADLINE)
                .keep_alive(false)
                .max_buf_size(8 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(DEADLINE, served).await;
        });
    }
}

fn answer<B>(request: &Request<B>, jwks: &Bytes) -> Response<Full<Bytes>> {
    if request.uri().path() != JWKS_PATH {
        page(StatusCode::NOT_FOUND, "text/plain", "there is nothing here\n")
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n")
    } else {
        page(StatusCode::OK, JWKS_TYPE, jwks.clone())
    }
}
