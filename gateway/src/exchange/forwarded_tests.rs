use super::*;
use proptest::prelude::*;

fn listed(field: ForwardedField) -> ForwardedFrom {
    ForwardedFrom { from: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()], field }
}

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

/// What a proxy that wrote these lines tells: the client, or `none`, or `refused`.
fn client(field: ForwardedField, lines: &[(&str, &str)]) -> String {
    match told(&listed(field), PROXY, &headers(lines)) {
        Ok(None) => "none".to_owned(),
        Ok(Some(told)) => told.client.to_string(),
        Err(refusal) => {
            assert_eq!(refusal, Refusal::ForwardedMalformed);
            "refused".to_owned()
        }
    }
}

#[test]
fn the_last_address_that_is_no_listed_proxys_counts() {
    for (value, wanted) in [
        ("192.0.2.7", "192.0.2.7:0"),
        ("192.0.2.7:50000", "192.0.2.7:50000"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]:443", "[2001:db8::7]:443"),
        ("::ffff:192.0.2.7", "192.0.2.7:0"),
        ("127.0.0.1, 192.0.2.7", "192.0.2.7:0"),
        ("127.0.0.1, 192.0.2.7, 10.1.1.1, 2001:db8:1::9", "192.0.2.7:0"),
        ("rubbish\", 192.0.2.7", "192.0.2.7:0"),
        (",,,192.0.2.7 , 10.1.1.1", "192.0.2.7:0"),
        ("10.1.1.2, 10.1.1.1", "10.1.1.2:0"),
        ("unknown, 10.1.1.1", "10.1.1.1:0"),
        ("unknown", "none"),
        ("192.0.2.7, rubbish", "refused"),
        ("192.0.2.7,", "refused"),
        ("192.0.2.07", "refused"),
        ("fe80::1%1", "refused"),
        ("", "refused"),
    ] {
        assert_eq!(client(ForwardedField::XForwarded, &[("x-forwarded-for", value)]), wanted, "{value}");
    }
    let two = [("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "192.0.2.7, 10.9.9.9")];
    assert_eq!(client(ForwardedField::XForwarded, &two), "192.0.2.7:0");
    let long = vec!["10.1.1.1"; MOST_HOPS + 1].join(", ");
    assert_eq!(client(ForwardedField::XForwarded, &[("x-forwarded-for", &long)]), "refused");
}

#[test]
fn forwarded_is_read_as_rfc_7239_says() {
    for (value, wanted) in [
        ("for=192.0.2.7", "192.0.2.7:0"),
        ("For=\"192.0.2.7:50000\";proto=https;by=_p", "192.0.2.7:50000"),
        ("for=\"[2001:db8::7]:443\"", "[2001:db8::7]:443"),
        ("for=127.0.0.1;host=\"a,b\", for=192.0.2.7;host=\"localhost:8443\", for=10.1.1.1", "192.0.2.7:0"),
        // A quote that somebody left open swallows nothing of what the proxy wrote.
        ("for=127.0.0.1;x=\", for=192.0.2.7;by=\"_p\"", "192.0.2.7:0"),
        ("for=\"127.0.0.1, for=192.0.2.7", "refused"),
        ("for=_hidden, for=10.1.1.1", "10.1.1.1:0"),
        ("for=unknown", "none"),
        ("for=\"_a:_b\"", "none"),
        ("for=192.0.2.7, ", "192.0.2.7:0"),
        ("proto=https", "refused"),
        ("for=192.0.2.7;for=192.0.2.8", "refused"),
        ("for=192.0.2.7;proto=ftp", "refused"),
        ("for=192.0.2.7;host=\"a b\"", "refused"),
        ("for=\"192.0.2.\\7\"", "refused"),
        ("for=2001:db8::7", "refused"),
        ("for=\"2001:db8::7\"", "refused"),
        ("for = 192.0.2.7", "refused"),
        ("192.0.2.7", "refused"),
    ] {
        assert_eq!(client(ForwardedField::Forwarded, &[("forwarded", value)]), wanted, "{value}");
    }
}

#[test]
fn only_the_configured_field_of_a_listed_proxy_is_read() {
    let both = [("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.8")];
    assert_eq!(client(ForwardedField::Forwarded, &both), "192.0.2.7:0");
    assert_eq!(client(ForwardedField::XForwarded, &both), "192.0.2.8:0");
    assert_eq!(client(ForwardedField::Forwarded, &both[1..]), "none");
    let stranger = "192.0.2.1".parse().unwrap();
    assert_eq!(told(&listed(ForwardedField::Forwarded), stranger, &headers(&both)), Ok(None));
    let rubbish = headers(&[("forwarded", "\"")]);
    assert_eq!(told(&listed(ForwardedField::Forwarded), stranger, &rubbish), Ok(None), "it is not even read");
}

#[test]
fn what_the_client_spoke_and_asked_for_is_told() {
    let lines =
        [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http, https"), ("x-forwarded-host", "a.example")];
    let told_of = |lines: &[(&str, &str)]| told(&listed(ForwardedField::XForwarded), PROXY, &headers(lines));
    let known = told_of(&lines).unwrap().unwrap();
    assert_eq!((known.is_tls, known.host.as_deref()), (Some(true), Some("a.example")));
    for bad in [("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b"), ("x-forwarded-host", "\u{e9}")] {
        assert_eq!(told_of(&[lines[0], bad]), Err(Refusal::ForwardedMalformed), "{bad:?}");
    }
    let headers = headers(&[("forwarded", "for=192.0.2.7;proto=http;host=\"a.example:80\"")]);
    let known = told(&listed(ForwardedField::Forwarded), PROXY, &headers).unwrap().unwrap();
    assert_eq!((known.is_tls, known.host.as_deref()), (Some(false), Some("a.example:80")));
}

proptest! {
    /// Whatever a client writes, what the proxy adds behind it is what counts.
    #[test]
    fn nobody_speaks_for_a_proxy(spoof in "[ -~]{0,80}", port in 1u16.., is_forwarded: bool) {
        let wanted = format!("192.0.2.7:{port}");
        let (field, name, added) = if is_forwarded {
            (ForwardedField::Forwarded, "forwarded", format!("for=\"{wanted}\";proto=https"))
        } else {
            (ForwardedField::XForwarded, "x-forwarded-for", wanted.clone())
        };
        let line = format!("{spoof}, {added}");
        prop_assert_eq!(client(field, &[(name, &line)]), wanted.clone());
        prop_assert_eq!(client(field, &[(name, spoof.trim()), (name, &added)]), wanted);
    }
}
