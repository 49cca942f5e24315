use super::*;

pub(crate) const HEADER: Header<'static> = Header {
    node: "gw1",
    boot: "5a3b8a4e-8f30-4a1c-9d55-f5b1a3a2a111",
    stamp: Stamp {
        unix_ns: 1_795_380_602_123_456_789,
        monotonic_ns: 86_400_123_456_789,
        error_ns: Some(16_000_000_000),
        source: "kernel",
        synchronised: false,
    },
};

/// Writes a record as the log would, and checks that its bytes are the canonical form of what they mean.
pub(crate) fn canonical(record: &impl Record, sequence: u64) -> serde_json::Value {
    let mut written = b"before".to_vec();
    let splice = record.write(&HEADER, &mut written);
    let mut bytes = Vec::new();
    finish(&written[6..], splice, sequence, &mut bytes);
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    // serde_json's maps are sorted and its escapes are those of RFC 8785.
    assert_eq!(serde_json::to_string(&value).unwrap(), String::from_utf8(bytes).unwrap());
    assert_eq!(value["sequence"], sequence);
    assert_eq!(value["version"], VERSION);
    assert_eq!(value["node"], "gw1");
    assert_eq!(value["kind"], record.kind().label());
    match record.reference() {
        Reference::Request(request) => assert_eq!(value["request"], request),
        Reference::Change { number, .. } => assert_eq!(value["registry_sequence"], number),
        Reference::None => assert!(value.get("request").is_none()),
        Reference::Text(text) if value["kind"] == "removal" => {
            let root = value["root"].as_str().unwrap();
            assert_eq!(format!("{}-{}-{root}", value["entries"], value["next"]), text);
        }
        Reference::Text(text) => assert_eq!(value["operation"], text),
    }
    assert_eq!(value["time"], "2026-11-22T20:50:02.123456789Z");
    assert_eq!(value["clock"]["error_ns"], 16_000_000_000_u64);
    assert_eq!(value["clock"]["synchronised"], false);
    value
}

fn connection() -> Connection {
    Connection::new(&ConnectionFields {
        id: "01j9",
        listener: "clinics",
        transport: "tcp",
        source: "192.0.2.7:50123",
        proxy: None,
        tls: Some(Tls {
            version: "1.3",
            suite: "TLS13_AES_256_GCM_SHA384",
            group: Some("X25519MLKEM768"),
            resumed: false,
            sni: Some(b"gateway.example"),
            alpn: Some(b"h2"),
        }),
        site: Some("sakura-clinic"),
        device: Some("ward-3"),
        user: None,
        patient: None,
        qualifications: &[],
        certificate: Some(Certificate { sha256: &[0xab; 32], serial: Some(&[1, 2, 0xff]) }),
    })
}

fn exchange<'a>(connection: &'a Connection, target: &'a [u8]) -> Exchange<'a, &'a str, &'a str, &'a str> {
    Exchange {
        request: "r-1",
        client: None,
        connection,
        method: b"GET",
        authority: Some(b"gateway.example"),
        target,
        route: Some("fhir"),
        service: Some("fhir"),
        class: Some("clinical"),
        action: Some("read"),
        patients: &["p1"],
        patients_unknown: None,
        user: Some("tanaka"),
        session: None,
        acting_for: None,
        patient: None,
        roles: &["doctor", "staff"],
        authentication: Some("device"),
        decision: Decision::Permit,
        reason: None,
        policies: &["doctors-read"],
        snapshot: 7,
        backend: Some("127.0.0.1:8080"),
        answer: None,
    }
}

#[test]
fn a_request_carries_every_field_of_the_promise() {
    let connection = connection();
    let exchange = exchange(&connection, b"/fhir/Patient/p1?x=1");
    let durations = Durations { total_us: 1_234, policy_us: Some(12), upstream_us: Some(1_100) };
    let value = canonical(&Request { exchange: &exchange, status: 200, durations }, 42);
    assert_eq!(value["kind"], "request");
    assert_eq!(value["connection"]["site"], "sakura-clinic");
    assert_eq!(value["connection"]["certificate"]["sha256"], "ab".repeat(32));
    assert_eq!(value["connection"]["certificate"]["serial"], "0102ff");
    assert_eq!(value["connection"]["tls"]["sni"], "gateway.example");
    assert_eq!(value["target"], "/fhir/Patient/p1?x=1");
    assert_eq!(value["patients"], serde_json::json!(["p1"]));
    assert_eq!(value["roles"], serde_json::json!(["doctor", "staff"]));
    assert_eq!(value["policies"], serde_json::json!(["doctors-read"]));
    assert_eq!(value["decision"], "permit");
    assert_eq!(value["durations"]["policy_us"], 12);
    assert_eq!(value["status"], 200);
    assert_eq!(value["snapshot"], 7);
    let intent = canonical(&Intent { exchange: &exchange }, 43);
    assert_eq!(intent["kind"], "intent");
    assert!(intent.get("status").is_none() && intent.get("durations").is_none());
}

