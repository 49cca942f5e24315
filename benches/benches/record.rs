//! What a request's record costs: the worker writes it, the writer gives it its place, seals and links it.
#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gateway_audit::frame::{Chain, FRAME_HEADER, RecordLength};
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::record::{
    Certificate, Completion, Connection, ConnectionFields, Decision, Durations, End, Exchange, Request, Tls, finish,
};
use gateway_audit::seal::{DataKey, SealError, Secret};
use gateway_audit::{Header, Record, Stamp};

const HEADER: Header<'static> = Header {
    node: "gw1",
    boot: "5a3b8a4e-8f30-4a1c-9d55-f5b1a3a2a111",
    stamp: Stamp {
        unix_ns: 1_795_380_602_123_456_789,
        monotonic_ns: 86_400_123_456_789,
        error_ns: Some(1_500_000),
        source: "kernel",
        synchronised: true,
    },
};

fn connection() -> Connection {
    Connection::new(&ConnectionFields {
        id: "0000000000a1b2c3",
        listener: "clinics",
        transport: "tcp",
        source: "192.0.2.7:50123",
        proxy: None,
        tls: Some(Tls {
            version: "1.3",
            suite: "TLS13_AES_128_GCM_SHA256",
            group: Some("X25519"),
            resumed: false,
            sni: Some(b"gateway.example"),
            alpn: Some(b"http/1.1"),
        }),
        site: Some("sakura-clinic"),
        device: Some("exam-1"),
        user: None,
        patient: None,
        qualifications: &[],
        certificate: Some(Certificate { sha256: &[0xab; 32], serial: Some(&[0x5a; 16]) }),
    })
}

fn exchange(connection: &Connection) -> Exchange<'_, &'static str, &'static str, &'static str> {
    Exchange {
        request: "0000000000a1b2c3-17",
        client: None,
        connection,
        method: b"GET",
        authority: Some(b"gateway.example"),
        target: b"/fhir/Observation?patient=Patient/jp-0001&category=vital-signs&_count=50",
        route: Some("fhir"),
        service: Some("fhir"),
        class: Some("clinical"),
        action: Some("search"),
        patients: &["jp-0001"],
        patients_unknown: None,
        user: Some("sato"),
        session: None,
        acting_for: None,
        patient: None,
        roles: &["doctor", "staff"],
        authentication: Some("device"),
        decision: Decision::Permit,
        reason: None,
        policies: &["doctor-clinical"],
        snapshot: 7,
        backend: Some("127.0.0.1:8080"),
    }
}

/// Why a record is not framed.
#[derive(Debug)]
enum Unsealed {
    Seal(#[expect(dead_code, reason = "shown if it ever happens")] SealError),
    Length(#[expect(dead_code, reason = "shown if it ever happens")] RecordLength),
}

impl From<RecordLength> for Unsealed {
    fn from(length: RecordLength) -> Self {
        Self::Length(length)
    }
}

fn records(criterion: &mut Criterion) {
    let connection = connection();
    let exchange = exchange(&connection);
    let durations = Durations { total_us: 1_234, policy_us: Some(3), upstream_us: Some(1_100) };
    let request = Request { exchange: &exchange, status: 200, durations };
    let completion = Completion {
        request: exchange.request,
        scope: exchange.scope(),
        received: 0,
        sent: 1_024,
        end: End::Complete,
        duration_us: 1_300,
    };
    let mut written = Vec::with_capacity(4_096);
    let splice = request.write(&HEADER, &mut written);
    let length = u64::try_from(written.len()).unwrap_or_default();

    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(length));
    let mut out = Vec::with_capacity(1 << 16);
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&request).write(black_box(&HEADER), &mut out)
        });
    });
    group.throughput(Throughput::Bytes(length + u64::try_from(FRAME_HEADER).unwrap_or_default()));
    let mut chain = Chain { link: [7; 32], next: 1 };
    let mut leaves = Vec::new();
    group.bench_function("frame", |bencher| {
        bencher.iter(|| {
            out.clear();
            leaves.clear();
            chain.append(0, &mut out, &mut leaves, |sequence, out| {
                finish(black_box(&written), splice, sequence, out);
                Ok::<_, RecordLength>(())
            })
        });
    });
    let Ok(key) = DataKey::new(&Secret::new([7; 32])) else { return };
    let clear = ClearHeader {
        kind: Kind::Request,
        unix_ns: HEADER.stamp.unix_ns,
        site: Pseudonym([7; 8]),
        key: KeyId([7; 16]),
        reference: exchange.request,
    };
    let mut plain = Vec::with_capacity(4_096);
    group.bench_function("seal and frame", |bencher| {
        bencher.iter(|| {
            out.clear();
            leaves.clear();
            chain.append(0, &mut out, &mut leaves, |sequence, out| {
                plain.clear();
                finish(black_box(&written), splice, sequence, &mut plain);
                key.seal_into("bench.test/gw1/lane-1", sequence, &clear, &plain, out).map_err(Unsealed::Seal)
            })
        });
    });
    let mut whole = Vec::with_capacity(4_096);
    let _ = completion.write(&HEADER, &mut whole);
    group.throughput(Throughput::Bytes(u64::try_from(whole.len()).unwrap_or_default()));
    group.bench_function("completion", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&completion).write(black_box(&HEADER), &mut out)
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    records(&mut criterion);
    criterion.final_summary();
}
