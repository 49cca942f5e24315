//! Reading `[[listener.stream]]`.

use gateway_clinical::dicom::AeTitle;
use policy::route::RouteDefinition;
use policy::{InformationClass, RouteName, ServiceName};

use super::document::quoted;
use super::file::Names;
use super::knob;
use super::stream::{Stream, StreamProtocol};
use super::table::Table;
use super::{Listener, Service};

/// AE titles of one service: an operator's list.
const MAX_TITLES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Dicom,
    Hl7,
}

/// One port's. `ports` are those that carry HTTP inside tunnels; none of a listener of kind `tcp`.
pub(super) fn stream(table: &Table<'_>, ports: Option<&[u16]>) -> Option<Stream> {
    let port = match ports {
        Some(ports) => Some(port(table, ports)),
        None => {
            table.no_section("port", "is for tunnels: `address` says where this listener is");
            None
        }
    };
    let kind = table.choice("protocol", Kind::Raw, &[("raw", Kind::Raw), ("dicom", Kind::Dicom), ("hl7", Kind::Hl7)]);
    let why = "it must be 1 to 128 letters, digits, `-`, `_` and `.`, and not `.` or `..`";
    let named = |key: &'static str| {
        let text = table.text(key)?;
        let known = ServiceName::new(text.text).is_ok();
        if !known {
            table.refuse(&text, why);
        }
        known.then(|| text.text.to_owned())
    };
    let route = named("route").and_then(|name| RouteName::new(&name).ok());
    let service = named("service").and_then(|name| ServiceName::new(&name).ok());
    let class = named("class").and_then(|name| InformationClass::new(&name).ok());
    let idle_timeout = table.millis("idle_timeout_ms", &knob::STREAM_IDLE_TIMEOUT_MS);
    let message_timeout = table.millis("message_timeout_ms", &knob::MESSAGE_TIMEOUT_MS);
    let message_bytes = knob::size(table.number("message_bytes", &knob::MESSAGE_BYTES));
    let called_titles = titles(table, kind);
    let other_separators = table.boolean("other_separators", false);
    if other_separators && kind != Kind::Hl7 {
        no_use(table, "other_separators", "hl7");
    }
    let protocol = match kind {
        Kind::Raw => StreamProtocol::Raw,
        Kind::Dicom => StreamProtocol::Dicom { called_titles },
        Kind::Hl7 => StreamProtocol::Hl7 { other_separators },
    };
    Some(Stream {
        port: match port {
            Some(port) => Some(port?),
            None => None,
        },
        protocol,
        route: route?,
        service: service?,
        class: class?,
        idle_timeout,
        message_timeout,
        message_bytes,
    })
}

fn no_use(table: &Table<'_>, key: &'static str, protocol: &str) {
    let (own, other) = (table.key(key), table.key("protocol"));
    table.problem(key, format!("`{own}` is there, and `{other}` is not `{protocol}`"));
}

fn port(table: &Table<'_>, ports: &[u16]) -> Option<u16> {
    let number = table.number("port", &knob::STREAM_PORT);
    let port = u16::try_from(number).ok();
    if port.is_some_and(|port| ports.contains(&port)) {
        let own = table.key("port");
        table.problem("port", format!("`{own}` is {number}, which `wireguard.ports` has for HTTP"));
    }
    port
}

fn titles(table: &Table<'_>, kind: Kind) -> Vec<String> {
    let texts = table.texts_optional("called_titles");
    if kind != Kind::Dicom && !texts.is_empty() {
        no_use(table, "called_titles", "dicom");
    }
    if (kind == Kind::Dicom && texts.is_empty()) || texts.len() > MAX_TITLES {
        let own = table.key("called_titles");
        table.problem("called_titles", format!("`{own}` must list 1 to {MAX_TITLES} AE titles of the service"));
    }
    let mut titles: Vec<String> = Vec::new();
    for text in texts {
        match AeTitle::new(text.text) {
            Some(title) if title.as_str() == text.text && !titles.iter().any(|known| known == text.text) => {
                titles.push(text.text.to_owned());
            }
            Some(_) | None => {
                table.refuse(&text, "it must be an AE title of 1 to 16 printable ASCII characters, there once")
            }
        }
    }
    titles
}

/// What one listener's streams must be together, and with its kind.
pub(super) fn streams(table: &Table<'_>, is_tcp: bool, ports: Option<&[u16]>) -> Option<Vec<Stream>> {
    let own = table.key("stream");
    let Some(elements) = table.elements_optional("stream") else {
        if is_tcp {
            let kind = table.key("kind");
            table.problem("stream", format!("`{own}` is missing: `{kind}` is `tcp`, and nothing says what is spoken"));
            return None;
        }
        return Some(Vec::new());
    };
    if !is_tcp && ports.is_none() {
        let kind = table.key("kind");
        table.problem("stream", format!("`{own}` is there, and `{kind}` is `tls`: HTTP is spoken here"));
    }
    if is_tcp && elements.len() > 1 {
        table.problem("stream", format!("`{own}` has {} elements; one port carries one", elements.len()));
    }
    // Every element is read before one that is wrong spoils all, so that all problems are told.
    let all: Vec<_> = elements.into_iter().map(|element| element.read(|element| stream(element, ports))).collect();
    let all = all.into_iter().collect::<Option<Vec<_>>>()?;
    for (index, one) in all.iter().enumerate() {
        if let Some(port) = one.port.filter(|_| all.iter().take(index).any(|other| other.port == one.port)) {
            table.problem("stream", format!("`{own}` names the port {port} twice"));
        }
    }
    Some(all)
}

/// What streams name: services of `tcp` and `tls` backends, and routes that nothing else is called by.
pub(super) fn check(
    file: &Table<'_>,
    listeners: &[Listener],
    services: (&Names, &[Service]),
    routes: &[RouteDefinition],
) {
    let (names, services) = services;
    let mut taken: Vec<&RouteName> = routes.iter().map(|route| &route.name).collect();
    for (listener, place) in listeners.iter().zip(0..) {
        for (index, stream) in listener.streams.iter().enumerate() {
            let key = |name: &str| format!("listener[{place}].stream[{index}].{name}");
            let told = |name: &str, value: &str, why: &str| {
                let key = key(name);
                file.problem_at(&key, format!("{} is {}; {why}", quoted(&key), quoted(value)));
            };
            if taken.contains(&&stream.route) {
                told("route", stream.route.as_str(), "another route has that name");
            }
            taken.push(&stream.route);
            let service = services.iter().find(|service| service.name == stream.service);
            match service {
                None if !names.taken.iter().any(|name| name == stream.service.as_str()) => {
                    told("service", stream.service.as_str(), "no service has that name");
                }
                Some(service) if !service.is_stream => {
                    told("service", stream.service.as_str(), "its backends are none of `tcp://` or `tls://`");
                }
                // What is wrong with the service is told already.
                Some(_) | None => {}
            }
        }
    }
    for (index, route) in routes.iter().enumerate() {
        if services.iter().any(|service| service.name == route.service && service.is_stream) {
            let key = format!("route[{index}].service");
            let why = "its backends speak no HTTP";
            file.problem_at(&key, format!("{} is {}; {why}", quoted(&key), quoted(route.service.as_str())));
        }
    }
}
