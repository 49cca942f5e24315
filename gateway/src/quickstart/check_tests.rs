use super::*;

fn answer(status: u16, media_type: &str, body: &str) -> Seen {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.parse().unwrap())]);
    Seen::Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
}

#[test]
fn an_answer_agrees_only_with_its_status_type_and_reason() {
    use policy::Refusal::{PolicyForbid, PolicyNoPermit};
    let fhir = answer(200, "application/fhir+json; charset=utf-8", "{}");
    let problem = answer(403, "application/problem+json", r#"{"type":"urn:sekisho:problem:policy-forbid"}"#);
    assert!(agrees(Expected::Answer(200), &fhir));
    assert!(!agrees(Expected::Answer(201), &fhir));
    assert!(!agrees(Expected::Answer(403), &problem));
    assert!(agrees(Expected::Denied(PolicyForbid), &problem));
    assert!(!agrees(Expected::Denied(PolicyNoPermit), &problem));
    assert!(!agrees(Expected::Denied(PolicyForbid), &answer(403, "text/html", "no")));
    assert!(!agrees(Expected::Alert(PolicyForbid), &problem));
    assert!(agrees(Expected::Alert(PolicyForbid), &Seen::Alert(AlertDescription::AccessDenied)));
    assert!(!agrees(Expected::Alert(PolicyForbid), &Seen::Failed("closed without an alert".to_owned())));
}

#[test]
fn alerts_are_written_as_in_the_rfc() {
    assert_eq!(alert_name(AlertDescription::CertificateRequired), "certificate_required");
    assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
}

#[test]
fn a_counter_is_summed_over_its_labels() {
    let text = "# HELP sekisho_requests_total x\nsekisho_requests_total{a=\"1 2\"} 3\nsekisho_requests_total 4\n\
                sekisho_requests_total_other 9\n";
    assert_eq!(total(text, "sekisho_requests_total"), 7.0);
}

#[test]
fn the_report_fits_a_terminal_and_says_how_it_ended() {
    let mut out = Vec::new();
    let mut report = Report { out: &mut out, asked: 0, agreed: 0 };
    report.line(Line::of("permitted read", "200", "200", true)).unwrap();
    report.line(Line::of("denied by role", "403 policy-no-permit", "200", false)).unwrap();
    assert!(!report.end().unwrap());
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(text.starts_with("ok    permitted read"), "{text}");
    assert!(text.contains("\nFAIL  denied by role") && text.ends_with("FAIL  1 of 2 as expected\n"), "{text}");
}
