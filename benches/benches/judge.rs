//! What a decision costs: found in the cache, judged and kept, and judged where nothing may be kept.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]

use std::fmt::Write as _;
use std::hash::RandomState;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use policy::judge::{Context, DecisionCache, Judge, JudgeOptions, PolicySource, Request, TlsVersion, Transport};
use policy::{
    Action, AuthenticationLevel, DeviceId, EntityVersions, InformationClass, Party, RouteName, ServiceName, Subject,
};

/// Sizes of the policy set.
const SIZES: [usize; 3] = [10, 100, 1_000];

/// A set of `count` policies: one permits doctors what is asked, one forbids it below TLS 1.3, the others are of other
/// roles and classes. With `reads_time` one more forbids at night, so that no decision is kept.
fn judge(count: usize, reads_time: bool) -> Judge {
    let mut text = String::from(
        r#"@id("doctor-clinical") permit (principal in Sekisho::Role::"doctor",
             action in [Sekisho::Action::"read", Sekisho::Action::"search"],
             resource in Sekisho::InformationClass::"clinical");
           @id("tls-1.3") forbid (principal, action, resource in Sekisho::InformationClass::"clinical")
             unless { context has tls_version && context.tls_version == "1.3" };"#,
    );
    if reads_time {
        text.push_str(
            r#"@id("night") forbid (principal in Sekisho::Role::"doctor", action, resource)
                 when { context.hour < 0 };"#,
        );
    }
    for number in 2..count {
        writeln!(
            text,
            r#"@id("other-{number}") permit (principal in Sekisho::Role::"role-{}",
                 action in [Sekisho::Action::"read", Sekisho::Action::"search"],
                 resource in Sekisho::InformationClass::"class-{}");"#,
            number % 50,
            number % 20,
        )
        .unwrap();
    }
    Judge::load(vec![PolicySource { file: "bench.cedar".into(), text }], JudgeOptions::default()).unwrap()
}

fn doctor() -> Subject {
    Subject {
        party: Party::Device {
            device: DeviceId { site: "sakura-clinic".parse().unwrap(), device: "exam-1".parse().unwrap() },
            user: Some("sato".parse().unwrap()),
        },
        roles: ["doctor", "staff"].into_iter().map(|role| role.parse().unwrap()).collect(),
        authentication_level: AuthenticationLevel::Device,
        versions: EntityVersions { site: 1, device: 2, user: 3 },
        acting_for: None,
    }
}

fn decisions(criterion: &mut Criterion) {
    let service: ServiceName = "fhir".parse().unwrap();
    let class: InformationClass = "clinical".parse().unwrap();
    let route: RouteName = "fhir".parse().unwrap();
    let request = Request {
        action: Action::Read,
        service: &service,
        class: &class,
        route: &route,
        context: Context {
            transport: Transport::Tls,
            tls_version: Some(TlsVersion::V1_3),
            source: [192, 0, 2, 7].into(),
            time: 1_795_380_602_123_456_789,
            authentication_age_ns: None,
            method: Some("GET"),
            operation: None,
            resource_type: Some("Patient"),
            patients: &(),
        },
    };
    let mut group = criterion.benchmark_group("judge");
    for count in SIZES {
        let (kept, unkept) = (judge(count, false), judge(count, true));
        let mut subject = doctor();
        let mut cache = DecisionCache::new(4_096, RandomState::new());
        group.bench_function(BenchmarkId::new("hit", count), |bencher| {
            bencher.iter(|| kept.decide(&mut cache, black_box(&subject), black_box(&request)).unwrap());
        });
        group.bench_function(BenchmarkId::new("miss", count), |bencher| {
            bencher.iter(|| {
                // An edit of the user's entry: what was decided before is not found again.
                subject.versions.user += 1;
                kept.decide(&mut cache, black_box(&subject), black_box(&request)).unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("uncached", count), |bencher| {
            bencher.iter(|| unkept.decide(&mut cache, black_box(&subject), black_box(&request)).unwrap());
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decisions(&mut criterion);
    criterion.final_summary();
}
