//! Bodies in both directions, their deadlines, and what becomes of the connection when they fail.

use policy::Refusal;

use super::*;

#[test]
fn an_early_answer_is_forwarded_and_its_connection_never_reused() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            if peer.head().await.starts_with("POST") {
                peer.read_to(b"first").await;
                peer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
                // The rest of the body, were it sent, would be read as a request.
                assert_eq!(peer.closed().await, "\r\n");
                return;
            }
            peer.write(OK).await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let body = Fed::default();
        body.data("first");
        let (status, _, text) = read(send(&upstreams, post(&body)).await.unwrap()).await;
        assert_eq!((status, text.unwrap().0.as_str()), (413, "big"));
        body.data("GET /admin HTTP/1.1\r\n\r\n");
        assert_eq!(read(send(&upstreams, get()).await.unwrap()).await.0, 200);
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_body_that_turns_bad_closes_the_connection() {
    on_worker(async {
        let (address, count) = backend(|index, mut peer| async move {
            peer.head().await;
            if index == 0 {
                let seen = peer.closed().await;
                assert!(!seen.contains("0\r\n\r\n"), "the backend must see that the body is not whole: {seen:?}");
                return;
            }
            peer.write(OK).await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let body = Fed::default();
        body.data("first");
        let sending = spawn_local({
            let (upstreams, body) = (upstreams.clone(), body.clone());
            async move { send(&upstreams, post(&body)).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        body.push(Err(BodyError::Refused(Refusal::BodyTooLarge)));
        let error = sending.await.unwrap().unwrap_err();
        assert_eq!(error.refusal(), Refusal::BodyTooLarge);
        assert!(errors(&upstreams).is_empty(), "the backend is not to blame");
        assert_eq!(read(send(&upstreams, get()).await.unwrap()).await.0, 200);
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_body_that_is_not_as_long_as_declared_is_never_completed() {
    on_worker(async {
        for (declared, frames, ends) in [
            ("10", &["short"][..], true),
            ("3", &["longer"], false),
            ("10", &[], true),
            ("8", &["longer", "still"], false),
        ] {
            let (address, _) = backend(move |_, mut peer| async move {
                peer.head().await;
                let length: usize = declared.parse().unwrap();
                assert!(peer.closed().await.len() < length);
            })
            .await;
            let upstreams = plain(&service(&[address]));
            let body = Fed::default();
            frames.iter().for_each(|frame| body.data(frame));
            if ends {
                body.end();
            }
            let mut request = post(&body);
            request.headers_mut().insert("content-length", HeaderValue::from_static(declared));
            let error = send(&upstreams, request).await.unwrap_err();
            assert!(
                matches!(error.failure, Failure::RequestBody(BodyError::Broken(_))),
                "{declared} {frames:?}: {error}"
            );
        }
        let upstreams = plain(&service(&["127.0.0.1:1".parse().unwrap()]));
        let mut request = get();
        request.headers_mut().insert("content-length", HeaderValue::from_static("40"));
        let error = send(&upstreams, request).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::RequestAmbiguous, "nothing was sent at all");
        assert_eq!(upstreams.counters()[0].opened(), 0);
    });
}

#[test]
fn bodies_and_trailers_go_chunked_both_ways() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            loop {
                let head = peer.head().await;
                if head.is_empty() {
                    return;
                }
                assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
                assert!(head.contains("connection: te\r\n") && head.contains("te: trailers\r\n"), "{head}");
                assert!(!head.contains("\r\ncontent-length:"), "{head}");
                assert_eq!(peer.read_to(b"\r\n\r\n").await, "3\r\none\r\n3\r\ntwo\r\n0\r\nx-checksum: 7\r\n\r\n");
                peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n").await;
                peer.write(b"1\r\n!\r\n0\r\nx-sum: 9\r\ncontent-length: 5\r\nsekisho-identity: x\r\n\r\n").await;
            }
        })
        .await;
        let upstreams = plain(&service(&[address]));
        for method in [Method::POST, Method::GET] {
            let body = Fed::default();
            body.data("one");
            body.data("two");
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("7"));
            trailers.insert("sekisho-identity", HeaderValue::from_static("forged"));
            trailers.insert("content-length", HeaderValue::from_static("1"));
            body.push(Ok(Frame::trailers(trailers)));
            let mut request = post(&body);
            *request.method_mut() = method;
            request.headers_mut().insert("te", HeaderValue::from_static("gzip, trailers;q=0.5"));
            request
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-checksum, sekisho-identity, content-length"));
            let (status, headers, body) = read(send(&upstreams, request).await.unwrap()).await;
            let (text, trailers) = body.unwrap();
            assert_eq!((status, text.as_str()), (200, "ok!"));
            assert!(!headers.contains_key("transfer-encoding"));
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("9")));
        }
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn deadlines_name_who_was_silent() {
    on_worker(async {
        // No head.
        let (address, _) = backend(|_, mut peer| async move {
            peer.head().await;
            peer.closed().await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::BackendTimeout);
        assert_eq!(errors(&upstreams), [("head-timeout", 1)]);

        // The client sends no more of its body.
        let body = Fed::default();
        body.data("first");
        let error = send(&upstreams, post(&body)).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::RequestTimeout);

        // The backend reads no more of it.
        let big = Bytes::from(vec![b'x'; 32 << 20]);
        let (address, _) = backend(|_, mut peer| async move {
            peer.head().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let request = Request::builder().method(Method::PUT).uri("/").body(FullBody::new(big)).unwrap();
        let error = send(&upstreams, request).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::BackendTimeout, "{error}");

        // The answer's body stops; one that merely comes slowly does not.
        let (address, _) = backend(|_, mut peer| async move {
            peer.head().await;
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                peer.write(b"x").await;
            }
            peer.closed().await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let start = Instant::now();
        let (_, _, body) = read(send(&upstreams, get()).await.unwrap()).await;
        assert!(matches!(body, Err(BodyError::Broken(_))));
        assert!(start.elapsed() > Duration::from_millis(850), "{:?}", start.elapsed());
    });
}

#[test]
fn a_connect_that_takes_too_long_is_given_up() {
    on_worker(async {
        // A listener whose queue is full: further connections are not accepted.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let _fill: Vec<_> = (0..4)
            .map(|_| {
                let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                filler.set_nonblocking(true).unwrap();
                drop(filler.connect(&address.into()));
                filler
            })
            .collect();
        let mut service = service(&[address]);
        service.connect_timeout = Duration::from_millis(100);
        let upstreams = plain(&service);
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::BackendTimeout, "{error}");
        assert_eq!(errors(&upstreams), [("connect-timeout", 1)]);
        assert_eq!(upstreams.counters()[0].last_seen().map(|sight| sight.up), Some(false));
    });
}

#[test]
fn a_body_is_taken_only_as_fast_as_the_other_side_reads() {
    on_worker(async {
        // Towards the backend.
        let (address, _) = backend(|_, mut peer| async move {
            peer.head().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        })
        .await;
        let body = Fed::default();
        let chunk: &'static str = Box::leak("x".repeat(64 * 1024).into_boxed_str());
        (0..1024).for_each(|_| body.data(chunk));
        let upstreams = plain(&service(&[address]));
        assert!(send(&upstreams, post(&body)).await.is_err());
        // The kernel's buffers take some; hyper's no more than half a megabyte.
        assert!(body.taken() < 256, "{} of 1024 chunks were taken for a backend that reads nothing", body.taken());

        // Towards the client.
        let written = Rc::new(Cell::new(0));
        let counted = Rc::clone(&written);
        let (address, _) = backend(move |_, mut peer| {
            let written = Rc::clone(&counted);
            async move {
                peer.head().await;
                peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n").await;
                for _ in 0..1024 {
                    if peer.stream.write_all(&[b'x'; 65536]).await.is_err() {
                        return;
                    }
                    written.set(written.get() + 1);
                }
            }
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let answer = send(&upstreams, get()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(written.get() < 512, "{} of 1024 chunks were read for a client that takes nothing", written.get());
        assert_eq!(answer.response.into_body().collect().await.unwrap().to_bytes().len(), 64 << 20);
    });
}

#[test]
fn a_client_that_expects_continue_is_asked_for_its_body_when_the_backend_asks() {
    on_worker(async {
        let (address, count) = backend(|index, mut peer| async move {
            let head = peer.head().await;
            assert!(head.contains("expect: 100-continue\r\n"), "{head}");
            tokio::time::sleep(Duration::from_millis(60)).await;
            if index == 0 {
                assert!(peer.buffer.is_empty());
                peer.write(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                assert_eq!(peer.read_to(b"0\r\n\r\n").await, "4\r\nbody\r\n0\r\n\r\n");
                peer.write(OK).await;
                peer.head().await;
            }
            peer.write(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(peer.closed().await, "", "the body was not asked for");
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let expecting = || {
            let body = Fed::default();
            body.data("body");
            body.end();
            let mut request = post(&body);
            request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
            (request, body)
        };
        let (request, body) = expecting();
        assert_eq!(text(send(&upstreams, request).await.unwrap()).await, "ok");
        assert_eq!(body.taken(), 1);
        let (request, body) = expecting();
        assert_eq!(read(send(&upstreams, request).await.unwrap()).await.0, 417);
        assert_eq!(body.taken(), 0);
        assert_eq!(count.get(), 1);
    });
}
