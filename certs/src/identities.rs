//! Several identities of one listener: which certificate a server name gets (RFC 6066 3).
//!
//! What a handshake may ask for is settled beforehand: the listener's own server names, each with the identities whose
//! certificates are for it. So nothing is matched in the handshake, and a name that nobody listed gets no certificate
//! instead of a default one (C7).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

use crate::ServerIdentity;

/// The identities of one listener, by server name.
#[derive(Debug, Clone)]
pub struct ServerIdentities {
    // INVARIANT: no list is empty; names are lower case.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Arc<CertifiedKey>,
    uncovered: Vec<String>,
}

impl ServerIdentities {
    /// The identities for `server_names` (lower case). The first is also for clients that name no server: by
    /// RFC 6066 3 those that came to an address.
    ///
    /// An identity with a certificate for the very name goes before one with a wildcard (RFC 9525 6.3: one label,
    /// the leftmost); among equals the first.
    ///
    /// `None` without an identity.
    #[must_use]
    pub fn new(identities: &[ServerIdentity], server_names: &[String]) -> Option<Self> {
        let default = identities.first()?;
        let mut by_name = HashMap::new();
        let mut uncovered = Vec::new();
        for name in server_names {
            if name.parse::<IpAddr>().is_ok() {
                // An address is never a server name in TLS: its clients get the default.
                if !default.names().iter().any(|own| own == name) {
                    uncovered.push(name.clone());
                }
                continue;
            }
            let of = |fits: fn(&str, &str) -> bool| {
                identities.iter().filter(move |identity| identity.names().iter().any(|own| fits(own, name)))
            };
            let exact = of(|own, name| own.eq_ignore_ascii_case(name));
            let keys: Vec<_> = exact.chain(of(is_wildcard_for)).map(ServerIdentity::certified_key).collect();
            if keys.is_empty() {
                uncovered.push(name.clone());
            } else {
                by_name.insert(name.clone(), keys);
            }
        }
        Some(Self { by_name, default: default.certified_key(), uncovered })
    }

    /// What to show to a client that asked for `server_name` (lower case) and takes these signatures; `None` if the
    /// name is not one of the listener's, or no certificate is for it.
    #[must_use]
    pub fn choose(&self, server_name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let Some(name) = server_name else { return Some(Arc::clone(&self.default)) };
        let keys = self.by_name.get(name)?;
        // Where no key suits the client, the first one brings the handshake to its proper end.
        let suits = keys.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        suits.or_else(|| keys.first()).cloned()
    }

    /// The server names that no certificate is for: their clients are refused, or see a certificate for another name.
    #[must_use]
    pub fn uncovered(&self) -> &[String] {
        &self.uncovered
    }
}

/// Is `pattern` a wildcard, and `name` it with one label for the `*`?
fn is_wildcard_for(pattern: &str, name: &str) -> bool {
    let (Some(parent), Some((label, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else { return false };
    !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(names: &[&str]) -> ServerIdentity {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        made(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn made(names: Vec<String>, kind: &'static rcgen::SignatureAlgorithm) -> ServerIdentity {
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        ServerIdentity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    const SCHEMES: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

    #[test]
    fn each_name_gets_its_certificate_and_a_stranger_none() {
        let all = [identity(&["a.example", "192.0.2.1"]), identity(&["*.b.example"]), identity(&["x.b.example"])];
        let listed = names(&["a.example", "x.b.example", "y.b.example", "b.example", "192.0.2.1", "192.0.2.2"]);
        let identities = ServerIdentities::new(&all, &listed).unwrap();
        let shown = |name: Option<&str>| {
            let key = identities.choose(name, SCHEMES)?;
            all.iter().position(|identity| identity.chain() == key.cert)
        };
        assert_eq!(shown(None), Some(0));
        assert_eq!(shown(Some("a.example")), Some(0));
        assert_eq!(shown(Some("x.b.example")), Some(2), "the very name goes before a wildcard");
        assert_eq!(shown(Some("y.b.example")), Some(1));
        // Covered by the wildcard, but not the listener's; one label too many; none; other spellings.
        for unknown in ["z.b.example", "x.y.b.example", "b.example", "*.b.example", "", "a.example.", "192.0.2.1"] {
            assert_eq!(shown(Some(unknown)), None, "{unknown}");
        }
        assert_eq!(identities.uncovered(), names(&["b.example", "192.0.2.2"]));
        assert!(ServerIdentities::new(&[], &listed).is_none());
    }

    #[test]
    fn a_wildcard_is_the_whole_leftmost_label_below_a_domain() {
        assert!(is_wildcard_for("*.Clinic.example", "a.clinic.example"));
        for (pattern, name) in [
            ("*.example", "a.example"),
            ("*", "a"),
            ("a*.b.example", "ab.b.example"),
            ("x.*.example", "x.b.example"),
            ("*.b.example", "a.c.b.example"),
            ("*.b.example", ".b.example"),
            ("*.b.example", "b.example"),
        ] {
            assert!(!is_wildcard_for(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_client_gets_the_kind_of_key_that_it_takes() {
        let all = [identity(&["a.example"]), made(names(&["a.example"]), &rcgen::PKCS_ED25519)];
        let identities = ServerIdentities::new(&all, &names(&["a.example"])).unwrap();
        let shown = |scheme| identities.choose(Some("a.example"), &[scheme]).unwrap().cert.clone();
        assert_eq!(shown(SignatureScheme::ECDSA_NISTP256_SHA256), all[0].chain());
        assert_eq!(shown(SignatureScheme::ED25519), all[1].chain());
        assert_eq!(shown(SignatureScheme::RSA_PSS_SHA256), all[0].chain());
    }
}
