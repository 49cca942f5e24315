//! The opening handshake of WebSocket, from the server's side and from the client's (RFC 6455 section 4), and over HTTP/2
//! (RFC 8441 section 5). The frames that follow are the peers' own business.
//!
//! The gateway answers its client's key itself and asks the backend with a key of its own, so that it knows of each side
//! that it meant to change the protocol, whatever stands in between.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use policy::Refusal;

/// The only version there is (RFC 6455 section 4.1).
pub const VERSION: HeaderValue = HeaderValue::from_static("13");

/// The protocol's name in `Upgrade` and `:protocol`.
pub const PROTOCOL: &str = "websocket";

/// What makes an accept of a key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The one value of a field; none where there is none or more than one.
fn only<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What the holder of a key must hear.
fn accept_of(key: &[u8]) -> Option<HeaderValue> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    HeaderValue::from_str(&STANDARD.encode(hash)).ok()
}

/// Whether the only protocol that a message changes to is WebSocket.
fn is_named(headers: &HeaderMap) -> bool {
    only(headers, &UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

fn says_upgrade(headers: &HeaderMap) -> bool {
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Reads a request over HTTP/1.1 that asks for another protocol; `can_change` says that version, method and framing let
/// it be the opening of a WebSocket. Returns what the client must hear.
///
/// # Errors
/// [`Refusal::UpgradeRefused`] for another protocol, [`Refusal::WebsocketMalformed`].
pub fn opening(headers: &HeaderMap, can_change: bool) -> Result<HeaderValue, Refusal> {
    if !is_named(headers) || !says_upgrade(headers) {
        return Err(Refusal::UpgradeRefused);
    }
    if !can_change {
        return Err(Refusal::WebsocketMalformed);
    }
    has_version(headers)?;
    let key = only(headers, &SEC_WEBSOCKET_KEY).ok_or(Refusal::WebsocketMalformed)?;
    match STANDARD.decode(key) {
        Ok(bytes) if bytes.len() == 16 => accept_of(key.as_bytes()).ok_or(Refusal::WebsocketMalformed),
        Ok(_) | Err(_) => Err(Refusal::WebsocketMalformed),
    }
}

/// Whether the version is the only one there is.
///
/// # Errors
/// [`Refusal::WebsocketMalformed`].
pub fn has_version(headers: &HeaderMap) -> Result<(), Refusal> {
    if only(headers, &SEC_WEBSOCKET_VERSION) == Some(&VERSION) { Ok(()) } else { Err(Refusal::WebsocketMalformed) }
}

/// Writes into a request's cleaned fields what asks a backend for a WebSocket, with a key of the gateway's own.
///
/// # Errors
/// If there is no randomness.
pub fn ask(headers: &mut HeaderMap) -> Result<(), aws_lc_rs::error::Unspecified> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce)?;
    let key = HeaderValue::from_str(&STANDARD.encode(nonce)).map_err(|_| aws_lc_rs::error::Unspecified)?;
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    headers.insert(SEC_WEBSOCKET_KEY, key);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    Ok(())
}

/// Whether a backend's 101 is the right answer to what was asked (RFC 6455 section 4.1, row C3). Leaves the fields that
/// are the client's: extensions, subprotocol and whatever belongs to no connection.
///
/// # Errors
/// What is wrong with it.
pub fn agreed(asked: &HeaderMap, answer: &mut HeaderMap) -> Result<(), &'static str> {
    if !is_named(answer) || !says_upgrade(answer) {
        return Err("the answer changes to another protocol");
    }
    let wanted = asked.get(SEC_WEBSOCKET_KEY).and_then(|key| accept_of(key.as_bytes()));
    if wanted.is_none() || only(answer, &SEC_WEBSOCKET_ACCEPT) != wanted.as_ref() {
        return Err("Sec-WebSocket-Accept is not the key's");
    }
    let offered = |chosen: &HeaderValue| {
        let offers =
            asked.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        offers.map(<[u8]>::trim_ascii).any(|offer| offer == chosen.as_bytes())
    };
    if answer.contains_key(SEC_WEBSOCKET_PROTOCOL) && !only(answer, &SEC_WEBSOCKET_PROTOCOL).is_some_and(offered) {
        return Err("the subprotocol is none that was offered");
    }
    if answer.contains_key(SEC_WEBSOCKET_EXTENSIONS) && !asked.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err("an extension that was not offered");
    }
    answer.remove(SEC_WEBSOCKET_ACCEPT);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = map(GOOD);
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_key_of_rfc_6455_is_answered_as_it_says() {
        assert_eq!(opening(&map(GOOD), true).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(opening(&map(GOOD), false), Err(Refusal::WebsocketMalformed));
    }

    #[test]
    fn c3_what_is_no_opening_is_refused() {
        for (name, value) in
            [("upgrade", "h2c"), ("upgrade", "websocket, h2c"), ("upgrade", "websocket/13"), ("connection", "close")]
        {
            assert_eq!(opening(&with(name, value), true), Err(Refusal::UpgradeRefused), "{name}: {value}");
        }
        for (name, value) in [
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", "13, 8"),
            ("sec-websocket-key", ""),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"),
            ("sec-websocket-key", "dGhlIHNhbXBsZQ=="),
        ] {
            assert_eq!(opening(&with(name, value), true), Err(Refusal::WebsocketMalformed), "{name}: {value}");
        }
        for name in ["upgrade", "sec-websocket-version", "sec-websocket-key"] {
            let mut twice = map(GOOD);
            let value = twice[name].clone();
            twice.append(name, value);
            assert!(opening(&twice, true).is_err(), "two of {name}");
        }
    }

    #[test]
    fn c3_only_the_answer_to_our_own_key_opens() {
        let mut asked = map(&[("sec-websocket-protocol", "a, b"), ("sec-websocket-accept", "x")]);
        ask(&mut asked).unwrap();
        assert!(!asked.contains_key("sec-websocket-accept"));
        let right = accept_of(asked[SEC_WEBSOCKET_KEY].as_bytes()).unwrap();
        let answer = |fields: &[(&'static str, &'static str)]| {
            let mut answer = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
            answer.insert(SEC_WEBSOCKET_ACCEPT, right.clone());
            for (name, value) in fields {
                answer.insert(*name, HeaderValue::from_static(value));
            }
            answer
        };
        let mut good = answer(&[("sec-websocket-protocol", "b"), ("x-other", "y")]);
        assert_eq!(agreed(&asked, &mut good), Ok(()));
        assert!(!good.contains_key(SEC_WEBSOCKET_ACCEPT) && good.contains_key("x-other"));
        for bad in [
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-protocol", "c"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ] {
            assert!(agreed(&asked, &mut answer(&[bad])).is_err(), "{bad:?}");
        }
        let mut twice = answer(&[]);
        twice.append(SEC_WEBSOCKET_ACCEPT, right.clone());
        assert!(agreed(&asked, &mut twice).is_err());
        let mut none = answer(&[]);
        none.remove(SEC_WEBSOCKET_ACCEPT);
        assert!(agreed(&asked, &mut none).is_err());
    }

    #[test]
    fn each_key_is_new() {
        let (mut one, mut other) = (HeaderMap::new(), HeaderMap::new());
        ask(&mut one).unwrap();
        ask(&mut other).unwrap();
        assert_ne!(one[SEC_WEBSOCKET_KEY], other[SEC_WEBSOCKET_KEY]);
        assert_eq!(STANDARD.decode(&one[SEC_WEBSOCKET_KEY]).unwrap().len(), 16);
    }
}
