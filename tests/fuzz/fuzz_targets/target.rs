//! The normal form of targets, routes and patients on arbitrary bytes (C5, R5).
//!
//! What must hold: a target that is taken is forwarded byte for byte by the HTTP library as well; no way of decoding
//! it, once or twice, finds other segments than the gateway did; and nothing after it panics.
#![no_main]

use std::sync::LazyLock;

use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use policy::Effect;
use policy::patients::{BodyHead, plan, target_patients};
use policy::route::{PatientsDefinition, RouteDefinition, RouteKind, RouteTable, RuleDefinition};
use policy::target::{CanonicalTarget, form_pairs, split_absolute};

const MAX: usize = 2048;
const METHODS: [&str; 9] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "get"];

static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let route = |name: &str, path: &str, kind| RouteDefinition {
        hosts: None,
        websocket: None,
        listeners: None,
        name: name.parse().expect("a name"),
        path: path.to_owned(),
        service: "s".parse().expect("a name"),
        class: "clinical".parse().expect("a name"),
        kind,
        rules: Vec::new(),
        read_only_operations: None,
        patients: PatientsDefinition::default(),
        login: None,
        token: None,
        oidc: None,
        session: None,
        deadline_ms: None,
    };
    let rule = |methods: &[&str], path: &str, effect, query: &[&str]| RuleDefinition {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        path: path.to_owned(),
        action: Some(policy::Action::Read),
        effect,
        class: None,
        patient_query: query.iter().map(|name| (*name).to_owned()).collect(),
        patient_form: Vec::new(),
        patient_request_json: Vec::new(),
        patient_answer_json: Vec::new(),
    };
    let mut legacy = route("legacy", "/legacy", RouteKind::Generic);
    legacy.rules = vec![
        rule(&["GET"], "/p/{patient}/**", Some(Effect::ReadOnly), &[]),
        rule(&["GET", "POST"], "/list/*", None, &["id"]),
    ];
    let mut fhir = route("fhir", "/fhir", RouteKind::Fhir);
    fhir.rules = vec![rule(&["GET"], "/x/{patient}", None, &["who"])];
    let dicom = route("dicom", "/dicom-web", RouteKind::Dicomweb);
    RouteTable::new(vec![legacy, fhir, dicom]).expect("a table")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(absolute) = split_absolute(data) {
        let joined = [b"https://", absolute.authority.as_bytes(), absolute.origin_form].concat();
        assert_eq!(joined, data);
    }
    let _ = form_pairs(data).count();
    let Ok(target) = CanonicalTarget::parse(data, MAX) else { return };
    assert_eq!(target.as_str().as_bytes(), data);
    let joined = target.query().map_or(target.path().to_owned(), |query| format!("{}?{query}", target.path()));
    assert_eq!(joined.as_bytes(), data);
    // The library that forwards holds these very bytes, or refuses them.
    if let Ok(held) = PathAndQuery::from_maybe_shared(bytes::Bytes::copy_from_slice(data)) {
        assert_eq!(held.as_str().as_bytes(), data, "hyper forwards another target");
    }
    let segments: Vec<String> = target.segments().map(|segment| segment.into_owned()).collect();
    let path = target.path().trim_end_matches('/').as_bytes();
    for times in 0..=2 {
        let mut path = path.to_vec();
        for _ in 0..times {
            path = decode(&path);
        }
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
        assert_eq!(parts.len(), segments.len(), "decoded {times} times there are other segments");
        for (part, segment) in parts.iter().zip(&segments) {
            assert!(!matches!(*part, b"" | b"." | b".."), "decoded {times} times there is a dot segment");
            assert!(!part.iter().any(|b| b.is_ascii_control() || matches!(b, b'\\' | b';' | b'?' | b'#')));
            if times >= 1 {
                assert_eq!(*part, segment.as_bytes(), "decoded {times} times a segment is another");
            }
        }
    }
    for method in METHODS {
        let Ok(resolved) = ROUTES.resolve(policy::route::Place::default(), method, &target) else { continue };
        assert!(
            resolved.effect == Effect::Changing || matches!(method, "GET" | "HEAD" | "OPTIONS" | "POST"),
            "{method} is never read-only"
        );
        let _ = target_patients(&resolved, &target);
        let head = BodyHead { content_type: Some(b"application/x-www-form-urlencoded"), content_encoding: None };
        if let Some(mut scanner) = plan(&resolved, &target).and_then(|plan| plan.request(head)) {
            scanner.feed(target.query().unwrap_or_default().as_bytes());
            let _ = scanner.finish(true);
        }
    }
});

/// Percent-decodes what can be, as lenient servers do.
fn decode(path: &[u8]) -> Vec<u8> {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let triplet = (path[at] == b'%').then(|| Some((hex(*path.get(at + 1)?)?, hex(*path.get(at + 2)?)?))).flatten();
        match triplet {
            Some((high, low)) => {
                out.push(high * 16 + low);
                at += 3;
            }
            None => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}
