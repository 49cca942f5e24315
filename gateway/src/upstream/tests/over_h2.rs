//! Backends that speak HTTP/2.

use std::convert::Infallible;

use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use policy::Refusal;

use super::*;

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// A backend that says what it was asked, then closes gracefully after `requests`. Counts connections.
async fn echo(requests: usize) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            spawn_local(serve(TokioIo::new(stream), requests));
        }
    });
    (address, count)
}

pub(super) async fn serve<I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static>(io: I, requests: usize) {
    let served = Rc::new(Cell::new(0));
    let enough = Rc::new(tokio::sync::Notify::new());
    let (seen, notify) = (Rc::clone(&served), Rc::clone(&enough));
    let service = service_fn(move |request: http::Request<Incoming>| {
        seen.set(seen.get() + 1);
        if seen.get() == requests {
            notify.notify_one();
        }
        answer(request)
    });
    let mut connection = std::pin::pin!(hyper::server::conn::http2::Builder::new(Local).serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = enough.notified() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn answer(request: http::Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/slow" {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut fields: Vec<String> =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    let collected = body.collect().await;
    let trailers = collected.as_ref().ok().and_then(|collected| collected.trailers().cloned());
    let body = collected.map_or_else(|_| "broken".into(), |c| String::from_utf8(c.to_bytes().to_vec()).unwrap());
    let text = format!("{} {}\n{}\n{body}\n{trailers:?}", parts.method, parts.uri, fields.join("\n"));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    trailers.insert("sekisho-identity", HeaderValue::from_static("echo"));
    let body = http_body_util::Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::new(body.boxed_unsync()))
}

fn h2_service(address: SocketAddr) -> Service {
    Service { http2: true, ..service(&[address]) }
}

#[test]
fn requests_share_one_connection_and_trailers_pass_cleaned() {
    on_worker(async {
        let (address, count) = echo(usize::MAX).await;
        let upstreams = plain(&h2_service(address));
        let body = Fed::default();
        body.data("one");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        trailers.insert("client-cert", HeaderValue::from_static("forged"));
        body.push(Ok(Frame::trailers(trailers)));
        let mut first = post(&body);
        first.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        first.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        first.headers_mut().insert("host", HeaderValue::from_static("elsewhere"));
        let (a, b) = tokio::join!(send(&upstreams, first), send(&upstreams, get()));
        let (status, _, body) = read(a.unwrap()).await;
        let (text, trailers) = body.unwrap();
        assert_eq!(
            (status, text),
            (
                200,
                format!(
                    "POST http://{address}/fhir/Patient\nclient-cert: :Y2VydGlmaWNhdGU=:\n\
                     forwarded: for=192.0.2.1;proto=https;host=\"gateway:8443\";by=_gw1\nsekisho-identity: a.b.c\n\
                     te: trailers\nvia: 1.1 sekisho\nx-request-id: id-1\none\nSome({{\"x-checksum\": \"7\"}})"
                )
            )
        );
        assert_eq!(trailers.unwrap().into_iter().count(), 1);
        let text = super::text(b.unwrap()).await;
        assert!(text.starts_with(&format!("GET http://{address}/fhir/Patient/1?_format=json\n")), "{text}");
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn after_goaway_a_new_connection_is_opened() {
    on_worker(async {
        let (address, count) = echo(2).await;
        let upstreams = plain(&h2_service(address));
        for _ in 0..6 {
            text(send(&upstreams, get()).await.unwrap()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A request between the first GOAWAY and the last is still served by the old connection.
        assert!((2..=3).contains(&count.get()), "{}", count.get());
    });
}

#[test]
fn a_backend_that_vanishes_is_reconnected_for_what_may_be_repeated() {
    on_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let cut = Rc::new(tokio::sync::Notify::new());
        let cutting = Rc::clone(&cut);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let cut = Rc::clone(&cutting);
                spawn_local(async move {
                    tokio::select! { () = serve(TokioIo::new(stream), usize::MAX) => {}, () = cut.notified() => {} }
                });
            }
        });
        let upstreams = plain(&h2_service(address));
        for (method, fine) in [(Method::GET, true), (Method::POST, false)] {
            text(send(&upstreams, get()).await.unwrap()).await;
            let before = count.get();
            let slow = spawn_local({
                let upstreams = upstreams.clone();
                let mut request = request(method, "");
                if !fine {
                    *request.uri_mut() = Uri::from_static("/slow");
                }
                if fine {
                    cut.notify_one();
                }
                async move { send(&upstreams, request).await }
            });
            if !fine {
                tokio::time::sleep(Duration::from_millis(30)).await;
                cut.notify_one();
            }
            assert_eq!(slow.await.unwrap().is_ok(), fine);
            assert_eq!(count.get(), before + usize::from(fine));
        }
    });
}

#[test]
fn deadlines_and_bad_bodies_hold_on_http2_too() {
    on_worker(async {
        let (address, count) = echo(usize::MAX).await;
        let upstreams = plain(&h2_service(address));
        let mut slow = get();
        *slow.uri_mut() = Uri::from_static("/slow");
        assert_eq!(send(&upstreams, slow).await.unwrap_err().refusal(), Refusal::BackendTimeout);

        let body = Fed::default();
        body.data("first");
        body.push(Err(BodyError::Refused(Refusal::BodyTooLarge)));
        assert_eq!(send(&upstreams, post(&body)).await.unwrap_err().refusal(), Refusal::BodyTooLarge);

        let body = Fed::default();
        body.data("first");
        assert_eq!(send(&upstreams, post(&body)).await.unwrap_err().refusal(), Refusal::RequestTimeout);

        text(send(&upstreams, get()).await.unwrap()).await;
        assert_eq!(count.get(), 1, "other streams of the connection are not harmed");
    });
}
