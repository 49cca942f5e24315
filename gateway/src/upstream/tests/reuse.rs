//! When a connection carries another request, and when a request is sent twice (C1, C2, C3).

use policy::Refusal;

use super::*;

#[test]
fn one_connection_carries_many_requests_and_the_head_is_ours() {
    on_worker(async {
        let heads = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&heads);
        let (address, count) = backend(move |_, mut peer| {
            let seen = Rc::clone(&seen);
            async move {
                loop {
                    let head = peer.head().await;
                    if head.is_empty() {
                        return;
                    }
                    seen.borrow_mut().push(head);
                    peer.write(OK).await;
                }
            }
        })
        .await;
        let upstreams = plain(&service(&[address]));
        for round in 0..5 {
            let answer = send(&upstreams, get()).await.unwrap();
            assert_eq!(answer.timings.reused, round > 0);
            assert_eq!(answer.timings.attempts, 1);
            assert_eq!(&*answer.backend, address.to_string());
            assert_eq!(text(answer).await, "ok");
        }
        assert_eq!(count.get(), 1);
        let counters = &upstreams.counters()[0];
        assert_eq!((counters.opened(), counters.reused(), counters.retried(), counters.idle()), (1, 4, 0, 1));
        let certificate = "Y2VydGlmaWNhdGU=";
        assert_eq!(
            heads.borrow()[4],
            format!(
                "GET /fhir/Patient/1?_format=json HTTP/1.1\r\nhost: {address}\r\nclient-cert: :{certificate}:\r\n\
                 x-request-id: id-1\r\nforwarded: for=192.0.2.1;proto=https;host=\"gateway:8443\";by=_gw1\r\n\
                 sekisho-identity: a.b.c\r\nvia: 1.1 sekisho\r\n\r\n"
            )
        );
    });
}

/// What a backend does with a connection that carries its second request.
async fn second_request(
    method: Method,
    body: &'static str,
    fate: &'static str,
) -> (Result<Answer, UpstreamError>, usize, u64) {
    let (address, count) = backend(move |index, mut peer| async move {
        peer.head().await;
        peer.write(OK).await;
        if index > 0 {
            peer.head().await;
            return;
        }
        match fate {
            "closes while idle" => return,
            "speaks while idle" => {
                peer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await;
                peer.closed().await;
                return;
            }
            _ => {}
        }
        peer.head().await;
        match fate {
            "closes" => {}
            "resets" => peer.reset(),
            "closes within the head" => peer.write(b"HTTP/1.1 2").await,
            "closes within the body" => peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").await,
            _ => panic!("no such fate: {fate}"),
        }
    })
    .await;
    let upstreams = plain(&service(&[address]));
    text(send(&upstreams, get()).await.unwrap()).await;
    if fate.ends_with("idle") {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let answer = send(&upstreams, request(method, body)).await;
    let retried = upstreams.counters()[0].retried();
    (answer, count.get(), retried)
}

#[test]
fn a_request_is_sent_again_only_where_that_can_do_no_harm() {
    on_worker(async {
        // Method, body, what becomes of the reused connection, whether the request is sent again.
        for (method, body, fate, again) in [
            (Method::GET, "", "closes while idle", true),
            (Method::POST, "x", "closes while idle", true),
            (Method::GET, "", "speaks while idle", true),
            (Method::POST, "x", "speaks while idle", true),
            (Method::GET, "", "closes", true),
            (Method::GET, "", "resets", true),
            (Method::HEAD, "", "closes", true),
            (Method::PUT, "", "closes", true),
            (Method::DELETE, "", "closes", true),
            (Method::PUT, "x", "closes", false),
            (Method::POST, "", "closes", false),
            (Method::POST, "", "resets", false),
            (Method::PATCH, "", "closes", false),
            (Method::GET, "", "closes within the head", false),
        ] {
            let (answer, connections, retried) = second_request(method.clone(), body, fate).await;
            let case = format!("{method} {body:?}, the backend {fate}");
            assert_eq!(answer.is_ok(), again, "{case}: {answer:?}");
            assert_eq!((connections, retried), if again { (2, 1) } else { (1, 0) }, "{case}");
            match answer {
                Ok(answer) => assert_eq!(answer.timings.attempts, 2, "{case}"),
                Err(error) => {
                    assert_eq!(error.refusal(), Refusal::BackendMalformed, "{case}");
                    assert!(error.to_string().contains("127.0.0.1"), "{error}");
                }
            }
        }
    });
}

/// The runtime learns of an end or of bytes only when it next asks the kernel; a reused connection is asked at once.
#[test]
fn what_the_runtime_has_not_seen_yet_is_seen_before_a_request_is_sent() {
    use std::io::{Read as _, Write as _};
    for poisons in [true, false] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let backend = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for first in [true, false] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(OK).unwrap();
                // Not with the answer: after it.
                std::thread::sleep(Duration::from_millis(30));
                if first && poisons {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison").unwrap();
                    kept.push(stream);
                } else {
                    drop(stream);
                }
                // Nobody waits for the second.
                let _ = tell.send(());
            }
        });
        on_worker(async move {
            let upstreams = plain(&service(&[address]));
            assert_eq!(text(send(&upstreams, get()).await.unwrap()).await, "ok");
            // Without a turn of the runtime.
            told.recv().unwrap();
            let answer = send(&upstreams, request(Method::POST, "x")).await.unwrap();
            assert_eq!(answer.timings.attempts, 2);
            assert_eq!(text(answer).await, "ok");
        });
        backend.join().unwrap();
    }
}

