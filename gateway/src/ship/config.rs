//! `ship.toml`: what is shipped where. Unknown keys are refused; relative paths are relative to the file's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::copy::CopySettings;
use super::witness::WitnessSettings;

pub use super::tls::TlsSettings;

/// The longest name of a destination, bytes.
const MAX_NAME: usize = 64;

/// Why `ship.toml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum ShipConfigError {
    /// It cannot be read.
    #[error("`{file}`: {source}", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not TOML, or has keys or values that are not known.
    #[error("`{file}`: {error}", file = .file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, with its line.
        error: String,
    },
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipConfig {
    /// The log to ship.
    pub audit: AuditSection,
    /// Who opens its records. Destinations that take sealed entries as they are need nobody.
    pub reviewer: Option<ReviewerSection>,
    /// What this process keeps.
    pub state: StateSection,
    /// Diagnostics.
    #[serde(default)]
    pub log: LogSection,
    /// How often, and how patiently.
    #[serde(default)]
    pub pace: PaceSection,
    /// The receivers: one at least, with different names.
    #[serde(rename = "destination")]
    pub destinations: Vec<DestinationSettings>,
}

/// `[audit]`, as in `sekisho.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSection {
    /// The folder of the log, with its lanes.
    pub directory: PathBuf,
    /// The folder of wrapped data keys; needed to open records.
    pub key_directory: Option<PathBuf>,
    /// The log's verifier keys, one a line; `verifier-keys` in the log's folder unless given.
    pub verifier_keys: Option<PathBuf>,
}

/// `[reviewer]`: the identity of this process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewerSection {
    /// A reviewer's private file.
    pub key_file: PathBuf,
    /// File with its passphrase; otherwise the systemd credential `reviewer-passphrase`, or
    /// `SEKISHO_REVIEWER_PASSPHRASE`.
    pub passphrase_file: Option<PathBuf>,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSection {
    /// The folder of positions. Of one process alone.
    pub directory: PathBuf,
}

/// `[log]`, as in `sekisho.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// How a line looks.
    #[serde(default)]
    pub format: LineFormat,
    /// The least severe event that is written.
    #[serde(default)]
    pub level: Level,
}

/// How a line of diagnostics looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Text for a person.
    Text,
}

/// The severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual five")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `[pace]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaceSection {
    /// How long a destination that has everything waits before it looks again, milliseconds.
    pub poll_ms: u64,
    /// The longest pause after failures, seconds.
    pub retry_max_s: u64,
    /// How often the positions are told, seconds.
    pub report_s: u64,
}

impl Default for PaceSection {
    fn default() -> Self {
        Self { poll_ms: 500, retry_max_s: 60, report_s: 60 }
    }
}

impl PaceSection {
    /// See `poll_ms`.
    #[must_use]
    pub const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// See `retry_max_s`.
    #[must_use]
    pub const fn retry_max(&self) -> Duration {
        Duration::from_secs(self.retry_max_s)
    }

    /// See `report_s`.
    #[must_use]
    pub const fn report(&self) -> Duration {
        Duration::from_secs(self.report_s)
    }
}

/// One `[[destination]]`. The list is closed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationSettings {
    /// IHE ATNA audit messages by syslog over TLS (RFC 5424, RFC 5425).
    Atna(AtnaSettings),
    /// Tiles, checkpoints and what they are verified with, in a directory or an S3-compatible store.
    Copy(CopySettings),
    /// Cosignatures of witnesses (C2SP tlog-witness).
    Witness(WitnessSettings),
    /// AuditEvents to a FHIR R4 server.
    Fhir(FhirSettings),
}

impl DestinationSettings {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Atna(settings) => &settings.name,
            Self::Copy(settings) => &settings.name,
            Self::Witness(settings) => &settings.name,
            Self::Fhir(settings) => &settings.name,
        }
    }

    fn absolute(&mut self, folder: &Path) {
        match self {
            Self::Atna(settings) => settings.tls.absolute(folder),
            Self::Fhir(settings) => {
                settings.tls.iter_mut().for_each(|tls| tls.absolute(folder));
                settings.token_file.iter_mut().for_each(|file| *file = folder.join(&*file));
            }
            Self::Copy(settings) => settings.absolute(folder),
            Self::Witness(settings) => settings.absolute(folder),
        }
    }

    /// Whether it opens records.
    #[must_use]
    pub const fn opens_records(&self) -> bool {
        match self {
            Self::Atna(_) | Self::Fhir(_) => true,
            Self::Copy(_) | Self::Witness(_) => false,
        }
    }
}

