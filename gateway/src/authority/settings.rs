//! `ca.toml`: what the authority certifies, and how long things last.

use std::fs;
use std::path::{Path, PathBuf};

use certs::TrustDomain;
use serde::{Deserialize, Serialize};

use super::{CaError, KeyUri};

/// The settings of an authority; written once by `sekisho ca init`, for an operator to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The SPIFFE trust domain of the devices.
    pub trust_domain: String,
    /// Days that a device's certificate lasts.
    #[serde(default = "device_days")]
    pub device_days: u32,
    /// Days before its end in which a device may renew its certificate by itself.
    #[serde(default = "renew_days")]
    pub renew_days: u32,
    /// Days until a CRL's next update is due.
    #[serde(default = "crl_days")]
    pub crl_days: u32,
    /// Where the files of the folder `crl` are published; certificates say so. None: certificates do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_url: Option<String>,
    /// The issuing key's passphrase, in a file beside this one or elsewhere, where the key is under one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing_passphrase_file: Option<PathBuf>,
    /// The issuing key, where a token keeps it: a PKCS#11 URI (RFC 7512). There is no `issuing.key` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing_key: Option<String>,
    /// The root's key, where a token keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
}

const fn device_days() -> u32 {
    90
}

const fn renew_days() -> u32 {
    30
}

const fn crl_days() -> u32 {
    7
}

/// More than ten years is not a short life.
const MAX_DAYS: u32 = 3_650;

impl Settings {
    /// The settings for a trust domain, with the defaults.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            device_days: device_days(),
            renew_days: renew_days(),
            crl_days: crl_days(),
            crl_url: None,
            issuing_passphrase_file: None,
            issuing_key: None,
            root_key: None,
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`CaError::File`]; [`CaError::Settings`].
    pub fn load(path: &Path) -> Result<Self, CaError> {
        let text = fs::read_to_string(path).map_err(CaError::file(path))?;
        let fault = |reason: String| CaError::Settings { path: path.to_owned(), reason };
        let settings: Self = toml::from_str(&text).map_err(|error| fault(error.message().to_owned()))?;
        settings.check().map_err(fault)?;
        Ok(settings)
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Which does not, and why.
    pub fn check(&self) -> Result<(), String> {
        for (key, days) in [("device_days", self.device_days), ("crl_days", self.crl_days)] {
            if !(1..=MAX_DAYS).contains(&days) {
                return Err(format!("`{key}` is {days}; it must be 1 to {MAX_DAYS}"));
            }
        }
        if self.renew_days >= self.device_days {
            let (renew, device) = (self.renew_days, self.device_days);
            return Err(format!("`renew_days` is {renew}; it must be less than `device_days`, {device}"));
        }
        for (key, uri) in [("issuing_key", &self.issuing_key), ("root_key", &self.root_key)] {
            if let Some(uri) = uri {
                KeyUri::parse(uri).map_err(|error| format!("`{key}`: {error}"))?;
            }
        }
        let plain = |url: &String| {
            url.starts_with("http://") && url.len() > 7 && url.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
        };
        match &self.crl_url {
            // Fetching a CRL over TLS may need the CRL (RFC 5280 8); it is signed anyway.
            Some(url) if !plain(url) => Err(format!("`crl_url` is `{}`; it must be an `http` URL", url.escape_debug())),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn domain(&self, path: &Path) -> Result<TrustDomain, CaError> {
        TrustDomain::new(&self.trust_domain)
            .map_err(|error| CaError::Settings { path: path.to_owned(), reason: error.to_string() })
    }

    /// The URL of a file of the folder `crl`.
    #[must_use]
    pub fn crl_url_of(&self, file: &str) -> Option<String> {
        self.crl_url.as_ref().map(|base| format!("{}/{file}", base.trim_end_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_unknown_is_refused() {
        let settings: Settings = toml::from_str("trust_domain = \"a.example\"").unwrap();
        assert_eq!(settings, Settings::new("a.example"));
        settings.check().unwrap();
        assert!(toml::from_str::<Settings>("trust_domain = \"a\"\nother = 1").is_err());
        for bad in [
            "device_days = 0",
            "renew_days = 90",
            "crl_days = 9999",
            "issuing_key = \"pkcs11:\"",
            "crl_url = \"https://a/\"",
        ] {
            let settings: Settings = toml::from_str(&format!("trust_domain = \"a\"\n{bad}")).unwrap();
            assert!(settings.check().is_err(), "{bad}");
        }
        let settings = Settings { crl_url: Some("http://a/crl/".to_owned()), ..Settings::new("a") };
        assert_eq!(settings.crl_url_of("x.crl").as_deref(), Some("http://a/crl/x.crl"));
    }
}
