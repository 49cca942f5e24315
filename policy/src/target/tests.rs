use proptest::prelude::*;

use super::*;

const MAX: usize = 16 * 1024;

fn parse(raw: &str) -> Result<CanonicalTarget<'_>, Refusal> {
    CanonicalTarget::parse(raw.as_bytes(), MAX)
}

fn segments(raw: &str) -> Vec<String> {
    parse(raw).unwrap().segments().map(std::borrow::Cow::into_owned).collect()
}

#[track_caller]
fn not_normal(targets: &[&str]) {
    for raw in targets {
        assert_eq!(parse(raw), Err(Refusal::TargetNotNormal), "{raw}");
    }
}

#[track_caller]
fn malformed(targets: &[&[u8]]) {
    for raw in targets {
        assert_eq!(CanonicalTarget::parse(raw, MAX), Err(Refusal::RequestMalformed), "{}", raw.escape_ascii());
    }
}

#[test]
fn a_normal_target_is_taken_byte_for_byte() {
    for raw in [
        "/",
        "/?",
        "/fhir",
        "/fhir/Patient/1",
        "/fhir/Patient/1/$everything?_count=10",
        "/fhir/Patient?identifier=urn:oid:1.2.392.100495.20.3.51.11311234567|00000010",
        "/a/b/",
        "/...",
        "/.well-known/x",
        "/a..b/.c/d.",
        "/dicom-web/studies/1.2.840.113619.2.1/series",
        "/x?next=/../..//%2e%2e%2f%25%5c;a=1",
        "/x?q=[]\\^`{|}'",
        "/x/%E5%B1%B1%e7%94%b0/a%20b",
        "/x/%24everything/%3A%40%21",
    ] {
        let target = parse(raw).unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
        assert_eq!(target.as_str(), raw);
        let joined = target.query().map_or(target.path().to_owned(), |query| format!("{}?{query}", target.path()));
        assert_eq!(joined, raw);
    }
}

#[test]
fn segments_are_decoded_and_blind_to_a_trailing_slash() {
    assert!(segments("/").is_empty());
    assert!(segments("/?x").is_empty());
    assert_eq!(segments("/a"), ["a"]);
    assert_eq!(segments("/a/"), ["a"]);
    assert_eq!(segments("/a/b%20c/%E5%B1%B1%e7%94%b0/+?d/e"), ["a", "b c", "山田", "+"]);
}

#[test]
fn query_pairs_are_decoded_as_a_form() {
    let pairs = |raw: &str| {
        let target = parse(raw).unwrap();
        target.query_pairs().map(|(name, value)| format!("{name}→{value}")).collect::<Vec<_>>()
    };
    assert!(pairs("/").is_empty());
    assert!(pairs("/?").is_empty());
    assert_eq!(pairs("/?a=1&&b&=c&d=e=f&"), ["a→1", "b→", "→c", "d→e=f"]);
    assert_eq!(pairs("/?%70atient=Patient%2F1&n=a+b%2Bc"), ["patient→Patient/1", "n→a b+c"]);
    assert_eq!(pairs("/?n=%8ER"), ["n→\u{fffd}R"]);
}

#[test]
fn a_broken_form_body_is_still_read() {
    let pairs: Vec<_> = form_pairs(b"a=%zz&b=%4&c=\xff").map(|(name, value)| format!("{name}→{value}")).collect();
    assert_eq!(pairs, ["a→%zz", "b→%4", "c→\u{fffd}"]);
}

#[test]
fn c5_dot_segments() {
    not_normal(&[
        "/x/../admin",
        "/./admin",
        "/admin/.",
        "/admin/..",
        "/..",
        "/.",
        "/../admin",
        "/a/./b",
        "/.?x",
        "/..?x",
    ]);
    not_normal(&["/x/%2e%2e/admin", "/x/.%2e/admin", "/x/%2E./admin", "/%2e/admin", "/%2e%2e"]);
}

#[test]
fn c5_empty_segments() {
    not_normal(&["//admin", "//", "/x//admin", "/admin//", "///", "//h/admin", "/admin//?x"]);
}