#[test]
fn an_answer_that_ends_early_is_an_error_and_never_asked_for_again() {
    on_worker(async {
        let (answer, connections, retried) = second_request(Method::GET, "", "closes within the body").await;
        assert!(matches!(read(answer.unwrap()).await.2, Err(BodyError::Broken(_))));
        assert_eq!((connections, retried), (1, 0));
    });
}

#[test]
fn a_fresh_connection_that_dies_is_not_tried_again() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            peer.head().await;
        })
        .await;
        let upstreams = plain(&service(&[address]));
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::BackendMalformed);
        assert_eq!(count.get(), 1);
        assert_eq!(errors(&upstreams), [("closed", 1)]);
    });
}

/// Sends a request to a backend that answers `answer`, then another: what came of the first, and whether the
/// connection was reused.
async fn answered(method: Method, answer: &'static [u8]) -> (Result<(u16, HeaderMap, String), Option<Refusal>>, bool) {
    let (address, count) = backend(move |_, mut peer| async move {
        while !peer.head().await.is_empty() {
            peer.write(answer).await;
            if answer.starts_with(b"HTTP/1.0")
                || !answer.windows(6).any(|window| {
                    window.eq_ignore_ascii_case(b"length")
                        || window == b"chunke"
                        || window == b"101 Sw"
                        || window == b"204 No"
                        || window == b"304 No"
                })
            {
                return;
            }
        }
    })
    .await;
    let upstreams = plain(&service(&[address]));
    let first = match send(&upstreams, request(method, "")).await {
        Ok(answer) => {
            let (status, headers, body) = read(answer).await;
            body.map(|(text, _)| (status, headers, text)).map_err(|_| None)
        }
        Err(error) => Err(Some(error.refusal())),
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(send(&upstreams, get()).await);
    (first, count.get() == 1)
}

#[test]
fn answers_are_framed_one_way_only_and_connections_reused_only_after_whole_ones() {
    on_worker(async {
        let bad = Err(Some(Refusal::BackendMalformed));
        let good = |status: u16, text: &str| Ok((status, text.to_owned()));
        for (method, answer, wanted, reused) in [
            (Method::GET, &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], good(200, "ok"), true),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                good(200, "ok"),
                true,
            ),
            (Method::HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", good(200, ""), true),
            (Method::GET, b"HTTP/1.1 204 No Content\r\n\r\n", good(204, ""), true),
            (Method::GET, b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", good(204, ""), true),
            (Method::GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", good(304, ""), true),
            (
                Method::GET,
                b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                good(200, "ok"),
                true,
            ),
            (
                Method::GET,
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                good(200, "ok"),
                true,
            ),
            // Whole, but the connection is of no more use.
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                good(200, "ok"),
                false,
            ),
            (Method::GET, b"HTTP/1.1 200 OK\r\n\r\nok", good(200, "ok"), false),
            (Method::GET, b"HTTP/1.0 200 OK\r\n\r\nok", good(200, "ok"), false),
            (Method::GET, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", good(200, "ok"), false),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                good(200, "ok"),
                false,
            ),
            (Method::HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", good(200, ""), false),
            (Method::GET, b"HTTP/1.1 204 No Content\r\n\r\nok", good(204, ""), false),
            (Method::GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", good(204, ""), false),
            (Method::GET, b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", good(304, ""), false),
            // Two readings, or none.
            (
                Method::GET,
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                bad.clone(),
                false,
            ),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                bad.clone(),
                false,
            ),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                bad.clone(),
                false,
            ),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nx-length: 0\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                bad.clone(),
                false,
            ),
            (Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", bad.clone(), false),
            (Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", bad.clone(), false),
            (Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", bad.clone(), false),
            (Method::GET, b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\nContent-Length: 2\r\n\r\nok", bad.clone(), false),
            (Method::GET, b"HTTP/1.1 200 OK\r\nx : a\r\nContent-Length: 2\r\n\r\nok", bad.clone(), false),
            (Method::GET, b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", bad.clone(), false),
            (Method::GET, b"SSH-2.0-OpenSSH length\r\n\r\n", bad.clone(), false),
            (Method::HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", bad, false),
            // The head is good, the body is not.
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0_2\r\nok\r\n0\r\n\r\n",
                Err(None),
                false,
            ),
            (
                Method::GET,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nok\r\n0\r\n\r\n",
                Err(None),
                false,
            ),
        ] {
            let case = format!("{method}: {}", String::from_utf8_lossy(answer));
            let (first, again) = answered(method, answer).await;
            assert_eq!(first.map(|(status, _, text)| (status, text)), wanted, "{case}");
            assert_eq!(again, reused, "{case}");
        }
    });
}

#[test]
fn a_chunked_answer_whose_end_comes_late_is_reused_and_a_dropped_one_is_not() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            while !peer.head().await.is_empty() {
                peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok").await;
                peer.write(b"\r\n0").await;
                peer.write(b"\r\n\r\n").await;
            }
        })
        .await;
        let upstreams = plain(&service(&[address]));
        for _ in 0..3 {
            assert_eq!(text(send(&upstreams, get()).await.unwrap()).await, "ok");
        }
        assert_eq!(count.get(), 1);
        drop(send(&upstreams, get()).await.unwrap());
        assert_eq!(text(send(&upstreams, get()).await.unwrap()).await, "ok");
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn the_pool_is_bounded_in_number_and_age_and_is_swept() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            while !peer.head().await.is_empty() {
                peer.write(OK).await;
            }
        })
        .await;
        let mut service = service(&[address]);
        service.idle_connections = 2;
        service.keepalive = Duration::from_millis(100);
        let upstreams = plain(&service);
        let (a, b, c) = tokio::join!(send(&upstreams, get()), send(&upstreams, get()), send(&upstreams, get()));
        for answer in [a, b, c] {
            text(answer.unwrap()).await;
        }
        let counters = &upstreams.counters()[0];
        assert_eq!((count.get(), counters.idle()), (3, 2));
        tokio::time::sleep(Duration::from_millis(120)).await;
        text(send(&upstreams, get()).await.unwrap()).await;
        assert_eq!((count.get(), counters.idle()), (4, 1));
        tokio::time::sleep(Duration::from_millis(120)).await;
        upstreams.sweep();
        assert_eq!(counters.idle(), 0);
    });
}

