//! `sekisho user lockouts`, and `unlock` of accounts, devices and sites: the operator's hand on the login guard (R8).

use std::io::Write;

use anyhow::{Context as _, anyhow};
use policy::SiteName;
use policy::login::{AccountName, Spelling};

use super::print::{self, Show};
use crate::clock::{Clock as _, KernelClock, boot_id};
use crate::store::{Kind, Lift, Lockout, LockoutRow, Store, StoreError};

impl Show for LockoutRow {
    const KIND: Kind = Kind::Lockout;
    const COLUMNS: &'static [&'static str] =
        &["OF", "REALM", "ACCOUNT", "SITE", "DEVICE", "ADDRESS", "SINCE", "REMAINING"];
    fn cells(&self) -> Vec<String> {
        let texts = [&self.kind, &self.realm, &self.account, &self.site, &self.device, &self.address, &self.since];
        let shown = |text: &&String| if text.is_empty() { "-".to_owned() } else { (*text).clone() };
        let mut cells: Vec<_> = texts.iter().map(shown).collect();
        cells.push(self.remaining_s.map_or_else(|| "from the next start".to_owned(), |seconds| format!("{seconds} s")));
        cells
    }
    fn title(&self) -> String {
        self.account.clone()
    }
}

impl Show for Lockout {
    const KIND: Kind = Kind::Lockout;
    const COLUMNS: &'static [&'static str] = &["OF", "LOCKOUTS", "FAILURES"];
    fn cells(&self) -> Vec<String> {
        vec![self.lifted.name(), self.lockouts.to_string(), self.failures.to_string()]
    }
    fn title(&self) -> String {
        crate::cli::terminal::text(&self.lifted.name())
    }
}

pub(super) async fn list(store: &Store, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let boot = boot_id().context("cannot tell this boot from others")?;
    let clock = KernelClock::new().context("the kernel's clock cannot be read")?;
    print::list(&store.lockout_list(&boot, clock.monotonic_ns()).await?, json, out)?;
    Ok(())
}

pub(super) async fn lift(
    lift: Lift,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    print::done(&store.lockout_lift(actor, lift).await?, "lifted", json, out)?;
    Ok(())
}

pub(super) async fn lift_site(
    name: &SiteName,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    lift(Lift::Site { site: name.to_string() }, store, actor, json, out).await
}

/// Routes differ in what is one account to them: each of the spellings that the name can have is looked for.
pub(super) async fn unlock(
    text: &str,
    realm: Option<String>,
    site: Option<SiteName>,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for bits in 0..8_u8 {
        let is = |bit: u8| bits & bit == 0;
        let spelling = Spelling { folds_case: is(1), ignores_marks: is(2), ignores_tags: is(4) };
        let name = AccountName::new(text, spelling).map_err(|error| anyhow!("`{}`: {error}", text.escape_debug()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let site = site.map(|site| site.to_string());
    let (mut lifted, mut missing) = (false, None);
    for account in names {
        let lift = Lift::Account { realm: realm.clone(), account: account.to_string(), site: site.clone() };
        match store.lockout_lift(actor, lift).await {
            Ok(lockout) => {
                lifted = true;
                print::done(&lockout, "lifted", json, out)?;
            }
            Err(error @ StoreError::NotFound { .. }) => missing = missing.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    missing.filter(|_| !lifted).map_or(Ok(()), |error| Err(error.into()))
}
