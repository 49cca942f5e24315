//! Several servers of one service: which gets a request, what becomes of one that is not answered, and who is left out.

use policy::Refusal;

use super::*;
use crate::config::Resilience;

/// A server that answers everything, and counts.
async fn good() -> (SocketAddr, Rc<Cell<usize>>) {
    server(OK).await
}

/// A server that answers everything with these bytes, and closes where they do not say how long they are.
async fn server(answer: &'static [u8]) -> (SocketAddr, Rc<Cell<usize>>) {
    let asked = Rc::new(Cell::new(0));
    let counted = Rc::clone(&asked);
    let (address, _) = backend(move |_, mut peer| {
        let counted = Rc::clone(&counted);
        async move {
            while !peer.head().await.is_empty() {
                counted.set(counted.get() + 1);
                peer.stream.write_all(answer).await.unwrap_or_default();
                if !answer.ends_with(b"ok") {
                    return;
                }
            }
        }
    })
    .await;
    (address, asked)
}

/// One that takes the request and closes without a word, over a fresh connection as well.
async fn silent() -> (SocketAddr, Rc<Cell<usize>>) {
    server(b"").await
}

fn gone() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn of(addresses: &[SocketAddr], change: impl FnOnce(&mut Resilience)) -> (Upstreams, Arc<Fleet>) {
    let mut service = service(addresses);
    service.resilience.retry_backoff = Duration::from_millis(1);
    change(&mut service.resilience);
    let fleet = Arc::new(Fleet::default());
    (Upstreams::new([(&service, None)], Arc::clone(&fleet)).unwrap(), fleet)
}

fn states(fleet: &Fleet) -> Vec<State> {
    fleet.report().iter().map(|report| report.state).collect()
}

async fn read_all(upstreams: &Upstreams) -> Result<Result<String, BodyError>, UpstreamError> {
    match send(upstreams, get()).await {
        Ok(answer) => Ok(read(answer).await.2.map(|(text, _)| text)),
        Err(error) => Err(error),
    }
}

fn drain(fleet: &Fleet, servers: &[SocketAddr]) {
    let drained = |server: &SocketAddr| Drained {
        service: "fhir".into(),
        server: server.to_string(),
        actor: "ops".into(),
        reason: Some("a new disk".into()),
    };
    fleet.set_drained(servers.iter().map(drained).collect());
}

#[test]
fn a_safe_request_that_one_server_leaves_unanswered_is_answered_by_another() {
    on_worker(async {
        let ((bad, bad_asked), (well, _)) = (silent().await, good().await);
        let (upstreams, fleet) = of(&[bad, well], |resilience| resilience.eject_after = 3);
        for _ in 0..40 {
            assert_eq!(read_all(&upstreams).await.unwrap().unwrap(), "ok");
        }
        assert_eq!(bad_asked.get(), 3, "then it is ejected");
        assert_eq!(states(&fleet), [State::Ejected, State::In]);
        let report = &fleet.report()[0];
        assert_eq!((report.reason.as_deref(), report.ejections), (Some("closed"), 1));
        let retried: u64 = upstreams.counters().iter().map(|counters| counters.retried()).sum();
        assert_eq!(retried, 3);
        assert!(upstreams.counters().iter().all(|counters| counters.in_flight() == 0));
    });
}

#[test]
fn what_may_not_be_repeated_is_sent_once() {
    on_worker(async {
        let ((bad, bad_asked), (well, well_asked)) = (silent().await, good().await);
        let (upstreams, _) = of(&[bad, well], |resilience| resilience.eject_after = 0);
        let mut lost = 0;
        for _ in 0..40 {
            lost += usize::from(send(&upstreams, request(Method::POST, "")).await.is_err());
        }
        assert_eq!((lost, lost + well_asked.get()), (bad_asked.get(), 40));
        // A route that only reads may: its POST asks and changes nothing.
        let name = ServiceName::new("fhir").unwrap();
        let reads = Asked { reads: true, ..Asked::default() };
        let before = bad_asked.get();
        for _ in 0..40 {
            let sent = upstreams.send(permit(), &name, request(Method::POST, ""), ours(), reads).await;
            assert_eq!(text(sent.unwrap()).await, "ok");
        }
        assert!(bad_asked.get() > before);
        // Its body is gone once a byte of it was sent.
        let mut lost = 0;
        for _ in 0..40 {
            let sent = upstreams.send(permit(), &name, request(Method::POST, "x"), ours(), reads).await;
            lost += usize::from(sent.is_err());
        }
        assert!(lost > 0);
    });
}