#[test]
fn a_person_without_a_device_is_named() {
    let fields = ConnectionFields {
        id: "01j9",
        listener: "staff",
        transport: "tcp",
        source: "192.0.2.7:50123",
        proxy: Some("10.0.0.9:40000"),
        tls: None,
        site: Some("sakura-clinic"),
        device: None,
        user: Some("dr-sato"),
        patient: None,
        qualifications: &["Medical Doctor", "Fortune \"Teller\""],
        certificate: None,
    };
    let value = canonical(&(&Connection::new(&fields), ConnectionEvent::Opened), 1);
    let connection = &value["connection"];
    assert_eq!((&connection["user"], &connection["site"]), (&"dr-sato".into(), &"sakura-clinic".into()));
    assert_eq!(connection["qualifications"], serde_json::json!(["Medical Doctor", "Fortune \"Teller\""]));
    assert!(connection.get("device").is_none() && connection.get("patient").is_none());
    let patient = "ab".repeat(16) + "/taro@example.jp";
    let fields = ConnectionFields { user: None, site: None, patient: Some(&patient), qualifications: &[], ..fields };
    let connection = Connection::new(&fields);
    let exchange = Exchange { user: None, patient: Some(&patient), ..exchange(&connection, b"/") };
    let value = canonical(&Intent { exchange: &exchange }, 2);
    assert_eq!(
        (&value["patient"], &value["connection"]["patient"]),
        (&patient.as_str().into(), &patient.as_str().into())
    );
    assert!(value["connection"].get("qualifications").is_none());
}

#[test]
fn c15_hostile_targets_are_one_record_and_come_back() {
    let connection = connection();
    let hostile: &[&[u8]] =
        &[b"/a\r\n{\"kind\":\"stop\"}\n", b"/\x1b[2J\"\\", "/\u{202e}gnp".as_bytes(), b"/\xff\xfe", b""];
    for target in hostile {
        let exchange = exchange(&connection, target);
        let mut written = Vec::new();
        let splice =
            Request { exchange: &exchange, status: 400, durations: Durations::default() }.write(&HEADER, &mut written);
        let mut bytes = Vec::new();
        finish(&written, splice, 1, &mut bytes);
        assert!(bytes.iter().all(|b| (0x20..0x7f).contains(b)), "{}", String::from_utf8_lossy(&bytes));
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["kind"], "request");
        match std::str::from_utf8(target) {
            Ok(text) => assert_eq!(value["target"], text),
            Err(_) => assert_eq!(value["target"]["base64"], "L//+"),
        }
    }
}

#[test]
fn c15_a_long_target_is_kept_by_prefix_and_digest() {
    use sha2::{Digest, Sha256};
    let connection = connection();
    let target = vec![b'a'; 64 * 1024];
    let exchange_long = exchange(&connection, &target);
    let value = canonical(&Intent { exchange: &exchange_long }, 1);
    assert_eq!(value["target"]["length"], 65_536);
    assert_eq!(value["target"]["prefix"].as_str().unwrap().len(), MAX_TARGET);
    let mut digest = Vec::new();
    crate::json::hex(&mut digest, &Sha256::digest(&target));
    assert_eq!(value["target"]["sha256"].as_str().unwrap().as_bytes(), digest);
    let exchange_whole = exchange(&connection, &target[..MAX_TARGET]);
    assert!(canonical(&Intent { exchange: &exchange_whole }, 1)["target"].is_string());
}