#[test]
fn c5_encoded_separators_and_delimiters() {
    for code in ["%2f", "%2F", "%5c", "%5C", "%00", "%3b", "%3B", "%3f", "%3F", "%23"] {
        for raw in [format!("/admin{code}"), format!("/{code}admin"), format!("/x{code}admin"), format!("/x/{code}")] {
            not_normal(&[&raw]);
        }
    }
}

#[test]
fn c5_encoded_unreserved_characters() {
    not_normal(&["/%61dmin", "/%41dmin", "/admi%6E", "/admi%6e", "/x%2Dy", "/x%5Fy", "/x%7Ey", "/%30"]);
}

#[test]
fn c5_double_encoding() {
    not_normal(&["/%252e%252e/admin", "/%252e", "/admin%252f", "/%2561dmin", "/%25"]);
}

#[test]
fn c5_path_parameters() {
    not_normal(&["/admin;x", "/admin;", "/;/admin", "/x/..;/admin", "/admin;x?y"]);
}

#[test]
fn c5_control_octets() {
    not_normal(&["/admin%00", "/admin%0a", "/admin%0D%0AX:y", "/%7f", "/%1b[2J", "/%c2%85", "/x?a=%00"]);
    malformed(&[b"/admin\0", b"/admin\r\nX: y", b"/admin\x7f", b"/a\tb", b"/a b", b"/x?a=\0", b"/x?a b", b"/x?\x1b"]);
}

#[test]
fn c5_not_utf8() {
    not_normal(&["/%c0%af", "/%c0%aeadmin", "/%e0%80%af", "/%f0%80%80%af", "/%ed%a0%80", "/%f5%80%80%80"]);
    not_normal(&["/%ff", "/%e5", "/%e5%b1", "/%e5a%b1", "/%e5%b1/%b1", "/%80", "/%e5%b1%", "/%c3("]);
}

#[test]
fn c5_bytes_outside_the_grammar() {
    malformed(&[
        b"\\admin",
        b"/x\\admin",
        b"/\\admin",
        b"/admin#",
        b"/admin#x",
        b"/x?a#b",
        b"/\xc0\xaf",
        b"/\xe5\xb1\xb1",
    ]);
    malformed(&[
        b"/a|b", b"/[x]", b"/{x}", b"/a^b", b"/`", b"/\"", b"/<", b"/>", b"/x?\"", b"/x?<", b"/x?>", b"/x?\xff",
    ]);
}

#[test]
fn c5_broken_triplets() {
    malformed(&[b"/%", b"/%2", b"/%zz", b"/a%2/b", b"/%u002f", b"/x?%", b"/x?%4", b"/x?%g0", b"/%+1", b"/x?%+1"]);
}

#[test]
fn c5_not_origin_form() {
    malformed(&[
        b"",
        b"admin",
        b"*",
        b"http:http://h/admin",
        b"http://h/admin",
        b"https://h/admin",
        b"h:443",
        b"?x",
        b"%2fadmin",
    ]);
}

#[test]
fn c5_too_long() {
    let raw = format!("/{}", "a".repeat(MAX));
    assert_eq!(parse(&raw), Err(Refusal::TargetTooLong));
    assert!(CanonicalTarget::parse(raw.as_bytes(), MAX + 1).is_ok());
}

/// Every spelling of C5 for a protected `/admin`: refused, or not a spelling of `/admin` at all.
#[test]
fn c5_case_and_siblings_are_other_paths() {
    for raw in ["/ADMIN", "/Admin", "/admin2", "/admin.", "/admi", "/admin%20"] {
        assert_ne!(segments(raw), ["admin"], "{raw}");
    }
}

fn hex_at(text: &str, at: usize) -> Option<u8> {
    let hex = text.get(at + 1..at + 3)?;
    hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(hex, 16).unwrap())
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let encoded = if text.as_bytes()[at] == b'%' { hex_at(text, at) } else { None };
        octets.push(encoded.unwrap_or(text.as_bytes()[at]));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    octets
}