#[test]
fn a_byte_of_an_answer_is_an_answer() {
    on_worker(async {
        for bytes in
            [&b"HTTP/1.1 2"[..], b"\0\0\0", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"]
        {
            let ((bad, bad_asked), (well, _)) = (server(bytes).await, good().await);
            let (upstreams, _) = of(&[bad, well], |resilience| resilience.eject_after = 0);
            let mut lost = 0;
            for _ in 0..40 {
                lost += usize::from(send(&upstreams, get()).await.is_err());
            }
            assert_eq!(lost, bad_asked.get(), "{bytes:?}");
            assert!(lost > 0);
        }
    });
}

/// Everything that a server can do wrong once it was reached: it is ejected, and stays within the floor.
#[test]
fn whatever_answers_badly_is_ejected() {
    const STORM: &[u8] = &{
        const LINE: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        let mut storm = [0; LINE.len() * 64];
        let mut at = 0;
        while at < storm.len() {
            storm[at] = LINE[at % LINE.len()];
            at += 1;
        }
        storm
    };
    const ENDLESS: &[u8] = &{
        const START: &[u8] = b"HTTP/1.1 200 OK\r\nx: ";
        let mut head = [b'a'; 70_000];
        let mut at = 0;
        while at < START.len() {
            head[at] = START[at];
            at += 1;
        }
        head
    };
    on_worker(async {
        for (name, bytes) in [
            ("garbage", &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..]),
            ("an early close", b""),
            ("half a head", b"HTTP/1.1 200 OK\r\ncontent-le"),
            ("half an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n12345"),
            ("half of a chunked answer", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n"),
            ("bad chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\nZZ\r\n"),
            ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345"),
            ("a switch", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            ("a storm of interim answers", STORM),
            ("an endless head", ENDLESS),
            ("502", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"),
            ("503", b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
        ] {
            let ((bad, bad_asked), (well, _)) = (server(bytes).await, good().await);
            let (upstreams, fleet) = of(&[bad, well], |_| ());
            let mut asked = 0;
            while states(&fleet) != [State::Ejected, State::In] {
                asked += 1;
                assert!(asked < 200, "{name} is not ejected: {:?}", fleet.report());
                drop(read_all(&upstreams).await);
            }
            assert_eq!(bad_asked.get(), 5, "{name}");
            for _ in 0..10 {
                assert_eq!(read_all(&upstreams).await.unwrap().unwrap(), "ok", "{name}");
            }
            assert_eq!(bad_asked.get(), 5, "{name}");
        }
    });
}

#[test]
fn an_answer_of_many_interim_heads_is_taken_and_a_storm_is_not() {
    on_worker(async {
        let few: Vec<u8> = [b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(32), OK.to_vec()].concat();
        let many: Vec<u8> = [b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33), OK.to_vec()].concat();
        for (bytes, taken) in [(few, true), (many, false)] {
            let (address, _) = server(bytes.leak()).await;
            assert_eq!(send(&plain(&service(&[address])), get()).await.is_ok(), taken);
        }
    });
}

#[test]
fn ejection_leaves_half_and_the_only_one_stays() {
    on_worker(async {
        let bad = [silent().await, silent().await, silent().await, silent().await];
        let (upstreams, fleet) = of(&bad.each_ref().map(|(address, _)| *address), |resilience| {
            resilience.eject_after = 1;
            resilience.retries = 0;
        });
        for _ in 0..50 {
            assert_eq!(send(&upstreams, get()).await.unwrap_err().refusal(), Refusal::BackendMalformed);
        }
        assert_eq!(states(&fleet).iter().filter(|state| **state == State::Ejected).count(), 2);
        let (upstreams, fleet) = of(&[bad[0].0], |resilience| resilience.eject_after = 1);
        for _ in 0..5 {
            assert!(send(&upstreams, get()).await.is_err());
        }
        assert_eq!(states(&fleet), [State::In]);
    });
}

#[test]
fn a_storm_of_failures_is_not_doubled_by_retries() {
    on_worker(async {
        let ((a, a_asked), (b, b_asked)) = (silent().await, silent().await);
        let (upstreams, fleet) = of(&[a, b], |resilience| {
            resilience.eject_after = 0;
            resilience.retry_percent = 10;
            resilience.retry_reserve = 5;
        });
        for _ in 0..200 {
            assert!(send(&upstreams, get()).await.is_err());
        }
        let retried = a_asked.get() + b_asked.get() - 200;
        // A tenth, the reserve, and what fills up again meanwhile.
        assert!((20..45).contains(&retried), "{retried}");
        assert_eq!(fleet.refused()[0].1[Refused::Budget as usize], 200 - retried as u64);
    });
}

#[test]
fn a_drained_server_gets_nothing_new_and_ends_what_it_has() {
    on_worker(async {
        let (release, held) = tokio::sync::watch::channel(false);
        let (slow, _) = backend(move |_, mut peer| {
            let mut held = held.clone();
            async move {
                while !peer.head().await.is_empty() {
                    peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl").await;
                    held.wait_for(|released| *released).await.map(drop).unwrap();
                    peer.write(b"ow").await;
                }
            }
        })
        .await;
        let (other, asked) = good().await;
        let (upstreams, fleet) = of(&[slow, other], |_| ());
        let under_way = loop {
            let answer = send(&upstreams, get()).await.unwrap();
            if *answer.backend == slow.to_string() {
                break answer;
            }
        };
        drain(&fleet, &[slow]);
        assert_eq!(states(&fleet), [State::Drained, State::In]);
        assert_eq!(fleet.report()[0].reason.as_deref(), Some("ops: a new disk"));
        let before = asked.get();
        for _ in 0..20 {
            assert_eq!(read_all(&upstreams).await.unwrap().unwrap(), "ok");
        }
        assert_eq!(asked.get(), before + 20);
        assert_eq!(upstreams.counters()[0].in_flight(), 1);
        release.send_replace(true);
        assert_eq!(text(under_way).await, "slow");
        assert_eq!(upstreams.counters()[0].in_flight(), 0);
        upstreams.sweep();
        assert_eq!(upstreams.counters()[0].idle(), 0, "nothing is kept of it");

        drain(&fleet, &[slow, other]);
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!((error.refusal(), error.sent), (Refusal::BackendUnavailable, false));
        assert_eq!(error.retry_after, Some(Duration::from_secs(5)));
        assert_eq!(fleet.refused()[0].1, [1, 0, 0]);
        drain(&fleet, &[]);
        assert_eq!(states(&fleet), [State::Starting, State::Starting]);
        assert!(send(&upstreams, get()).await.is_ok());
    });
}

#[test]
fn an_ejected_server_is_better_than_none_and_a_drained_one_is_not() {
    on_worker(async {
        let ((bad, _), (well, _)) = (silent().await, good().await);
        let (upstreams, fleet) = of(&[bad, well, gone()], |resilience| resilience.eject_after = 1);
        drain(&fleet, &[well]);
        let mut ends = std::collections::BTreeSet::new();
        for _ in 0..20 {
            ends.insert(send(&upstreams, get()).await.unwrap_err().failure.label());
        }
        assert!(ends.iter().all(|end| ["closed", "connect"].contains(end)), "{ends:?}");
        drain(&fleet, &[]);
        for _ in 0..20 {
            assert_eq!(read_all(&upstreams).await.unwrap().unwrap(), "ok");
        }
    });
}

#[test]
fn requests_beyond_the_bound_wait_and_then_are_refused() {
    on_worker(async {
        let (release, held) = tokio::sync::watch::channel(false);
        let running = Rc::new(Cell::new((0_usize, 0_usize)));
        let seen = Rc::clone(&running);
        let (address, _) = backend(move |_, mut peer| {
            let (mut held, running) = (held.clone(), Rc::clone(&seen));
            async move {
                while !peer.head().await.is_empty() {
                    let (now, most) = running.get();
                    running.set((now + 1, most.max(now + 1)));
                    held.wait_for(|released| *released).await.map(drop).unwrap();
                    let (now, most) = running.get();
                    running.set((now - 1, most));
                    peer.write(OK).await;
                }
            }
        })
        .await;
        let mut configured = service(&[address]);
        configured.response_timeout = Duration::from_secs(10);
        configured.resilience.max_in_flight = 2;
        configured.resilience.max_pending = 3;
        configured.resilience.pending_timeout = Duration::from_secs(10);
        let fleet = Arc::new(Fleet::default());
        // Two workers: the bound is of both together.
        let workers = [(); 2].map(|()| Upstreams::new([(&configured, None)], Arc::clone(&fleet)).unwrap());
        let sent: Vec<_> = (0..8)
            .map(|number: usize| {
                let upstreams = workers[number % 2].clone();
                spawn_local(async move { read_all(&upstreams).await.map(Result::unwrap) })
            })
            .collect();
        while fleet.refused()[0].1[Refused::Overloaded as usize] < 3 || running.get().0 < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fleet.refused()[0].2, 3, "three wait");
        release.send_replace(true);
        let mut ends = Vec::new();
        for sent in sent {
            ends.push(sent.await.unwrap());
        }
        let good = ends.iter().filter(|end| end.as_ref().is_ok_and(|text| text == "ok")).count();
        assert_eq!(good, 5);
        for error in ends.into_iter().filter_map(Result::err) {
            assert_eq!((error.failure.label(), error.refusal()), ("overloaded", Refusal::BackendUnavailable));
        }
        assert_eq!((running.get(), fleet.refused()[0].2), ((0, 2), 0));
    });
}

#[test]
fn one_that_waits_too_long_is_refused_and_one_whose_client_goes_leaves_no_trace() {
    on_worker(async {
        let (address, _) = backend(|_, mut peer| async move {
            peer.head().await;
            peer.closed().await;
        })
        .await;
        let (upstreams, fleet) = of(&[address], |resilience| {
            resilience.max_in_flight = 1;
            resilience.pending_timeout = Duration::from_millis(50);
        });
        let first = spawn_local({
            let upstreams = upstreams.clone();
            async move { send(&upstreams, get()).await.is_ok() }
        });
        tokio::task::yield_now().await;
        let begun = Instant::now();
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.failure.label(), "overloaded");
        assert!(begun.elapsed() >= Duration::from_millis(50));
        first.abort();
        assert!(first.await.is_err());
        assert_eq!((fleet.refused()[0].2, upstreams.counters()[0].in_flight()), (0, 0));
        let error = send(&upstreams, get()).await.unwrap_err();
        assert_eq!(error.failure.label(), "head-timeout", "the place is free again");
    });
}

#[test]
fn the_deadline_of_a_route_is_of_all_attempts_and_blames_who_is_late() {
    on_worker(async {
        let (hangs, _) = backend(|_, mut peer| async move {
            peer.head().await;
            peer.closed().await;
        })
        .await;
        let (upstreams, fleet) = of(&[hangs], |_| ());
        let name = ServiceName::new("fhir").unwrap();
        let asked = Asked { deadline: Some(Duration::from_millis(60)), ..Asked::default() };
        let begun = Instant::now();
        let error = upstreams.send(permit(), &name, get(), ours(), asked).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(280), "before the service's own");
        assert_eq!((error.failure.label(), error.refusal(), error.sent), ("deadline", Refusal::BackendTimeout, true));
        assert_eq!(error.backend.as_deref(), Some(hangs.to_string().as_str()));
        assert_eq!(fleet.report()[0].last_failure.as_ref().map(|(why, _)| why.as_str()), Some("deadline"));
        assert_eq!(upstreams.counters()[0].in_flight(), 0);
        let body = Fed::default();
        body.data("x");
        let error = upstreams.send(permit(), &name, post(&body), ours(), asked).await.unwrap_err();
        assert_eq!((error.failure.label(), error.refusal()), ("request-stalled", Refusal::RequestTimeout));
    });
}

