//! The scanners of bodies on arbitrary bytes (C17, R5).
//!
//! What must hold: nothing panics; the same is found whatever pieces a body comes in, unless its compression is broken;
//! the bounds are kept. The first
//! byte says what the body is taken for, the second how long its pieces are.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use policy::patients::{BodyHead, MAX_BODY_PATIENTS, MAX_VALUE_BYTES, Plan, Scanned, Unread, plan};
use policy::route::{PatientsDefinition, RouteDefinition, RouteKind, RouteTable, RuleDefinition};
use policy::target::CanonicalTarget;

/// Route, media type, coding.
const BODIES: [(&str, &[u8], Option<&[u8]>); 7] = [
    ("/fhir/Patient", b"application/fhir+json", None),
    ("/fhir/_search", b"application/x-www-form-urlencoded", None),
    ("/dicom/studies", b"application/dicom+json", None),
    ("/dicom/studies", b"application/dicom", None),
    ("/dicom/studies/1.2", b"multipart/related; boundary=b", None),
    ("/fhir/Patient", b"application/json", Some(b"gzip")),
    ("/own/x", b"application/json", None),
];

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let route = |name: &str, kind, rules| RouteDefinition {
        hosts: None,
        websocket: None,
        listeners: None,
        name: name.parse().expect("a name"),
        path: format!("/{name}"),
        service: "s".parse().expect("a name"),
        class: "clinical".parse().expect("a name"),
        kind,
        rules,
        read_only_operations: None,
        patients: PatientsDefinition { max_body_bytes: 4_000 },
        login: None,
        token: None,
        oidc: None,
        session: None,
        deadline_ms: None,
    };
    let own = RuleDefinition {
        methods: vec!["POST".to_owned()],
        path: "/x".to_owned(),
        action: None,
        effect: None,
        class: None,
        patient_query: Vec::new(),
        patient_form: vec!["pid".to_owned()],
        patient_request_json: vec!["/患者/番号".to_owned(), "/list/*/pid".to_owned(), "/*/1".to_owned()],
        patient_answer_json: Vec::new(),
    };
    let table = RouteTable::new(vec![
        route("fhir", RouteKind::Fhir, Vec::new()),
        route("dicom", RouteKind::Dicomweb, Vec::new()),
        route("own", RouteKind::Generic, vec![own]),
    ])
    .expect("a table");
    let planned = |(target, _, _): &(&str, _, _)| {
        let target = CanonicalTarget::parse(target.as_bytes(), 100).expect("a target");
        plan(&table.resolve(policy::route::Place::default(), "POST", &target).expect("a route"), &target).expect("a plan")
    };
    BODIES.iter().map(planned).collect()
});

fuzz_target!(|data: &[u8]| {
    let [mode, piece, body @ ..] = data else { return };
    let mode = usize::from(*mode) % BODIES.len();
    let (_, content_type, content_encoding) = BODIES[mode];
    let scan = |piece: usize, whole: bool| -> Scanned {
        let head = BodyHead { content_type: Some(content_type), content_encoding };
        let mut scanner = PLANS[mode].request(head).expect("a scanner");
        body.chunks(piece).for_each(|bytes| scanner.feed(bytes));
        scanner.finish(whole)
    };
    let whole = scan(body.len().max(1), true);
    let pieces = scan(usize::from(*piece).max(1), true);
    if content_encoding.is_some() && [pieces.unread, whole.unread].contains(&Some(Unread::Malformed)) {
        // The decoder keeps some of what stood before the break, by how its input came, and a body may be too long as well;
        // that it was not read to its end is always said.
        assert!(pieces.unread.is_some() && whole.unread.is_some(), "pieces hide that a body is broken");
    } else {
        assert_eq!(pieces, whole, "pieces change what is found");
    }
    assert!(whole.patients.ids.len() <= MAX_BODY_PATIENTS);
    for id in &whole.patients.ids {
        assert!((1..=MAX_VALUE_BYTES).contains(&id.value.len()));
        assert!(id.system.as_ref().is_none_or(|system| (1..=MAX_VALUE_BYTES).contains(&system.len())));
    }
    let cut = scan(usize::from(*piece).max(1), false);
    assert!(body.is_empty() || cut.unread.is_some() || BODIES[mode].0.starts_with("/dicom/studies/"));
});
