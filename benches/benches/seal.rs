//! What sealing a record costs the writer, and wrapping a data key.
#![forbid(unsafe_code)]

use std::error::Error;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::seal::{DataKey, Pepper, Secret};
use gateway_audit::wrap::{Binding, PrivateKey, wrap};

const ORIGIN: &str = "sekisho.example/gw1/lane-1";

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let secret = Secret::new([7; 32]);
    let key = DataKey::new(&secret)?;
    let header = ClearHeader {
        kind: Kind::Request,
        unix_ns: 1_795_380_602_123_456_789,
        site: Pepper::new([1; 32]).pseudonym(Some("sakura-clinic")),
        key: KeyId([5; 16]),
        reference: "0000000000a1b2c3-17",
    };
    let mut group = criterion.benchmark_group("seal");
    for bytes in [600, 1_400, 2_800] {
        let record = vec![b'.'; bytes];
        let mut out = Vec::with_capacity(2 * bytes);
        group.throughput(Throughput::Bytes(u64::try_from(bytes)?));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                let sealed = key.seal_into(ORIGIN, 42, &header, black_box(&record), &mut out);
                black_box(&out);
                sealed
            });
        });
    }
    group.finish();
    let reviewer = PrivateKey::new([9; 32])?;
    let binding = Binding {
        origin: ORIGIN,
        site: "sakura-clinic",
        class: "clinical",
        period: "2026-11-23",
        reviewer: "auditor",
        key: KeyId([5; 16]),
    };
    criterion.bench_function("wrap a data key", |bencher| bencher.iter(|| wrap(&secret, reviewer.public(), &binding)));
    criterion.bench_function("pseudonym", |bencher| {
        let pepper = Pepper::new([1; 32]);
        bencher.iter(|| pepper.pseudonym(black_box(Some("sakura-clinic"))) != Pseudonym::NONE);
    });
    criterion.final_summary();
    Ok(())
}
