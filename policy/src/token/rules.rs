//! What an issuer's tokens must say, and what is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::{Fault, Now, Said};
use crate::{AuthenticationLevel, RoleName, SiteName, UserName};

const NS: i128 = 1_000_000_000;
/// Roles that are read from one token.
const MAX_ROLES: usize = 256;

/// Which tokens an issuer's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// `typ` is `at+jwt`: an access token by RFC 9068, which no ID token can be taken for.
    AccessToken,
    /// `typ` is `JWT`, `at+jwt` or absent, for issuers that know no better. No other kind of token names itself so, but an
    /// ID token does: only the audience tells them apart.
    Jwt,
    /// `typ` is `JWT` or absent: an ID token. Nothing that names itself otherwise is one.
    IdToken,
    /// `typ` is `logout+jwt`, or `JWT` or absent, for providers that know no better (OpenID Connect Back-Channel Logout 1.0
    /// section 2.4). What tells it from an ID token are its claims.
    LogoutToken,
}

impl TokenType {
    /// Whether a header's `typ` is one of its own (RFC 7515 4.1.9: without regard to case, `application/` may stand before it).
    pub(super) fn takes(self, kind: Option<&str>) -> bool {
        let is = |wanted: &str| {
            kind.is_some_and(|kind| {
                kind.eq_ignore_ascii_case(wanted)
                    || kind.split_once('/').is_some_and(|(group, rest)| {
                        group.eq_ignore_ascii_case("application") && rest.eq_ignore_ascii_case(wanted)
                    })
            })
        };
        match self {
            Self::AccessToken => is("at+jwt"),
            Self::Jwt => kind.is_none() || is("jwt") || is("at+jwt"),
            Self::IdToken => kind.is_none() || is("jwt"),
            Self::LogoutToken => kind.is_none() || is("jwt") || is("logout+jwt"),
        }
    }
}

/// Whether tokens must be bound to the client's certificate (RFC 8705 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A token without `cnf` is refused.
    Required,
    /// A token without `cnf` is taken from any device; one with it only from its own.
    Optional,
}

/// Which sites' users an issuer knows. A name means somebody at a site: without this, `tanaka` of one clinic would be
/// taken for `tanaka` of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sites {
    /// A name is the same person at every site; the operator says so.
    All,
    /// The users of these sites.
    Of(Vec<SiteName>),
    /// A claim names the user's site, or a list of them.
    Claim(String),
}

/// What an issuer's tokens must be. A pointer (RFC 6901) says where a claim stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What the gateway calls the issuer.
    pub name: Arc<str>,
    /// The exact `iss`.
    pub issuer: String,
    /// Names of this gateway, one of which `aud` must have.
    pub audiences: Vec<String>,
    /// Algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// The type of its tokens.
    pub kind: TokenType,
    /// Whether they are bound to certificates.
    pub binding: Binding,
    /// Where the user's name in the registry stands.
    pub user: String,
    /// Whose users it knows.
    pub sites: Sites,
    /// Where roles and departments stand, a string or a list of them each; empty where the registry's roles alone count.
    pub roles: Vec<String>,
    /// Roles by what the token calls them. Empty: the token's are names of roles, and the user has those that the registry
    /// gives as well. Otherwise these are given beside the registry's.
    pub role_map: BTreeMap<String, RoleName>,
    /// Values of `acr` that stand for two factors.
    pub two_factor_acr: Vec<String>,
    /// Values of `amr` (RFC 8176) of which any stands for two factors.
    pub two_factor_amr: Vec<String>,
    /// How far the issuer's clock may be ahead of ours, seconds.
    pub leeway_s: u32,
    /// How far in the future `exp` may be, seconds.
    pub max_lifetime_s: u32,
}

/// What a token's roles mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// Those of the registry.
    Registry,
    /// Those of the registry that are among these as well.
    Only(Vec<RoleName>),
    /// Those of the registry, and these by the operator's mapping.
    And(Vec<RoleName>),
}

