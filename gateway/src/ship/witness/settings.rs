//! `kind = "witness"` in `ship.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_audit::note::{KeyKind, VerifierKey};
use serde::Deserialize;

/// `kind = "witness"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// The destination's name.
    pub name: String,
    /// Who is asked.
    pub witnesses: Vec<WitnessPlace>,
    /// How many must have signed before a checkpoint counts as cosigned; all of them unless given.
    pub require: Option<usize>,
    /// How often a lane that grows is cosigned at most, seconds.
    #[serde(default = "interval")]
    pub interval_s: u64,
    /// How often one that does not grow is, seconds.
    #[serde(default = "refresh")]
    pub refresh_s: u64,
    /// How far a witness's time may be from this machine's, seconds.
    #[serde(default = "skew")]
    pub max_skew_s: u64,
    /// How long an answer may take, seconds.
    #[serde(default = "timeout")]
    pub timeout_s: u64,
}

/// One witness.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessPlace {
    /// Its submission prefix: `/add-checkpoint` is added.
    pub url: String,
    /// Its verifier key, of type 0x04. Got from its operator.
    pub key: String,
    /// The authorities that its TLS certificate must come from, PEM. Plain text goes to a loopback address alone.
    pub ca_file: Option<PathBuf>,
}

const fn interval() -> u64 {
    10
}

const fn refresh() -> u64 {
    3_600
}

const fn skew() -> u64 {
    60
}

const fn timeout() -> u64 {
    10
}

impl WitnessSettings {
    pub(in crate::ship) fn absolute(&mut self, folder: &Path) {
        for witness in &mut self.witnesses {
            witness.ca_file.iter_mut().for_each(|file| *file = folder.join(&*file));
        }
    }

    pub(super) fn require(&self) -> usize {
        self.require.unwrap_or(self.witnesses.len())
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    pub(in crate::ship) fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for witness in &self.witnesses {
            let key = witness.key()?;
            if !names.insert(key.name().to_owned()) {
                return Err(format!("two witnesses are called `{}`", key.name()));
            }
        }
        let (require, known) = (self.require(), self.witnesses.len());
        if require == 0 || require > known {
            return Err(format!("`require` is {require}, and there are {known} witnesses"));
        }
        for (key, value) in
            [("interval_s", self.interval_s), ("refresh_s", self.refresh_s), ("timeout_s", self.timeout_s)]
        {
            if !(1..=86_400).contains(&value) {
                return Err(format!("`{key}` is {value}, and not 1 to 86400"));
            }
        }
        Ok(())
    }
}

impl WitnessPlace {
    pub(super) fn key(&self) -> Result<VerifierKey, String> {
        let key = VerifierKey::parse(&self.key).map_err(|error| error.to_string())?;
        if key.kind() == KeyKind::Cosigner {
            Ok(key)
        } else {
            Err(format!("`{}` is a log's key, not a witness's", key.name()))
        }
    }
}
