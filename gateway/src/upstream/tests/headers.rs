use proptest::prelude::*;

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect()
}

fn text(headers: &HeaderMap) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect()
}

fn ours() -> Ours {
    Ours {
        client_cert: client_cert(b"der"),
        request_id: HeaderValue::from_static("ours-id"),
        forwarded: forwarded([192, 0, 2, 7].into(), true, "h", "gw").unwrap(),
        identity: HeaderValue::from_static("ours.jwt.x"),
    }
}

#[test]
fn an_ordinary_request_passes_unchanged_and_in_order() {
    let fields = [
        ("host", "gateway"),
        ("user-agent", "curl/8"),
        ("accept", "application/fhir+json"),
        ("accept-encoding", "gzip"),
        ("content-type", "application/json"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("traceparent", "00-1-2-01"),
        ("x-custom", "kept"),
        ("x-azurite", "kept"),
        ("client", "kept"),
        ("oidc", "kept"),
        ("if-match", "W/\"1\""),
        ("prefer", "return=minimal"),
        ("sec-fetch-mode", "cors"),
        ("upgrade-insecure-requests", "1"),
    ];
    let mut headers = map(&fields);
    let before = text(&headers);
    assert_eq!(clean_request(&mut headers), Cleaned::default());
    assert_eq!(text(&headers), before);
}

#[test]
fn whatever_the_client_says_about_itself_goes() {
    // C6: each alone, twice, in other case and with `_`.
    for name in [
        "Client-Cert",
        "Client-Cert-Chain",
        "Sekisho-Identity",
        "Sekisho-Anything",
        "X-Sekisho-User",
        "X-Request-Id",
        "Forwarded",
        "X-Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Client-Cert",
        "X-Real-IP",
        "X-Client-IP",
        "X-Client-Cert",
        "X-Client-DN",
        "X-Envoy-External-Address",
        "X-Envoy-Original-Path",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "X-Remote-User",
        "X-Remote-Groups",
        "Remote-User",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Auth-Request-User",
        "X-WebAuth-User",
        "X-Amzn-Oidc-Data",
        "X-Goog-Authenticated-User-Email",
        "X-MS-CLIENT-PRINCIPAL",
        "Client-IP",
        "True-Client-IP",
        "Fastly-Client-IP",
        "Fly-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "CF-Access-Authenticated-User-Email",
        "X-Azure-ClientIP",
        "X-Azure-SocketIP",
        "X-Appengine-User-IP",
        "X-Appengine-User-Email",
        "OIDC-Claim-Sub",
        "OIDC-CLAIM-preferred-username",
        "Proxy",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Keep-Alive",
        "Upgrade",
        "HTTP2-Settings",
        "Transfer-Encoding",
        "Early-Data",
        "Expect",
    ] {
        for written in [name.to_owned(), name.to_uppercase(), name.to_lowercase(), name.replace('-', "_")] {
            let mut headers = map(&[("host", "h"), (&written, "forged"), ("accept", "a"), (&written, "again ")]);
            clean_request(&mut headers);
            assert_eq!(text(&headers), ["host: h", "accept: a"], "{written}");
            let mut trailers = map(&[("x-sum", "1"), (&written, "forged")]);
            clean_trailers(&mut trailers);
            assert_eq!(text(&trailers), ["x-sum: 1"], "{written} as a trailer");
        }
    }
    // Any name with an underscore goes.
    let mut headers = map(&[("x_custom", "1"), ("host_", "h"), ("x-custom", "2")]);
    clean_request(&mut headers);
    assert_eq!(text(&headers), ["x-custom: 2"]);
}

#[test]
fn connection_names_away_its_own_fields_only() {
    let mut headers = map(&[
        ("connection", "X-Hop, Client-Cert, , Host, bad token"),
        ("connection", "content-length,Sekisho-Identity, X-Request-Id,forwarded, Authorization, TE, close"),
        ("x-hop", "1"),
        ("x-kept", "1"),
        ("host", "h"),
        ("content-length", "5"),
        ("authorization", "Bearer x"),
        ("client-cert", "forged"),
        ("te", "trailers"),
    ]);
    let cleaned = clean_request(&mut headers);
    assert_eq!(cleaned, Cleaned { trailers: true, expects_continue: false });
    add_ours(&mut headers, ours());
    for (name, count) in [
        ("x-hop", 0),
        ("connection", 0),
        ("x-kept", 1),
        ("host", 1),
        ("content-length", 1),
        ("authorization", 1),
        ("client-cert", 1),
        ("sekisho-identity", 1),
        ("x-request-id", 1),
        ("forwarded", 1),
        ("te", 1),
    ] {
        assert_eq!(headers.get_all(name).iter().count(), count, "{name}");
    }
    assert_eq!(headers["client-cert"], ":ZGVy:");
}

#[test]
fn te_and_expect_are_understood_and_reduced() {
    for (fields, trailers, expects) in [
        (&[("te", "trailers")][..], true, false),
        (&[("te", "gzip, Trailers;q=0.5")], true, false),
        (&[("te", "gzip")], false, false),
        (&[("te", "trailers-not")], false, false),
        (&[("expect", "100-Continue")], false, true),
        (&[("expect", "something")], false, false),
    ] {
        let mut headers = map(fields);
        assert_eq!(clean_request(&mut headers), Cleaned { trailers, expects_continue: expects }, "{fields:?}");
        let left = if trailers { vec!["te: trailers".to_owned()] } else { Vec::new() };
        assert_eq!(text(&headers), left, "{fields:?}");
    }
}

#[test]
fn no_certificate_means_no_field_and_via_is_appended() {
    let mut headers = map(&[("client-cert", ":Zm9yZ2Vk:"), ("via", "1.1 clinic")]);
    add_ours(&mut headers, Ours { client_cert: None, ..ours() });
    assert!(!headers.contains_key(CLIENT_CERT));
    let via: Vec<_> = headers.get_all(VIA).iter().collect();
    assert_eq!(via, ["1.1 clinic", "1.1 sekisho"]);
}

#[test]
fn an_answer_loses_what_is_the_connections_or_the_gateways() {
    let mut headers = map(&[
        ("content-type", "text/plain"),
        ("connection", "x-hop, content-type, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("client-cert", "echo"),
        ("sekisho-identity", "echo"),
        ("x-request-id", "echo"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-length", "5"),
    ]);
    clean_response(&mut headers);
    let mut left = text(&headers);
    left.sort();
    assert_eq!(
        left,
        [
            "content-length: 5",
            "content-type: text/plain",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "strict-transport-security: max-age=1",
        ]
    );
}

#[test]
fn trailers_that_would_be_read_as_a_head_go() {
    let mut trailers = map(&[
        ("x-checksum", "1"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("host", "h"),
        ("trailer", "x"),
        ("authorization", "x"),
        ("set-cookie", "x"),
        ("content-type", "x"),
        ("sekisho-identity", "x"),
        ("connection", "x"),
        ("cookie", "x"),
        ("cache-control", "x"),
        ("grpc-status", "0"),
    ]);
    clean_trailers(&mut trailers);
    let mut left = text(&trailers);
    left.sort();
    assert_eq!(left, ["grpc-status: 0", "x-checksum: 1"]);
}

#[test]
fn forwarded_is_written_as_rfc_7239_says() {
    for (client, host, by, wanted) in [
        ("192.0.2.1", "clinic.example", "gw1", r#"for=192.0.2.1;proto=https;host="clinic.example";by=_gw1"#),
        ("2001:db8::7", "[::1]:8443", "gw 1/東", r#"for="[2001:db8::7]";proto=https;host="[::1]:8443";by=_gw-1--"#),
        ("::ffff:192.0.2.1", "", "gw1", "for=192.0.2.1;proto=https;by=_gw1"),
        ("192.0.2.1", "a\";for=127.0.0.1", "gw1", "for=192.0.2.1;proto=https;by=_gw1"),
        ("192.0.2.1", "a\\", "gw1", "for=192.0.2.1;proto=https;by=_gw1"),
    ] {
        assert_eq!(forwarded(client.parse().unwrap(), true, host, by).unwrap(), wanted);
    }
    let plain = forwarded([10, 64, 0, 7].into(), false, "h", "gw").unwrap();
    assert_eq!(plain, "for=10.64.0.7;proto=http;host=\"h\";by=_gw", "inside a tunnel, without TLS");
}

fn field() -> impl Strategy<Value = (String, String)> {
    let known: Vec<&'static str> = NAMES
        .iter()
        .chain(END_TO_END)
        .chain(PREFIXES)
        .copied()
        .chain(["client-cert", "sekisho-identity", "via", "x-a", "x-b", "te"])
        .collect();
    let name = prop_oneof![
        (proptest::sample::select(known.clone()), any::<u64>()).prop_map(|(name, bits)| {
            name.chars()
                .enumerate()
                .map(|(i, c)| match (bits >> (i % 32)) & 3 {
                    0 => c.to_ascii_uppercase(),
                    1 if c == '-' => '_',
                    _ => c,
                })
                .collect::<String>()
        }),
        "[a-z][a-z_-]{0,12}",
    ];
    let value = prop_oneof![
        proptest::collection::vec(proptest::sample::select(known), 0..5).prop_map(|names| names.join(" , ")),
        "[ -~]{0,20}",
    ];
    (name, value)
}

proptest! {
    #[test]
    fn exactly_one_of_each_of_ours_and_nothing_of_the_connection(fields in proptest::collection::vec(field(), 0..24)) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let had: Vec<HeaderName> = headers.keys().cloned().collect();
        let cleaned = clean_request(&mut headers);
        let again = {
            let mut twice = headers.clone();
            clean_request(&mut twice);
            twice == headers
        };
        prop_assert!(again, "cleaning twice changes nothing more");
        add_ours(&mut headers, ours());
        for (name, value) in [
            (CLIENT_CERT, ":ZGVy:"),
            (REQUEST_ID, "ours-id"),
            (IDENTITY, "ours.jwt.x"),
            (header::FORWARDED, "for=192.0.2.7;proto=https;host=\"h\";by=_gw"),
        ] {
            let values: Vec<_> = headers.get_all(&name).iter().collect();
            prop_assert_eq!(values, vec![value]);
        }
        for name in headers.keys() {
            let name = name.as_str();
            let is_ours = matches!(name, "client-cert" | "x-request-id" | "sekisho-identity" | "forwarded" | "via");
            let te = name == "te" && cleaned.trailers;
            prop_assert!(is_ours || te || !is_not_forwarded(name), "{}", name);
            prop_assert!(!name.contains('_'));
            prop_assert!(!name.starts_with("x-forwarded") && !name.starts_with("proxy"));
        }
        // What must survive whatever `Connection` says.
        for name in had {
            if END_TO_END.contains(&name.as_str()) {
                prop_assert!(headers.contains_key(&name), "{}", name);
            }
        }
    }
}

#[test]
fn no_backend_sets_a_cookie_of_the_gateways() {
    let ours = [
        "__Host-sekisho=x; Path=/; Secure",
        "__Host-sekisho=; Max-Age=0; Path=/; Secure",
        "  __Host-sekisho-login = x",
        "__HOST-Sekisho=x",
        "=__Host-sekisho=x",
        "%5f_Host-sekisho=x",
        "\"__Host-sekisho\"=x",
        "__Host-sekisho",
    ];
    for cookie in ours {
        let mut headers = map(&[("set-cookie", "sid=1"), ("set-cookie", cookie), ("set-cookie", "b=2; Path=/")]);
        clean_response(&mut headers);
        assert_eq!(text(&headers), ["set-cookie: sid=1", "set-cookie: b=2; Path=/"], "{cookie}");
    }
    for kept in ["sid=1; Path=/", "sekisho=1", "__Host-sekishou=1", "a=__Host-sekisho; Path=/", "__Host-sid=x"] {
        let mut headers = map(&[("set-cookie", kept)]);
        clean_response(&mut headers);
        assert_eq!(text(&headers), [format!("set-cookie: {kept}")]);
    }
}