#[test]
fn every_kind_is_canonical() {
    let connection = connection();
    let completion =
        Completion { request: "r", scope: Scope::NONE, received: 1, sent: u64::MAX, end: End::Aborted, duration_us: 9 };
    let torn = [TornTail { file: "torn-00000000000000000007-1.bin".into(), bytes: 12, sha256: [1; 32] }];
    let error = Some(&b"policy/a.cedar:3:7: \xff"[..]);
    let traffic = ConnectionTraffic { requests: 3, duration_us: 5 };
    let outcome = Outcome {
        request: "r",
        scope: Scope::NONE,
        status: 502,
        reason: Some("backend-timeout"),
        backend: None,
        answer: None,
        durations: Durations::default(),
    };
    let refused = Refused {
        listener: "clinics",
        source: "[2001:db8::1]:443",
        stage: Stage::Registry,
        reason: "device-suspended",
        detail: Some(b"x"),
        sni: None,
        certificate: Some(Certificate { sha256: &[3; 32], serial: None }),
        site: Some("s"),
        device: Some("d"),
        user: Some("u"),
        patient: Some("ab/1"),
    };
    let summary = RefusedSummary {
        reason: "rate-limited",
        network: Some("192.0.2.0/24"),
        site: Some("s"),
        device: Some("d"),
        user: Some("u"),
        patient: Some("ab/1"),
        count: 99,
        from_unix_ns: -1,
        until_unix_ns: 0,
    };
    let failure = AuditFailure {
        operation: "fdatasync",
        errno: Some(5),
        error: "EIO",
        segment: "s",
        failed_sequence: 3,
        unavailable_us: 1,
    };
    let clock = ClockChange {
        event: ClockEvent::Step,
        previous_unix_ns: Some(0),
        change_ns: Some(-3_600_000_000_000),
        source: None,
    };
    let kinds = [
        canonical(&(&connection, ConnectionEvent::Opened), 1),
        canonical(&(&connection, ConnectionEvent::Closed { cause: "idle", traffic }), 2),
        canonical(&outcome, 3),
        canonical(&completion, 4),
        canonical(&Stream { event: StreamEvent::Opened, so_far: completion }, 5),
        canonical(&Stream { event: StreamEvent::Periodic, so_far: completion }, 6),
        canonical(&Stream { event: StreamEvent::Closed, so_far: completion }, 7),
        canonical(&refused, 8),
        canonical(&summary, 9),
        canonical(
            &RegistryChange { registry_sequence: 4, fingerprint: "00ff", change: b"{\"a\":1}", actor: b"root" },
            10,
        ),
        canonical(
            &Start {
                log: &[7; 16],
                origin: "log.example/gw1/lane-1",
                copied: true,
                reviewers: &[ReviewersChange { site: None, number: 2, sha256: &[3; 32] }],
                program: "sekisho 0.1.0",
                window_ms: 0,
                durability: "before-answer",
                on_failure: "refuse",
            },
            11,
        ),
        canonical(&Stop { cause: "SIGTERM" }, 12),
        canonical(&Reload { snapshot: 2, error: None }, 13),
        canonical(&Reload { snapshot: 2, error }, 14),
        canonical(&Recovery { last_sequence: 6, torn: &torn, unresolved: &["r-9".into()], unresolved_count: 1 }, 15),
        canonical(&clock, 16),
        canonical(
            &ClockChange {
                event: ClockEvent::Regression,
                previous_unix_ns: None,
                change_ns: Some(i64::MIN),
                source: None,
            },
            17,
        ),
        canonical(&failure, 18),
        canonical(&Full { error: "ENOSPC" }, 19),
        canonical(&Gap { records: 3, from_unix_ns: 0, until_unix_ns: 1 }, 20),
        canonical(&RegistryRollback { recorded_sequence: 7, store_sequence: 5 }, 21),
        canonical(
            &Addendum {
                request: "r",
                scope: Scope::NONE,
                from: Origin::Answer,
                patients: &["患者", "0001"],
                patients_unknown: Some("too-long"),
            },
            22,
        ),
        canonical(
            &Addendum {
                request: "r",
                scope: Scope::NONE,
                from: Origin::Request,
                patients: &[""; 0],
                patients_unknown: Some("malformed"),
            },
            23,
        ),
        canonical(
            &change_of_revocation(RevocationSource::List { is_delta: true, number: "0a", next_update: 9, entries: 2 }),
            24,
        ),
        canonical(
            &change_of_revocation(RevocationSource::Answer {
                serial: "01",
                status: "revoked",
                reason: Some("superseded"),
            }),
            25,
        ),
        canonical(
            &TunnelDrops { listener: "tunnels", site: Some("s"), drops: &[("other-site", 2), ("spoofed-source", 1)] },
            26,
        ),
        canonical(&TunnelDrops { listener: "tunnels", site: None, drops: &[("mac1", 9)] }, 27),
        canonical(&Outage { site: "s", event: OutageEvent::Silent, since: Some("2026-11-23T01:02:03Z") }, 28),
        canonical(&Outage { site: "s", event: OutageEvent::Seen, since: None }, 29),
        canonical(&(&connection, ConnectionEvent::Moved { to: "192.0.2.8:4712" }), 30),
    ];
    let names: Vec<_> = kinds.iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "connection-opened",
            "connection-closed",
            "outcome",
            "completion",
            "stream-opened",
            "stream-periodic",
            "stream-closed",
            "refusal",
            "refusal-summary",
            "registry-change",
            "start",
            "stop",
            "reload",
            "reload",
            "recovery",
            "clock",
            "clock",
            "audit-failure",
            "full",
            "gap",
            "registry-rollback",
            "addendum",
            "addendum",
            "revocation-change",
            "revocation-change",
            "tunnel-drops",
            "tunnel-drops",
            "outage",
            "outage",
            "connection-moved",
        ]
    );
    assert!(names.iter().all(|name| crate::header::Kind::from_label(name).is_some()));
    assert_eq!(kinds[21]["patients"], serde_json::json!(["患者", "0001"]));
    assert_eq!((&kinds[21]["from"], &kinds[21]["patients_unknown"]), (&"answer".into(), &"too-long".into()));
    assert!(kinds[22].get("patients").is_none());
    assert!(kinds[5].get("end").is_none());
    assert_eq!(kinds[6]["end"], "aborted");
    assert_eq!(kinds[3]["bytes"]["sent"], u64::MAX.to_string());
    assert_eq!(kinds[15]["change_ns"], -3_600_000_000_000_i64);
    assert_eq!(kinds[16]["change_ns"], i64::MIN.to_string());
    assert_eq!((&kinds[23]["what"], &kinds[23]["entries"]), (&"delta-crl".into(), &2.into()));
    assert_eq!(kinds[23]["next_update"], "1970-01-01T00:00:09.000000000Z");
    assert_eq!((&kinds[24]["what"], &kinds[24]["status"]), (&"ocsp".into(), &"revoked".into()));
    assert!(kinds[24].get("this_update").is_none(), "beyond what nanoseconds reach");
}

