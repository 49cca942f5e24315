//! What the strict reading of a request costs: finding the head, checking it, and saying what its target means.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput};
use gateway::listen::{HeadLimits, HeadScan, take_head};
use policy::patients::target_patients;
use policy::route::{PatientsDefinition, RouteDefinition, RouteKind, RouteTable};
use policy::target::CanonicalTarget;

const LIMITS: HeadLimits = HeadLimits { target_bytes: 16_384, header_bytes: 32_768, header_count: 100 };

const TARGET: &[u8] = b"/fhir/Observation?patient=Patient/jp-0001&category=vital-signs&_sort=-date&_count=50";

/// As a browser on a clinic's terminal sends it.
const BROWSER: &[u8] =
    b"GET /fhir/Observation?patient=Patient/jp-0001&category=vital-signs&_sort=-date&_count=50 HTTP/1.1\r\n\
Host: gateway.sekisho.example:8443\r\n\
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
Accept: application/fhir+json, application/json;q=0.9, */*;q=0.8\r\n\
Accept-Language: ja,en-US;q=0.7,en;q=0.3\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://gateway.sekisho.example:8443/app/patients/jp-0001\r\n\
Connection: keep-alive\r\n\
Cookie: session=3f2504e0-4f89-11d3-9a0c-0305e82c3301; theme=light\r\n\
Sec-Fetch-Dest: empty\r\n\
Sec-Fetch-Mode: cors\r\n\
Sec-Fetch-Site: same-origin\r\n\
Priority: u=4\r\n\
Cache-Control: no-cache\r\n\
\r\n";

/// As a load generator or a simple client sends it.
const SMALL: &[u8] = b"GET /1k HTTP/1.1\r\nHost: bench.test\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, bytes) in [("browser", BROWSER), ("small", SMALL)] {
        group.throughput(Throughput::Bytes(u64::try_from(bytes.len()).unwrap_or_default()));
        group.bench_function(format!("find_end/{name}"), |bencher| {
            bencher.iter(|| HeadScan::default().find_end(black_box(bytes), &LIMITS).unwrap());
        });
        group.bench_function(format!("take/{name}"), |bencher| {
            bencher.iter_batched(
                || BytesMut::from(bytes),
                |mut buffer| {
                    let length = buffer.len();
                    take_head(&mut buffer, length, &LIMITS).unwrap()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn routes(names: usize) -> RouteTable {
    let route = |name: &str, path: String, kind| RouteDefinition {
        hosts: None,
        listeners: None,
        name: name.parse().unwrap(),
        path,
        service: name.parse().unwrap(),
        class: "clinical".parse().unwrap(),
        kind,
        rules: Vec::new(),
        read_only_operations: None,
        patients: PatientsDefinition::default(),
        login: None,
        token: None,
        oidc: None,
        session: None,
        deadline_ms: None,
        websocket: None,
    };
    let mut definitions = vec![route("fhir", "/fhir".into(), RouteKind::Fhir)];
    definitions.extend((1..names).map(|n| route(&format!("app-{n}"), format!("/app/{n}"), RouteKind::Generic)));
    RouteTable::new(definitions).unwrap()
}

fn targets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| CanonicalTarget::parse(black_box(TARGET), LIMITS.target_bytes).unwrap());
    });
    let target = CanonicalTarget::parse(TARGET, LIMITS.target_bytes).unwrap();
    for count in [1, 20] {
        let table = routes(count);
        group.bench_function(format!("resolve/{count}"), |bencher| {
            bencher
                .iter(|| table.resolve(policy::route::Place::default(), black_box("GET"), black_box(&target)).unwrap());
        });
    }
    let table = routes(1);
    let resolved = table.resolve(policy::route::Place::default(), "GET", &target).unwrap();
    group.bench_function("patients", |bencher| {
        bencher.iter(|| target_patients(black_box(&resolved), black_box(&target)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    heads(&mut criterion);
    targets(&mut criterion);
    criterion.final_summary();
}