#[test]
fn a_key_keeps_its_server() {
    on_worker(async {
        let servers = [good().await, good().await, good().await];
        let (upstreams, fleet) = of(&servers.each_ref().map(|(address, _)| *address), |resilience| {
            resilience.balance = Balance::Site;
        });
        let name = ServiceName::new("fhir").unwrap();
        assert_eq!(upstreams.balance(&name), Balance::Site);
        let of = async |site: u32| {
            let affinity = Some(affinity_of(format!("site-{site}").as_bytes()));
            let asked = Asked { affinity, ..Asked::default() };
            let answer = upstreams.send(permit(), &name, get(), ours(), asked).await.unwrap();
            let backend = answer.backend.to_string();
            text(answer).await;
            backend
        };
        let mut homes = Vec::new();
        for site in 0..30 {
            homes.push(of(site).await);
        }
        for (site, home) in (0..).zip(&homes) {
            assert_eq!(of(site).await, *home);
        }
        let lost = servers[0].0.to_string();
        assert!(homes.contains(&lost) && homes.iter().any(|home| *home != lost));
        drain(&fleet, &[servers[0].0]);
        for (site, home) in (0..).zip(&homes) {
            let now = of(site).await;
            assert!(if *home == lost { now != lost } else { now == *home }, "site {site}");
        }
    });
}

#[test]
fn the_server_with_fewer_requests_is_asked() {
    on_worker(async {
        let (release, held) = tokio::sync::watch::channel(false);
        let (slow, count) = backend(move |_, mut peer| {
            let mut held = held.clone();
            async move {
                while !peer.head().await.is_empty() {
                    held.wait_for(|released| *released).await.map(drop).unwrap();
                    peer.write(OK).await;
                }
            }
        })
        .await;
        let (quick, asked) = good().await;
        let mut configured = service(&[slow, quick]);
        configured.response_timeout = Duration::from_secs(10);
        let upstreams = plain(&configured);
        let counters = upstreams.counters();
        let mut sent = Vec::new();
        for _ in 0..50 {
            let upstreams = upstreams.clone();
            sent.push(spawn_local(async move { read_all(&upstreams).await.unwrap().unwrap() }));
            // Until the quick one has answered, if it was asked.
            tokio::task::yield_now().await;
            while counters[1].in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(count.get() <= 3 && asked.get() >= 47, "{} and {}", count.get(), asked.get());
        release.send_replace(true);
        for sent in sent {
            assert_eq!(sent.await.unwrap(), "ok");
        }
    });
}