/// `kind = "atna"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtnaSettings {
    /// The destination's name.
    pub name: String,
    /// Host and port of the receiver; the port of RFC 5425 is 6514.
    pub address: String,
    /// How it is known to be the receiver.
    pub tls: TlsSettings,
    /// How long the receiver must live on before what it read counts as taken, milliseconds, 0 to 600000.
    #[serde(default = "settle_ms")]
    pub settle_ms: u64,
    /// How long the receiver may do nothing, seconds, 1 to 3600.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// The longest message that the receiver takes, bytes, 16384 to 16777216.
    #[serde(default = "max_message_bytes")]
    pub max_message_bytes: usize,
}

/// `kind = "fhir"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FhirSettings {
    /// The destination's name.
    pub name: String,
    /// The server's base, `https://fhir.example/r4`. `http` goes to loopback alone.
    pub url: String,
    /// How it is known to be the server; needed for `https`.
    pub tls: Option<TlsSettings>,
    /// A file with a bearer token (RFC 6750), read for each request.
    pub token_file: Option<PathBuf>,
    /// How many events go in one Bundle, 1 to 1000; 1 posts each event alone, to servers that take no batch.
    #[serde(default = "batch_events")]
    pub batch_events: usize,
    /// How long the server may take for an answer, seconds, 1 to 3600.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
}

const fn settle_ms() -> u64 {
    1_000
}

const fn timeout_s() -> u64 {
    30
}

const fn max_message_bytes() -> usize {
    65_536
}

const fn batch_events() -> usize {
    100
}

impl ShipConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ShipConfigError`] names the file and what is wrong in it.
    pub fn load(file: &Path) -> Result<Self, ShipConfigError> {
        let unreadable = |source| ShipConfigError::Unreadable { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let whole = std::path::absolute(file).map_err(unreadable)?;
        Self::parse(&text, whole.parent().unwrap_or(Path::new("/")))
            .map_err(|error| ShipConfigError::Invalid { file: file.to_owned(), error })
    }

    /// Parses a text; relative paths in it are relative to `folder`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.absolute(folder);
        config.check()?;
        Ok(config)
    }

    fn absolute(&mut self, folder: &Path) {
        let within = |path: &mut PathBuf| *path = folder.join(&*path);
        within(&mut self.audit.directory);
        within(&mut self.state.directory);
        self.audit.key_directory.iter_mut().for_each(within);
        self.audit.verifier_keys.iter_mut().for_each(within);
        if let Some(reviewer) = &mut self.reviewer {
            within(&mut reviewer.key_file);
            reviewer.passphrase_file.iter_mut().for_each(within);
        }
        self.destinations.iter_mut().for_each(|destination| destination.absolute(folder));
    }

    fn check(&self) -> Result<(), String> {
        if self.destinations.is_empty() {
            return Err("there is no `[[destination]]`".to_owned());
        }
        let mut names = BTreeSet::new();
        for destination in &self.destinations {
            let name = destination.name();
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
                return Err(format!("the destination's name `{name}` is not up to {MAX_NAME} of `a-z`, `0-9` and `-`"));
            }
            if !names.insert(name) {
                return Err(format!("two destinations are called `{name}`"));
            }
            if destination.opens_records() && (self.reviewer.is_none() || self.audit.key_directory.is_none()) {
                return Err(format!(
                    "destination `{name}` opens records: it needs `[reviewer]` and `audit.key_directory`"
                ));
            }
            self.check_destination(destination).map_err(|why| format!("destination `{name}`: {why}"))?;
        }
        self.check_pace()
    }

    fn check_destination(&self, destination: &DestinationSettings) -> Result<(), String> {
        match destination {
            DestinationSettings::Atna(settings) => settings.check(),
            DestinationSettings::Fhir(settings) => settings.check(),
            DestinationSettings::Witness(settings) => settings.check(),
            DestinationSettings::Copy(settings) => {
                settings.check()?;
                let is_witness = |name: &str| {
                    let named = |other: &&DestinationSettings| other.name() == name;
                    matches!(self.destinations.iter().find(named), Some(DestinationSettings::Witness(_)))
                };
                match &settings.cosigned_by {
                    Some(name) if !is_witness(name) => {
                        Err(format!("`cosigned_by` is `{name}`, and no destination of kind `witness` has that name"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
        }
    }

    fn check_pace(&self) -> Result<(), String> {
        for (key, value) in
            [("poll_ms", self.pace.poll_ms), ("retry_max_s", self.pace.retry_max_s), ("report_s", self.pace.report_s)]
        {
            if !(1..=86_400_000).contains(&value) {
                return Err(format!("`pace.{key}` is {value}, and not 1 to 86400000"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
