//! Reading `[[token_issuer]]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use policy::token::{Algorithm, Binding, Rules, Sites, TokenType, is_claim};
use policy::{RoleName, SiteName};

use super::file::Names;
use super::file_listener::is_label;
use super::table::{Table, Text};
use super::{Introspection, TokenIssuer, TokenSource, knob};

/// `state` is the store's folder.
pub(super) fn issuer(table: &Table<'_>, names: &mut Names, state: Option<&Path>) -> Option<TokenIssuer> {
    let audiences = filled(table, table.texts("audiences"));
    let kind =
        table.choice("type", TokenType::AccessToken, &[("at+jwt", TokenType::AccessToken), ("JWT", TokenType::Jwt)]);
    let binding =
        table.choice("bound", Binding::Required, &[("required", Binding::Required), ("optional", Binding::Optional)]);
    let roles = table.texts_optional("role_claims");
    roles.iter().for_each(|text| check_claim(table, text));
    let role_map = role_map(table);
    if roles.is_empty() && !role_map.is_empty() {
        table.problem("roles", format!("`{}` has no use without `role_claims`", table.key("roles")));
    }
    let roles = roles.into_iter().map(|text| text.text.to_owned()).collect();
    let rules = identity(table, names, (audiences, kind));
    let name = rules.as_ref().map(|rules| Arc::clone(&rules.name)).unwrap_or_default();
    let source = source(table, &name, state);
    let rules = Rules { binding, roles, role_map, ..rules? };
    Some(TokenIssuer { rules: Arc::new(rules), source: source? })
}

/// What is asked about every provider: who it is, and whom its tokens name. Roles are the registry's, and no token is bound.
pub(super) fn identity(
    table: &Table<'_>,
    names: &mut Names,
    (audiences, kind): (Vec<String>, TokenType),
) -> Option<Rules> {
    let name = table.text("name").and_then(|text| {
        names.take(table, &text);
        if !is_label(text.text) {
            table.refuse(&text, "it must be 1 to 64 letters, digits, `-`, `_` and `.`");
            return None;
        }
        Some(text.text.to_owned())
    });
    let issuer = table.text("issuer");
    if let Some(text) = issuer.as_ref().filter(|text| text.text.is_empty()) {
        table.refuse(text, "it must be the exact `iss` of its tokens");
    }
    let algorithms = table.texts("algorithms").iter().filter_map(|text| algorithm(table, text)).collect();
    let user = table.text_or("user_claim", "/sub");
    check_claim(table, &user);
    let sites = sites(table);
    let two_factor_acr = filled(table, table.texts_optional("two_factor_acr"));
    let two_factor_amr = filled(table, table.texts_optional("two_factor_amr"));
    let leeway_s = knob::short(table.number("leeway_s", &knob::TOKEN_LEEWAY_S));
    let max_lifetime_s = knob::short(table.number("max_lifetime_s", &knob::TOKEN_MAX_LIFETIME_S));
    Some(Rules {
        name: name?.into(),
        issuer: issuer?.text.to_owned(),
        audiences,
        algorithms,
        kind,
        binding: Binding::Optional,
        user: user.text.to_owned(),
        sites: sites?,
        roles: Vec::new(),
        role_map: BTreeMap::new(),
        two_factor_acr,
        two_factor_amr,
        leeway_s,
        max_lifetime_s,
    })
}

fn filled(table: &Table<'_>, texts: Vec<Text<'_>>) -> Vec<String> {
    texts.iter().filter(|text| text.text.is_empty()).for_each(|text| table.refuse(text, "it must not be empty"));
    texts.into_iter().map(|text| text.text.to_owned()).collect()
}

fn algorithm(table: &Table<'_>, text: &Text<'_>) -> Option<Algorithm> {
    match text.text.parse() {
        Ok(algorithm) => Some(algorithm),
        Err(why) => {
            table.refuse(text, &format!("{why}"));
            None
        }
    }
}

fn check_claim(table: &Table<'_>, text: &Text<'_>) {
    if !is_claim(text.text) {
        table.refuse(text, "it must be a JSON pointer to a claim, such as `/sub` or `/realm_access/roles`");
    }
}

fn sites(table: &Table<'_>) -> Option<Sites> {
    let named = table.texts_optional("sites");
    let claim = table.text_optional("site_claim");
    match (&named[..], claim) {
        ([], Some(claim)) => {
            check_claim(table, &claim);
            Some(Sites::Claim(claim.text.to_owned()))
        }
        ([all], None) if all.text == "*" => Some(Sites::All),
        ([], None) => {
            let why =
                "`sites` or `site_claim` must say whose users the issuer knows: a user's name means somebody at a site";
            table.problem("sites", format!("`{}` is missing; {why}", table.key("sites")));
            None
        }
        (_, Some(_)) => {
            table.problem("site_claim", format!("`{}` has no use beside `sites`", table.key("site_claim")));
            None
        }
        (named, None) => {
            let site = |text: &Text<'_>| match SiteName::new(text.text) {
                Ok(site) => Some(site),
                Err(_) => {
                    table.refuse(text, "it is no site's name; `*` alone stands for all");
                    None
                }
            };
            Some(Sites::Of(named.iter().filter_map(site).collect()))
        }
    }
}

