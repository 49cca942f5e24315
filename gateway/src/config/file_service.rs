//! Reading `[[service]]`.

use std::net::{IpAddr, SocketAddr};

use policy::ServiceName;

use super::file::Names;
use super::file_listener::check_host;
use super::table::{Table, Text};
use super::{Backend, BackendTls, Service, knob};
use crate::upstream::MAX_SERVERS;

pub(super) fn service(table: &Table<'_>, names: &mut Names) -> Option<Service> {
    let name = table.text("name").and_then(|text| {
        names.take(table, &text);
        match ServiceName::new(text.text) {
            Ok(name) => Some(name),
            Err(_) => {
                table.refuse(&text, "it must be 1 to 128 letters, digits, `-`, `_` and `.`, and not `.` or `..`");
                None
            }
        }
    });
    let backends = backends(table);
    let tls = table.section("tls", |tls| tls.is_present().then(|| backend_tls(tls)));
    let secure = agreed_scheme(table, &backends);
    match (secure, &tls) {
        (Some(true), None) => {
            let why = "its backends are `https`, so the authorities that vouch for them must be named";
            table.problem("tls", format!("`{}.ca_file` is missing; {why}", table.key("tls")));
        }
        (Some(false), Some(_)) => {
            table.problem("tls", format!("`{}` has no use: the backends are `http`", table.key("tls")));
        }
        (Some(true), Some(_)) | (Some(false), None) | (None, _) => {}
    }
    let http2 = table.boolean("http2", false);
    let proxy_protocol = table.choice("proxy_protocol", false, &[("off", false), ("v2", true)]);
    if proxy_protocol && http2 {
        let (own, other) = (table.key("proxy_protocol"), table.key("http2"));
        let why = "an HTTP/2 connection carries the requests of all clients, and its header names one";
        table.problem("proxy_protocol", format!("`{own}` is `v2`, and `{other}` is true: {why}"));
    }
    let idle_connections = knob::size(table.number("idle_connections", &knob::IDLE_CONNECTIONS));
    let connect_timeout = table.millis("connect_timeout_ms", &knob::CONNECT_TIMEOUT_MS);
    let response_timeout = table.millis("response_timeout_ms", &knob::RESPONSE_TIMEOUT_MS);
    let idle_timeout = table.millis("idle_timeout_ms", &knob::IDLE_TIMEOUT_MS);
    let keepalive = table.millis("keepalive_ms", &knob::KEEPALIVE_MS);
    let audience = table.text_optional("identity_audience");
    if let Some(text) = audience.as_ref().filter(|text| text.text.is_empty()) {
        table.refuse(text, "it must not be empty");
    }
    let resilience = super::file_resilience::resilience(table, &backends, http2);
    let name = name?;
    let identity_audience = audience.map_or_else(|| name.as_str().to_owned(), |text| text.text.to_owned());
    Some(Service {
        name,
        backends: backends.into_iter().map(|(_, backend)| backend).collect(),
        tls: match tls {
            None => None,
            Some(tls) => Some(tls?),
        },
        http2,
        proxy_protocol,
        idle_connections,
        connect_timeout,
        response_timeout,
        idle_timeout,
        keepalive,
        identity_audience,
        resilience,
    })
}

fn backend_tls(table: &Table<'_>) -> Option<BackendTls> {
    let ca_file = table.path("ca_file");
    let certificate_file = table.path_optional("certificate_file");
    let key_file = table.path_optional("key_file");
    for (key, file, other) in
        [("certificate_file", &certificate_file, &key_file), ("key_file", &key_file, &certificate_file)]
    {
        if file.is_none() && other.is_some() {
            let why = "`certificate_file` and `key_file` go together";
            table.problem(key, format!("`{}` is missing; {why}", table.key(key)));
        }
    }
    let server_name = table.text_optional("server_name");
    if let Some(text) = &server_name
        && let Err(why) = check_host(text.text)
    {
        table.refuse(text, &why);
    }
    Some(BackendTls {
        ca_file: ca_file?,
        crl_files: table.paths_optional("crl_files"),
        identity: certificate_file.zip(key_file),
        server_name: server_name.map(|text| text.text.to_owned()),
    })
}

fn backends(table: &Table<'_>) -> Vec<(bool, Backend)> {
    let mut backends: Vec<(bool, Backend)> = Vec::new();
    for text in table.texts("backends") {
        match parse_backend(&text) {
            Err(why) => table.refuse(&text, &why),
            Ok(backend) if backends.contains(&backend) => table.refuse(&text, "it is there twice"),
            Ok(backend) => backends.push(backend),
        }
    }
    if backends.len() > MAX_SERVERS {
        let (key, count) = (table.key("backends"), backends.len());
        table.problem("backends", format!("`{key}` has {count} servers; at most {MAX_SERVERS} are balanced over"));
    }
    backends
}