#[test]
fn backends_share_the_requests_and_one_that_is_down_is_left_alone() {
    on_worker(async {
        let answer = |_: usize, mut peer: Peer| async move {
            while !peer.head().await.is_empty() {
                peer.write(OK).await;
            }
        };
        let (a, count_a) = backend(answer).await;
        let (b, count_b) = backend(answer).await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let upstreams = plain(&service(&[a, gone, b]));
        let mut counts = std::collections::HashMap::new();
        for _ in 0..64 {
            let answer = send(&upstreams, request(Method::POST, "x")).await.unwrap();
            *counts.entry(answer.backend.to_string()).or_insert(0) += 1;
            text(answer).await;
        }
        assert!(counts[&a.to_string()] > 8 && counts[&b.to_string()] > 8, "{counts:?}");
        assert_eq!((count_a.get(), count_b.get()), (1, 1));
        let up: Vec<_> =
            upstreams.counters().iter().map(|counters| counters.last_seen().map(|sight| sight.up)).collect();
        assert_eq!(up, [Some(true), Some(false), Some(true)]);
        let [("connect", asked)] = errors(&upstreams)[..] else { panic!("{:?}", errors(&upstreams)) };
        assert!((1..8).contains(&asked), "avoided for a while once it was asked: {asked}");

        let upstreams = plain(&service(&[gone]));
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.refusal(), Refusal::BackendUnavailable);
        let nobody = upstreams
            .send(permit(), &ServiceName::new("other").unwrap(), get(), ours(), Asked::default())
            .await
            .unwrap_err();
        assert_eq!(nobody.refusal(), Refusal::InternalError);
    });
}

#[test]
fn replacing_the_services_keeps_the_pools_of_those_that_stay() {
    on_worker(async {
        let (address, count) = backend(|_, mut peer| async move {
            while !peer.head().await.is_empty() {
                peer.write(OK).await;
            }
        })
        .await;
        let mut service = service(&[address]);
        let upstreams = plain(&service);
        text(send(&upstreams, get()).await.unwrap()).await;
        upstreams.replace([(&service, None)]).unwrap();
        text(send(&upstreams, get()).await.unwrap()).await;
        assert_eq!(count.get(), 1);
        let kept = send(&upstreams, get()).await.unwrap();
        service.idle_timeout = Duration::from_secs(9);
        upstreams.replace([(&service, None)]).unwrap();
        assert_eq!(text(kept).await, "ok", "a request under way ends as it would");
        text(send(&upstreams, get()).await.unwrap()).await;
        assert_eq!(count.get(), 2);
        service.backends[0].authority = "a b".into();
        assert!(matches!(upstreams.replace([(&service, None)]), Err(InvalidService::Authority { .. })));
        text(send(&upstreams, get()).await.unwrap()).await;
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn the_future_of_a_request_stays_small() {
    on_worker(async {
        let upstreams = plain(&service(&["127.0.0.1:1".parse().unwrap()]));
        let sending = send(&upstreams, get());
        // It is moved into the task of every request.
        assert!(size_of_val(&sending) < 3712, "{} bytes", size_of_val(&sending));
        drop(sending);
    });
}