fn change_of_revocation(what: RevocationSource<'_>) -> RevocationChange<'_> {
    let (source, issuer) = (&b"http://ocsp.example"[..], &b"CN=Clinics"[..]);
    RevocationChange { listener: "clinics", change: "taken", source, issuer, this_update: i64::MAX, what }
}

#[test]
fn what_happens_to_data_keys_is_canonical() {
    use crate::header::KeyId;
    use crate::removal::Tombstone;
    let keys = [KeyId([0xab; 16]), KeyId([0xcd; 16])];
    let site = Some("sakura-clinic");
    let shred = Shred {
        operation: "0af1",
        site,
        class: Some("clinical"),
        period: "2016-11-23",
        keys: &keys,
        why: Why::Retention,
        by: "gateway",
    };
    let value = canonical(&shred, 1);
    assert_eq!(value["keys"], serde_json::json!(["ab".repeat(16), "cd".repeat(16)]));
    assert_eq!(
        (&value["why"], &value["period"], shred.scope().site),
        (&"retention".into(), &"2016-11-23".into(), site)
    );
    let value = canonical(&Shred { site: None, class: None, why: Why::Shred, ..shred }, 2);
    assert!(value.get("site").is_none() && value.get("class").is_none());
    assert_eq!(Why::from_label("shred"), Some(Why::Shred));
    assert_eq!(Why::from_label("Shred"), None);
    let opening = Opening {
        by: "127.0.0.1:5",
        site,
        reviewer: "auditor",
        classes: &["clinical"],
        from: "2016-11-23",
        to: "2016-11-30",
        count: 9,
    };
    let value = canonical(&opening, 3);
    assert_eq!((&value["reviewer"], &value["count"], opening.scope().site), (&"auditor".into(), &9.into(), site));
    let rewrap = Rewrap { by: "alice", site, signer: "auditor", reviewer: "new", keys: &keys, sha256: &[0xee; 32] };
    let value = canonical(&rewrap, 4);
    assert_eq!((&value["signer"], &value["keys"][1]), (&"auditor".into(), &"cd".repeat(16).into()));
    let tombstone = Tombstone { entries: 512, next: 500, root: [0xef; 32] };
    let text = tombstone.to_string();
    canonical(&Removal { tombstone: &tombstone, text: &text }, 5);
}

#[test]
fn a_session_is_told_with_its_user_and_its_login() {
    let note = SessionNote {
        event: SessionEvent::Ended,
        reason: Some("stolen"),
        request: Some("r"),
        session: "00112233aabbccdd",
        origin: "learnt",
        realm: "ehr",
        account: "tanaka\r\n",
        site: Some("s"),
        device: "exam-1",
        user: Some("tanaka"),
        acting_for: Some("dr-sato"),
        authentication: "user",
        factors: vec!["device", "password"],
        since: "2026-11-23T00:00:00Z",
    };
    let value = canonical(&note, 5);
    assert_eq!(
        (&value["kind"], &value["event"], &value["reason"]),
        (&"session".into(), &"ended".into(), &"stolen".into())
    );
    assert_eq!((&value["user"], &value["acting_for"]), (&"tanaka".into(), &"dr-sato".into()));
    assert_eq!(value["factors"], serde_json::json!(["device", "password"]));
    assert_eq!(value["account"], "tanaka\r\n");
    let begun = SessionNote { event: SessionEvent::Begun, reason: None, site: None, acting_for: None, ..note };
    let value = canonical(&begun, 6);
    assert!(value.get("reason").is_none() && value.get("site").is_none());
}