fn role_map(table: &Table<'_>) -> BTreeMap<String, RoleName> {
    let mut map = BTreeMap::new();
    for element in table.elements_optional("roles").unwrap_or_default() {
        element.read(|table| {
            let (claim, role) = (table.text("claim"), table.text("role"));
            let (Some(claim), Some(role)) = (claim, role) else { return };
            match RoleName::new(role.text) {
                Ok(role) => {
                    if map.insert(claim.text.to_owned(), role).is_some() {
                        table.refuse(&claim, "it is mapped twice");
                    }
                }
                Err(_) => table.refuse(&role, "it is no role's name"),
            }
        });
    }
    map
}

/// Exactly one of the three ways.
fn source(table: &Table<'_>, name: &str, state: Option<&Path>) -> Option<TokenSource> {
    let file = table.path_optional("jwks_file");
    let fetched = table.text_optional("jwks_uri");
    let asked = table.text_optional("introspection_uri");
    let ca_file = table.path_optional("ca_file");
    let timeout = table.millis("timeout_ms", &knob::TOKEN_TIMEOUT_MS);
    let refresh = table.seconds("refresh_s", &knob::TOKEN_REFRESH_S);
    let grace = table.seconds("grace_s", &knob::TOKEN_GRACE_S);
    let cache = table.seconds("cache_s", &knob::TOKEN_CACHE_S);
    let client = table.text_optional("client_id");
    let secret = table.path_optional("client_secret_file");
    let certificate = table.path_optional("certificate_file");
    let key = table.path_optional("key_file");
    if asked.is_none() && (client.is_some() || secret.is_some() || certificate.is_some() || key.is_some()) {
        let why = "`client_id`, `client_secret_file`, `certificate_file` and `key_file` are for `introspection_uri`";
        table.problem("client_id", why.to_owned());
    }
    if let Some(url) = fetched.as_ref().or(asked.as_ref()) {
        check_url(table, url, ca_file.is_some());
    }
    match (file, fetched, asked) {
        (Some(file), None, None) => Some(TokenSource::File(file)),
        (None, Some(url), None) => {
            let url = url.text.to_owned();
            let cache = state.map(|state| state.join("token-keys").join(format!("{name}.json")))?;
            Some(TokenSource::Fetched { url, ca_file, refresh, grace, timeout, cache })
        }
        (None, None, Some(url)) => {
            let basic = pair(table, "client_id", client.map(|text| text.text.to_owned()), "client_secret_file", secret);
            let identity = pair(table, "certificate_file", certificate, "key_file", key);
            if basic.is_none() && identity.is_none() {
                let why =
                    "`client_id` and `client_secret_file`, or `certificate_file` and `key_file`, must say who asks";
                table.problem("introspection_uri", format!("`{}`: {why}", url.key));
            }
            let url = url.text.to_owned();
            Some(TokenSource::Introspection(Introspection { url, ca_file, basic, identity, cache, timeout }))
        }
        (_, _, _) => {
            let why = "there must be exactly one of `jwks_uri`, `jwks_file` and `introspection_uri`";
            table.problem("jwks_uri", format!("`{}`: {why}", table.key("jwks_uri")));
            None
        }
    }
}

/// Both, or neither.
pub(super) fn pair<A, B>(
    table: &Table<'_>,
    a: &'static str,
    first: Option<A>,
    b: &'static str,
    second: Option<B>,
) -> Option<(A, B)> {
    match (first, second) {
        (Some(first), Some(second)) => Some((first, second)),
        (None, None) => None,
        (first, _) => {
            let key = if first.is_none() { a } else { b };
            table.problem(key, format!("`{}` is missing; `{a}` and `{b}` go together", table.key(key)));
            None
        }
    }
}

pub(super) fn check_url(table: &Table<'_>, url: &Text<'_>, has_authorities: bool) {
    let parsed = url.text.parse::<http::Uri>().ok();
    let host = parsed.as_ref().and_then(http::Uri::host).map(|host| host.trim_matches(['[', ']']));
    let is_loopback = host.and_then(|host| host.parse::<std::net::IpAddr>().ok()).is_some_and(|ip| ip.is_loopback());
    match parsed.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") if has_authorities => {}
        Some("https") => table.refuse(url, "it needs `ca_file`, the authorities that vouch for its server"),
        Some("http") if is_loopback && !has_authorities => {}
        Some("http") if is_loopback => table.refuse(url, "it is plain text and has no use for `ca_file`"),
        _ => table.refuse(url, "it must be an `https` URL; plain text goes to a loopback address alone"),
    }
}