impl Rules {
    /// Judges the claims of a token whose signature was checked, or that its issuer vouched for.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn judge(&self, claims: &Map<String, Value>, now: Now) -> Result<Said, Fault> {
        let malformed = Fault::Malformed;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(malformed("its `iss` is another"));
        }
        let for_us = |audience: &Value| audience.as_str().is_some_and(|audience| self.is_ours(audience));
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(for_us),
            Some(audience) => for_us(audience),
            None => false,
        };
        if !is_for_us {
            return Err(malformed("its `aud` is another"));
        }
        let (expires_ns, begins_ns) = self.times(claims, now)?;
        let thumbprint = self.thumbprint(claims)?;
        let root = Pointed(claims);
        let user = root.text(&self.user).ok_or(malformed("it names no user"))?;
        let user = UserName::new(user).map_err(|_| malformed("its user is no name"))?;
        let actor = claims.get("act").map(|act| self.actor(act)).transpose()?;
        let sites = match &self.sites {
            Sites::All => None,
            Sites::Of(sites) => Some(sites.clone()),
            Sites::Claim(pointer) => {
                let names = root.texts(pointer).ok_or(malformed("it names no site"))?;
                Some(names.iter().filter_map(|name| SiteName::new(name).ok()).collect())
            }
        };
        let names: Vec<&str> = self.roles.iter().flat_map(|pointer| root.texts(pointer).unwrap_or_default()).collect();
        let said = if self.roles.is_empty() {
            Roles::Registry
        } else if self.role_map.is_empty() {
            Roles::Only(names.iter().filter_map(|name| RoleName::new(name).ok()).collect())
        } else {
            Roles::And(names.iter().filter_map(|name| self.role_map.get(*name).cloned()).collect())
        };
        let has = |claim: &str, wanted: &[String]| {
            let pointer = format!("/{claim}");
            let found = root.texts(&pointer).unwrap_or_default();
            found.iter().any(|value| wanted.iter().any(|wanted| wanted == value))
        };
        let two = has("acr", &self.two_factor_acr) || has("amr", &self.two_factor_amr);
        let level = if two { AuthenticationLevel::TwoFactor } else { AuthenticationLevel::User };
        // One that lies ahead would make the token younger than it is.
        let latest_ns = now.unix_ns.saturating_add(now.error_ns);
        let ahead_ns = latest_ns.saturating_add(i64::from(self.leeway_s).saturating_mul(1_000_000_000));
        let authenticated_ns = claims.get("auth_time").and_then(numeric_date).filter(|time| *time <= ahead_ns);
        let issuer = Arc::clone(&self.name);
        Ok(Said { issuer, user, actor, sites, roles: said, level, authenticated_ns, thumbprint, expires_ns, begins_ns })
    }

    /// Who acts, named as the user is. Those who acted before, within it, count for nothing (RFC 8693 section 4.1).
    fn actor(&self, act: &Value) -> Result<UserName, Fault> {
        let malformed = Fault::Malformed("its `act` names no user of the issuer");
        let act = act.as_object().ok_or(malformed)?;
        if act.get("iss").is_some_and(|issuer| issuer.as_str() != Some(&self.issuer)) {
            return Err(malformed);
        }
        let name = Pointed(act).text(&self.user).ok_or(malformed)?;
        UserName::new(name).map_err(|_| malformed)
    }

    fn is_ours(&self, audience: &str) -> bool {
        self.audiences.iter().any(|own| own == audience)
    }

    /// When it ends and begins. The bound on our clock's error counts against the token at its end; an issuer whose clock is a
    /// little ahead is forgiven at its beginning.
    fn times(&self, claims: &Map<String, Value>, now: Now) -> Result<(i64, i64), Fault> {
        let at =
            |name: &str| claims.get(name).map(|value| numeric_date(value).ok_or(Fault::Malformed("a date is none")));
        let expires_ns = at("exp").ok_or(Fault::Malformed("it has no `exp`"))??;
        let leeway_ns = i64::from(self.leeway_s).saturating_mul(1_000_000_000);
        let mut begins_ns = i64::MIN;
        for name in ["nbf", "iat"] {
            if let Some(time) = at(name) {
                begins_ns = begins_ns.max(time?.saturating_sub(leeway_ns));
            }
        }
        let most_ns = i64::from(self.max_lifetime_s).saturating_mul(1_000_000_000);
        if expires_ns > now.unix_ns.saturating_add(now.error_ns).saturating_add(most_ns) {
            return Err(Fault::Malformed("its `exp` is further ahead than `max_lifetime_s`"));
        }
        Ok((expires_ns, begins_ns))
    }

    fn thumbprint(&self, claims: &Map<String, Value>) -> Result<Option<[u8; 32]>, Fault> {
        match (claims.get("cnf"), self.binding) {
            (None, Binding::Optional) => Ok(None),
            (None, Binding::Required) => Err(Fault::NotBound),
            // Bound in a way that is not checked here counts as bound to somebody else.
            (Some(confirmation), _) => {
                let members = confirmation.as_object().filter(|members| members.len() == 1);
                let text = members.and_then(|members| members.get("x5t#S256")).and_then(Value::as_str);
                let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
                bytes.and_then(|bytes| bytes.try_into().ok()).map(Some).ok_or(Fault::NotBound)
            }
        }
    }
}

/// A NumericDate (RFC 7519 2) in nanoseconds since 1970; fractions are cut off. Dates before 1970 and after 9999 are none.
pub(crate) fn numeric_date(value: &Value) -> Option<i64> {
    const YEAR_9999: f64 = 253_402_300_800.0;
    let seconds = value.as_f64().filter(|seconds| (0.0..YEAR_9999).contains(seconds))?;
    let whole = match value.as_i64() {
        Some(whole) => i128::from(whole),
        #[expect(clippy::cast_possible_truncation, reason = "cut off on purpose, and within the bounds above")]
        None => i128::from(seconds as i64),
    };
    // What is later than nanoseconds can say is as late as they can say.
    Some(i64::try_from(whole * NS).unwrap_or(i64::MAX))
}

/// Claims by pointers.
struct Pointed<'c>(&'c Map<String, Value>);

impl<'c> Pointed<'c> {
    fn at(&self, pointer: &str) -> Option<&'c Value> {
        let rest = pointer.strip_prefix('/')?;
        let (first, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        self.0.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(below)
    }

    fn text(&self, pointer: &str) -> Option<&'c str> {
        self.at(pointer)?.as_str()
    }

    /// A string, or a list of strings.
    fn texts(&self, pointer: &str) -> Option<Vec<&'c str>> {
        match self.at(pointer)? {
            Value::String(text) => Some(vec![text]),
            Value::Array(values) if values.len() <= MAX_ROLES => values.iter().map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Whether a text is a pointer into claims (RFC 6901), not to all of them.
#[must_use]
pub fn is_claim(pointer: &str) -> bool {
    let escapes_are_whole = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    pointer.len() > 1 && pointer.len() <= 256 && pointer.starts_with('/') && escapes_are_whole
}