/// Whether the backends speak TLS, where they agree.
fn agreed_scheme(table: &Table<'_>, backends: &[(bool, Backend)]) -> Option<bool> {
    let (first, _) = backends.first()?;
    if backends.iter().all(|(secure, _)| secure == first) {
        return Some(*first);
    }
    let key = table.key("backends");
    table.problem("backends", format!("`{key}` mixes `http` and `https`; the backends of a service are reached alike"));
    None
}

/// `http://host:port` or `https://host:port`, and whether it is the second.
pub(super) fn parse_backend(text: &Text<'_>) -> Result<(bool, Backend), String> {
    let (secure, authority) = if let Some(rest) = text.text.strip_prefix("http://") {
        (false, rest)
    } else if let Some(rest) = text.text.strip_prefix("https://") {
        (true, rest)
    } else {
        return Err("it must begin with `http://` or `https://`".to_owned());
    };
    for (mark, what) in [('@', "user information"), ('?', "a query"), ('#', "a fragment"), ('/', "a path")] {
        if authority.contains(mark) {
            return Err(format!("it must not have {what}, only scheme, host and port"));
        }
    }
    let no_port = "it must end in a port, such as `:8080`";
    let (bracketed, port) = authority.rsplit_once(':').ok_or(no_port)?;
    let host = match bracketed.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|host| host.contains(':')).ok_or(no_port)?,
        None if bracketed.contains(':') => return Err("an IPv6 address stands in brackets".to_owned()),
        None => bracketed,
    };
    check_host(host)?;
    if port.is_empty() {
        return Err(no_port.to_owned());
    }
    let number = port.parse().ok().filter(|number: &u16| *number > 0 && number.to_string() == port);
    let port = number.ok_or_else(|| format!("its port `{}` is not one of 1 to 65535", port.escape_debug()))?;
    let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    Ok((secure, Backend { authority: authority.to_owned(), host: host.to_owned(), address, port }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<(bool, Backend), String> {
        parse_backend(&Text { text, key: String::new(), span: 0..0 })
    }

    #[test]
    fn a_backend_is_scheme_host_and_port() {
        let (secure, backend) = parse("http://127.0.0.1:8080").unwrap();
        assert!(!secure);
        assert_eq!(backend.authority, "127.0.0.1:8080");
        assert_eq!(backend.address, Some("127.0.0.1:8080".parse().unwrap()));
        let (secure, backend) = parse("https://fhir.internal:443").unwrap();
        assert!(secure);
        assert_eq!((backend.host.as_str(), backend.port, backend.address), ("fhir.internal", 443, None));
        let (_, backend) = parse("http://[::1]:80").unwrap();
        assert_eq!((backend.authority.as_str(), backend.host.as_str()), ("[::1]:80", "::1"));
        assert_eq!(backend.address, Some("[::1]:80".parse().unwrap()));
        for (bad, why) in [
            ("127.0.0.1:8080", "begin with"),
            ("ftp://a:1", "begin with"),
            ("HTTP://a:1", "begin with"),
            ("http://a", "end in a port"),
            ("http://a:", "end in a port"),
            ("http://[::1]", "end in a port"),
            ("http://::1:80", "in brackets"),
            ("http://[127.0.0.1]:80", "end in a port"),
            ("http://a:80/", "a path"),
            ("http://a:80/fhir", "a path"),
            ("http://u:p@a:80", "user information"),
            ("http://a:80?x", "a query"),
            ("http://a:80#x", "a fragment"),
            ("http://a:0", "port `0`"),
            ("http://a:080", "port `080`"),
            ("http://a:+80", "port `+80`"),
            ("http://a:65536", "port `65536`"),
            ("http://:80", "host name"),
            ("http://A:80", "lower case"),
        ] {
            assert!(parse(bad).unwrap_err().contains(why), "{bad}: {:?}", parse(bad));
        }
    }

    proptest! {
        #[test]
        fn an_accepted_backend_is_written_back_the_same(text in "https?://[a-z0-9.:\\[\\]/@]{0,24}") {
            if let Ok((secure, backend)) = parse(&text) {
                let scheme = if secure { "https" } else { "http" };
                let host = if backend.host.contains(':') { format!("[{}]", backend.host) } else { backend.host.clone() };
                prop_assert_eq!(format!("{scheme}://{host}:{}", backend.port), text.clone());
                prop_assert!(text.ends_with(&backend.authority));
            }
        }
    }
}
