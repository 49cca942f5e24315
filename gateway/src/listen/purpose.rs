//! What a listener's configuration says of its peers, made ready: for the door itself, and for `sekisho cert show`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use certs::hpki::{MAX_ROLE_LENGTH, QualifiedRole, RoleTable};
use certs::peers::PolicyOid;
use certs::{Peers, TrustDomain};
use policy::{AuthenticationLevel, RoleName};
use serde::Deserialize;

use crate::config::{Listener, ListenerPeers};
use crate::load::{PolicyFileError, read_bounded};
use crate::registry::directory::Proved;

/// The largest table of roles, in bytes.
const MAX_ROLES_FILE: usize = 256 * 1024;

/// Why a table of roles cannot be used. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum RolesFileError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] PolicyFileError),
    /// It is not what it must be.
    #[error("`{}`: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Whom a listener takes certificates for, and what they count for.
#[derive(Debug, Clone)]
pub struct PeerRules {
    /// The purpose.
    pub peers: Peers,
    /// What the qualifications of users stand for.
    pub roles: RoleTable,
    /// How strongly a person is known by a certificate of their own.
    pub level: AuthenticationLevel,
}

impl PeerRules {
    /// Reads what the listener names.
    ///
    /// # Errors
    /// [`RolesFileError`].
    pub fn load(listener: &Listener, domain: &TrustDomain) -> Result<Self, RolesFileError> {
        let default = |peers| Self { peers, roles: RoleTable::default(), level: AuthenticationLevel::Device };
        Ok(match &listener.tls.peers {
            ListenerPeers::Devices => default(Peers::Devices(domain.clone())),
            ListenerPeers::Users(users) => {
                let roles = match &users.roles_file {
                    None => RoleTable::default(),
                    Some(file) => RoleTable::new(read_roles(file, users.replace_roles)?),
                };
                Self { peers: Peers::Users { test_cards: users.test_cards }, roles, level: users.authentication }
            }
            ListenerPeers::Patients(patients) => {
                // What the configuration's reader took is an object identifier.
                let policies = patients.policies.iter().filter_map(|policy| PolicyOid::parse(policy)).collect();
                Self { level: patients.authentication, ..default(Peers::Patients { id: patients.id, policies }) }
            }
        })
    }

    /// What the registry has to know of the door that a peer came to.
    #[must_use]
    pub const fn proved(&self) -> Proved<'_> {
        Proved { roles: &self.roles, level: self.level }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    text: String,
    role: RoleName,
    japanese: String,
}

/// Reads a table of roles and keeps nothing of it.
///
/// # Errors
/// [`RolesFileError`].
pub fn check_roles(path: &Path) -> Result<(), RolesFileError> {
    read_roles(path, true).map(drop)
}

/// The entries of the file before those that ship, of which the first for a text counts.
fn read_roles(path: &Path, replace: bool) -> Result<Vec<QualifiedRole>, RolesFileError> {
    let text = read_bounded(path, MAX_ROLES_FILE)?;
    let mut entries =
        parse_roles(&text).map_err(|message| RolesFileError::Malformed { path: path.to_owned(), message })?;
    if !replace {
        entries.extend_from_slice(certs::hpki::ROLES);
    }
    Ok(entries)
}

fn parse_roles(text: &str) -> Result<Vec<QualifiedRole>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut entries: Vec<QualifiedRole> = Vec::new();
    for Entry { text, role, japanese } in file.role {
        let shown = text.escape_debug().to_string();
        let is_text =
            |text: &str| !text.is_empty() && text.len() <= MAX_ROLE_LENGTH && !text.contains(char::is_control);
        if !is_text(&text) || !is_text(&japanese) {
            return Err(format!(
                "role `{shown}`: `text` and `japanese` must have 1 to {MAX_ROLE_LENGTH} bytes and no control characters"
            ));
        }
        if entries.iter().any(|known| known.text == text) {
            return Err(format!("role `{shown}` is there twice"));
        }
        let role = Cow::Owned(role.to_string());
        entries.push(QualifiedRole { text: Cow::Owned(text), role, japanese: Cow::Owned(japanese) });
    }
    if entries.is_empty() {
        return Err("it has no `[[role]]`".to_owned());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCTOR: &str = "[[role]]\ntext = \"Medical Doctor\"\nrole = \"doctor\"\njapanese = \"医師\"\n";

    #[test]
    fn a_file_goes_before_the_table_or_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roles.toml");
        std::fs::write(&path, DOCTOR).unwrap();
        let extended = RoleTable::new(read_roles(&path, false).unwrap());
        assert_eq!(extended.role("Medical Doctor").unwrap().role, "doctor");
        assert_eq!(extended.role("Pharmacist").unwrap().role, "pharmacist");
        let replaced = RoleTable::new(read_roles(&path, true).unwrap());
        assert_eq!(replaced.role("Medical Doctor").unwrap().role, "doctor");
        assert!(replaced.role("Pharmacist").is_none());
        let missing = read_roles(&folder.path().join("none.toml"), false).unwrap_err().to_string();
        assert!(missing.contains("none.toml"), "{missing}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (DOCTOR.repeat(2), "`Medical Doctor` is there twice"),
            (DOCTOR.replace("doctor\"", "the doctor\""), "the doctor"),
            (DOCTOR.replace("医師", ""), "must have 1 to"),
            (format!("{DOCTOR}colour = 1\n"), "colour"),
            (String::new(), "role"),
            ("role = []".to_owned(), "no `[[role]]`"),
        ] {
            let error = parse_roles(&text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    /// Policies can name every role that the shipped table gives.
    #[test]
    fn the_shipped_roles_are_names() {
        for entry in certs::hpki::ROLES {
            assert!(entry.role.parse::<RoleName>().is_ok(), "{}", entry.role);
        }
    }
}
