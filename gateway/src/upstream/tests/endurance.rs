//! Backends that die at every point of an answer, and many requests at once over few connections (C4: whatever one
//! request suffers, the next one is whole).

use super::*;

#[test]
fn an_answer_cut_anywhere_is_never_taken_for_a_whole_one() {
    on_worker(async {
        let answers: [&'static [u8]; 2] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
        ];
        for answer in answers {
            for cut in 0..=answer.len() {
                let (address, count) = backend(move |index, mut peer| async move {
                    peer.head().await;
                    if index == 0 {
                        // The first request is answered, so that the connection is a reused one.
                        drop(peer.stream.write_all(OK).await);
                        peer.head().await;
                        drop(peer.stream.write_all(&answer[..cut]).await);
                    } else {
                        drop(peer.stream.write_all(OK).await);
                    }
                })
                .await;
                let upstreams = plain(&service(&[address]));
                text(send(&upstreams, get()).await.unwrap()).await;
                let whole = match send(&upstreams, get()).await {
                    Ok(answer) => read(answer).await.2.is_ok(),
                    Err(_) => false,
                };
                let case = String::from_utf8_lossy(&answer[..cut]).into_owned();
                // Nothing of an answer: asked again, over a new connection. Something: an error. All of it: fine.
                assert_eq!(whole, cut == 0 || cut == answer.len(), "{case:?}");
                assert_eq!(count.get(), if cut == 0 { 2 } else { 1 }, "{case:?}");
            }
        }
    });
}

/// What the request `n` carries and gets back.
fn content(n: usize) -> String {
    format!("{n}:").repeat(1 + (n * 7919) % 4000)
}

async fn echo(mut peer: Peer) {
    loop {
        let head = peer.head().await;
        let Some(line) = head.lines().next() else { return };
        let n: usize = line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        if n % 11 == 3 {
            // Answers early, before the body is read.
            peer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        }
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|text| text.parse().unwrap());
        let body = match length {
            Some(length) => {
                while peer.buffer.len() < length {
                    let mut chunk = [0; 4096];
                    match peer.stream.read(&mut chunk).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => peer.buffer.extend_from_slice(&chunk[..read]),
                    }
                }
                peer.buffer.drain(..length).collect::<Vec<_>>()
            }
            None => Vec::new(),
        };
        if n % 11 == 3 {
            continue;
        }
        assert!(body.is_empty() || body == content(n).as_bytes(), "request {n} has the body of another");
        if n % 13 == 5 {
            return;
        }
        let text = content(n);
        let answer = if n.is_multiple_of(2) {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
        } else {
            let (a, b) = text.split_at(text.len() / 2);
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
                a.len(),
                b.len()
            )
        };
        if peer.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[test]
fn requests_over_shared_connections_never_mix() {
    on_worker(async {
        let (address, count) = backend(|_, peer| echo(peer)).await;
        let mut service = service(&[address]);
        service.response_timeout = Duration::from_secs(10);
        service.idle_timeout = Duration::from_secs(10);
        let upstreams = plain(&service);
        let outcomes = Rc::new(RefCell::new([0_usize; 4]));
        let tasks: Vec<_> = (0..24)
            .map(|task| {
                let (upstreams, outcomes) = (upstreams.clone(), Rc::clone(&outcomes));
                spawn_local(async move {
                    for round in 0..40 {
                        let n = task * 40 + round;
                        let posts = n % 3 == 1;
                        let body = if posts { Bytes::from(content(n)) } else { Bytes::new() };
                        let request = Request::builder()
                            .method(if posts { Method::POST } else { Method::GET })
                            .uri(format!("/{n}"))
                            .body(FullBody::new(body))
                            .unwrap();
                        let outcome = match send(&upstreams, request).await {
                            // Dropped unread.
                            Ok(answer) if n % 17 == 2 => {
                                drop(answer);
                                0
                            }
                            Ok(answer) => match read(answer).await {
                                (403, _, body) => {
                                    assert!(n % 11 == 3 && body.is_ok_and(|(text, _)| text == "no"), "{n}");
                                    1
                                }
                                (_, _, body) => {
                                    assert_eq!(body.unwrap().0, content(n), "the answer to {n} is another's");
                                    2
                                }
                            },
                            Err(error) => {
                                assert_eq!(n % 13, 5, "{n}: {error}");
                                3
                            }
                        };
                        outcomes.borrow_mut()[outcome] += 1;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let [dropped, early, whole, failed] = *outcomes.borrow();
        assert!(dropped > 20 && early > 40 && whole > 600 && failed > 20, "{outcomes:?}");
        assert!(count.get() < 400, "{} connections for 960 requests", count.get());
    });
}