/// The rules of the module's documentation, one after the other, on owned strings.
fn reference(raw: &[u8]) -> Result<(), Refusal> {
    let Ok(text) = std::str::from_utf8(raw) else { return Err(Refusal::RequestMalformed) };
    let (path, query) = text.split_once('?').map_or((text, ""), |(path, query)| (path, query));
    let pchar = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@;/".contains(c);
    let mut verdict = Ok(());
    let mut worse = |refusal: Refusal| {
        if verdict != Err(Refusal::RequestMalformed) {
            verdict = Err(refusal);
        }
    };
    if !path.starts_with('/') || !path.chars().all(|c| pchar(c) || c == '%') {
        worse(Refusal::RequestMalformed);
    }
    if !query.chars().all(|c| pchar(c) || "?%[]\\^`{|}".contains(c)) {
        worse(Refusal::RequestMalformed);
    }
    for text in [path, query] {
        if text.match_indices('%').any(|(at, _)| hex_at(text, at).is_none()) {
            worse(Refusal::RequestMalformed);
        }
    }
    if query.contains("%00") || path.contains(';') || path.contains("//") {
        worse(Refusal::TargetNotNormal);
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        worse(Refusal::TargetNotNormal);
    }
    for octet in path.match_indices('%').filter_map(|(at, _)| hex_at(path, at)) {
        let c = char::from(octet);
        if octet < 0x20 || octet == 0x7f || c.is_ascii_alphanumeric() || "-._~/\\;?#%".contains(c) {
            worse(Refusal::TargetNotNormal);
        }
    }
    for segment in path.split('/') {
        match String::from_utf8(percent_decode(segment)) {
            Ok(text) if !text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c)) => {}
            _ => worse(Refusal::TargetNotNormal),
        }
    }
    verdict
}

/// Texts near the border between normal and not.
fn near_targets() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just("%".to_owned()),
        Just("?".to_owned()),
        Just("..".to_owned()),
        Just("%2e".to_owned()),
        Just("%25".to_owned()),
        Just("%E5%B1%B1".to_owned()),
        Just("%c0%af".to_owned()),
        "%[0-9a-fA-F]{2}",
        "%[2-7][0-9a-fA-F]",
        "[a-zA-Z0-9._~-]{1,4}",
        "[ -~]",
        "\\PC",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn parsing_any_bytes_is_total(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = CanonicalTarget::parse(&raw, MAX);
        let _ = split_absolute(&raw);
        for (name, value) in form_pairs(&raw) {
            prop_assert!(name.len() + value.len() <= raw.len() * 3);
        }
    }

    #[test]
    fn fast_and_slow_agree_on_acceptance(raw in near_targets()) {
        prop_assert_eq!(parse(&raw).is_ok(), reference(raw.as_bytes()).is_ok(), "{}", raw);
    }

    #[test]
    fn fast_and_slow_agree_on_bytes(raw in proptest::collection::vec(any::<u8>(), 0..6)) {
        let raw = [b"/".as_slice(), &raw].concat();
        prop_assert_eq!(CanonicalTarget::parse(&raw, MAX).is_ok(), reference(&raw).is_ok(), "{}", raw.escape_ascii());
    }

    /// A refusal that is alone in a target has the kind that the rules give it.
    #[test]
    fn fast_and_slow_agree_on_the_refusal(before in "[a-z]{1,3}", octet in any::<u8>(), encoded in any::<bool>()) {
        let mut raw = format!("/{before}").into_bytes();
        if encoded { raw.extend(format!("%{octet:02X}").bytes()) } else { raw.push(octet) }
        let fast = CanonicalTarget::parse(&raw, MAX).map(|_| ());
        prop_assert_eq!(fast, reference(&raw), "{}", raw.escape_ascii());
    }

    #[test]
    fn no_accepted_path_changes_its_segments_when_decoded_again(raw in near_targets()) {
        if let Ok(target) = parse(&raw) {
            let once: Vec<_> = target.segments().collect();
            for segment in &once {
                let again = String::from_utf8(percent_decode(segment)).unwrap();
                for text in [segment.to_string(), again] {
                    prop_assert!(text != "." && text != "..", "{}", raw);
                    prop_assert!(!text.contains(['/', '\\', ';', '?', '#', '%']), "{}", raw);
                    prop_assert!(!text.contains(char::is_control), "{}", raw);
                }
            }
            // Splitting after decoding finds the same segments as splitting before.
            let whole: String = once.iter().map(|segment| format!("/{segment}")).collect();
            prop_assert_eq!(whole.split('/').skip(1).filter(|s| !s.is_empty()).count(), once.len());
        }
    }
}
