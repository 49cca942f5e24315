//! Reading `[[oidc]]` and `[back_channel]`.

use std::path::Path;

use policy::oidc::{discovery_path, origin_of};
use policy::token::TokenType;

use super::file::Names;
use super::file_listener::Addresses;
use super::file_token::{check_url, identity, pair};
use super::table::{Table, Text};
use super::{BackChannel, ClientProof, Oidc, TokenIssuer, TokenSource, knob};

/// `state` is the store's folder.
pub(super) fn oidc(table: &Table<'_>, names: &mut Names, state: Option<&Path>) -> Option<Oidc> {
    let client_id = table.text("client_id");
    let audience = client_id.as_ref().map(|text| text.text.to_owned()).unwrap_or_default();
    if let Some(text) = client_id.as_ref().filter(|text| text.text.is_empty() || !text.text.is_ascii()) {
        table.refuse(text, "it must be what the provider calls the gateway, in ASCII");
    }
    let rules = identity(table, names, (vec![audience.clone()], TokenType::IdToken));
    let issuer = table.peek("issuer");
    let ca_file = table.path_optional("ca_file");
    if let Some(text) = &issuer {
        check_url(table, text, ca_file.is_some());
        if discovery_path(text.text).is_none() {
            table.refuse(
                text,
                "it must be an address without query and fragment: the provider's document stands below it",
            );
        }
    }
    let secret = table.path_optional("client_secret_file");
    let key = table.path_optional("key_file");
    let client = match (secret, key) {
        (Some(secret), None) => Some(ClientProof::Secret(secret)),
        (None, Some(key)) => Some(ClientProof::Key(key)),
        _ => {
            let why = "there must be exactly one of `client_secret_file` and `key_file`";
            table.problem("client_secret_file", format!("`{}`: {why}", table.key("client_secret_file")));
            None
        }
    };
    let origins = origins(table);
    let scope = scope(table);
    let acr_values: Vec<String> =
        table.texts_optional("acr_values").into_iter().filter_map(|text| word(table, &text)).collect();
    let max_age_s = table.number("max_age_s", &knob::OIDC_MAX_AGE_S);
    let login = table.seconds("login_s", &knob::OIDC_LOGIN_S);
    let timeout = table.millis("timeout_ms", &knob::TOKEN_TIMEOUT_MS);
    let refresh = table.seconds("refresh_s", &knob::TOKEN_REFRESH_S);
    let grace = table.seconds("grace_s", &knob::TOKEN_GRACE_S);
    let (rules, client_id) = (rules?, client_id?.text.to_owned());
    let cache = state?.join("token-keys").join(format!("{}.json", rules.name));
    let source = TokenSource::Discovered { ca_file, refresh, grace, timeout, cache };
    let issuer = TokenIssuer { rules: rules.into(), source };
    Some(Oidc { issuer, client_id, client: client?, origins, scope, acr_values, max_age_s, login })
}

/// A word without blanks, as OAuth lists them.
fn word(table: &Table<'_>, text: &Text<'_>) -> Option<String> {
    let is_word =
        !text.text.is_empty() && text.text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    if !is_word {
        table.refuse(text, "it must be a word of printable ASCII without blanks, quotes and backslashes");
    }
    is_word.then(|| text.text.to_owned())
}

fn scope(table: &Table<'_>) -> String {
    let texts = table.texts_optional("scopes");
    let mut words: Vec<String> = texts.iter().filter_map(|text| word(table, text)).collect();
    if words.is_empty() {
        words = vec!["openid".to_owned()];
    }
    if !words.iter().any(|word| word == "openid") {
        table
            .problem("scopes", format!("`{}` lacks `openid`, without which there is no ID token", table.key("scopes")));
    }
    words.join(" ")
}

fn origins(table: &Table<'_>) -> Vec<String> {
    let mut origins = Vec::new();
    for text in table.texts("origins") {
        let is_origin = text.text.starts_with("https://")
            && origin_of(text.text) == Some(text.text)
            && !text.text.ends_with(":443")
            && text.text.to_ascii_lowercase() == text.text;
        if !is_origin {
            table.refuse(
                &text,
                "it must be `https://`, a host in lower case and, unless it is 443, a port, and nothing more",
            );
        } else if origins.iter().any(|known| known == text.text) {
            table.refuse(&text, "it is named twice");
        } else {
            origins.push(text.text.to_owned());
        }
    }
    origins
}

/// An absent table is no such listener; the outer `None` is a problem that is noted.
pub(super) fn back_channel(table: &Table<'_>, addresses: &mut Addresses) -> Option<Option<BackChannel>> {
    let listen = table.text_optional("listen");
    let certificate = table.path_optional("certificate_file");
    let key = table.path_optional("key_file");
    if !table.is_present() {
        return Some(None);
    }
    let Some(listen) = listen else {
        table.problem("listen", format!("`{}` is missing", table.key("listen")));
        return None;
    };
    let listen = addresses.take(table, &listen)?;
    let identity = pair(table, "certificate_file", certificate, "key_file", key);
    if identity.is_none() && !listen.ip().is_loopback() {
        let why = "without `certificate_file` and `key_file` it must be a loopback address";
        table.problem("listen", format!("`{}` is `{listen}`; {why}", table.key("listen")));
    }
    Some(Some(BackChannel { listen, identity }))
}
