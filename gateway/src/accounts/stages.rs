//! Logins that are half done: whose password was right, and who has to bring more. In memory alone, each for its device and a few
//! minutes; a restart of the gateway asks for the password again.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::account::{Facts, Proved};
use policy::login::{AccountName, Origin};
use policy::{AuthenticationLevel, SiteName};
use sha2::{Digest as _, Sha256};

use super::{AccountError, facts, random};
use crate::store::{Credential, UserId};

/// Most that are kept; whoever comes then has proved a password, and is told to try again.
const MOST: usize = 65_536;

/// How far a login has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The site.
    pub site: SiteName,
    /// The account, in its one spelling.
    pub account: AccountName,
    /// Whose it is.
    pub user: UserId,
    /// The hash of the password that was right.
    pub password: String,
    /// The sealed secret of the authenticator that was the account's then.
    pub totp: Option<String>,
    /// Number of the registry's last change when the first of it was proved.
    pub as_of: u64,
    /// How the account stood.
    pub facts: Facts,
    /// What was proved.
    pub proved: Proved,
    /// What the login is for.
    pub goal: Goal,
}

/// What a login is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Goal {
    /// Where the browser wants to go.
    pub target: Option<String>,
    /// How strongly the user must be known there.
    pub level: Option<AuthenticationLevel>,
    /// Who is logged in proves it anew, and stays in the same session.
    pub again: bool,
}

impl Stage {
    /// Of an account as it was when something was proved.
    #[must_use]
    pub fn of(account: &AccountName, found: &Credential, proved: Proved, goal: Goal) -> Self {
        Self {
            site: found.user.site.clone(),
            account: account.clone(),
            user: found.user.clone(),
            password: found.password.clone(),
            totp: found.totp.as_ref().map(|totp| totp.sealed.clone()),
            as_of: found.as_of,
            facts: facts(found),
            proved,
            goal,
        }
    }

    /// The account as it is, if it is the one that the login began with, and its user still gets in by the very password and
    /// authenticator that were proved. What was proved first says from when on a change of the registry ends all of it.
    #[must_use]
    pub fn still(&self, mut found: Credential) -> Option<Credential> {
        let totp = found.totp.as_ref().map(|totp| &totp.sealed);
        let is =
            found.enabled && found.user == self.user && found.password == self.password && totp == self.totp.as_ref();
        found.as_of = found.as_of.min(self.as_of);
        is.then_some(found)
    }
}

struct Kept {
    stage: Stage,
    origin: Origin,
    until_ns: u64,
}

/// See the [module](self).
pub struct Stages {
    lifetime_ns: u64,
    swept_ns: u64,
    kept: HashMap<[u8; 32], Kept>,
}

impl Stages {
    /// None yet.
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime_ns: u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX), swept_ns: 0, kept: HashMap::new() }
    }

    /// Keeps a login for its device, and gives the name that its browser gets. `None`: there is no room.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub fn keep(&mut self, now_ns: u64, origin: Origin, stage: Stage) -> Result<Option<String>, AccountError> {
        // Once in a lifetime, so that what nobody came back for does not stay; and where it is in the way.
        if self.kept.len() >= MOST || now_ns.saturating_sub(self.swept_ns) >= self.lifetime_ns {
            self.kept.retain(|_, kept| kept.until_ns > now_ns);
            self.swept_ns = now_ns;
        }
        if self.kept.len() >= MOST {
            return Ok(None);
        }
        let name = random::<32>()?;
        let until_ns = now_ns.saturating_add(self.lifetime_ns);
        self.kept.insert(Sha256::digest(name).into(), Kept { stage, origin, until_ns });
        Ok(Some(URL_SAFE_NO_PAD.encode(name)))
    }

    /// The login of that name, if it is this device's and its time is not over.
    #[must_use]
    pub fn look(&self, now_ns: u64, origin: &Origin, name: &str) -> Option<&Stage> {
        let kept = self.kept.get(&hash(name)?)?;
        (kept.origin == *origin && kept.until_ns > now_ns).then_some(&kept.stage)
    }

    /// The same, and ends it: the next step has another name.
    pub fn take(&mut self, now_ns: u64, origin: &Origin, name: &str) -> Option<Stage> {
        self.look(now_ns, origin, name)?;
        self.kept.remove(&hash(name)?).map(|kept| kept.stage)
    }
}

/// The key by which what was named so is kept; none where it is no such name.
pub(crate) fn hash(name: &str) -> Option<[u8; 32]> {
    if name.len() != 43 {
        return None;
    }
    URL_SAFE_NO_PAD.decode(name).ok().map(|name| Sha256::digest(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::login::Spelling;

    #[test]
    fn a_stage_is_its_devices_for_its_time_and_is_taken_once() {
        let mut stages = Stages::new(Duration::from_nanos(10));
        let origin = |device: &str| Origin { site: "s".into(), device: device.into() };
        let stage = Stage {
            site: "s".parse().unwrap(),
            account: AccountName::new("a", Spelling::default()).unwrap(),
            user: UserId { site: "s".parse().unwrap(), user: "a".parse().unwrap() },
            password: String::new(),
            totp: None,
            as_of: 0,
            facts: Facts { enabled: true, must_change: false, changed_s: 0, is_short: false, totp: false },
            proved: Proved::default(),
            goal: Goal::default(),
        };
        let name = stages.keep(5, origin("d"), stage.clone()).unwrap().unwrap();
        assert_ne!(Some(&name), stages.keep(5, origin("d"), stage.clone()).unwrap().as_ref());
        assert_eq!(stages.look(14, &origin("d"), &name), Some(&stage));
        assert_eq!(stages.look(14, &origin("e"), &name), None, "another device's");
        assert_eq!(stages.look(15, &origin("d"), &name), None, "its time is over");
        assert_eq!(stages.look(6, &origin("d"), "x"), None);
        assert_eq!(stages.take(6, &origin("e"), &name), None);
        assert_eq!(stages.take(6, &origin("d"), &name), Some(stage.clone()));
        assert_eq!(stages.take(6, &origin("d"), &name), None);
        for _ in 0..3 {
            let _ = stages.keep(20, origin("d"), stage.clone()).unwrap();
        }
        let _ = stages.keep(31, origin("d"), stage).unwrap();
        assert_eq!(stages.kept.len(), 1, "what is over is forgotten");
    }
}
