//! `sekisho session`: who is logged in where, and the end of it (R10, R27).

use std::io::Write;

use anyhow::Context as _;

use super::args::{SessionCommand, SessionsOf};
use super::print::{self, Show};
use crate::clock::{Clock as _, KernelClock, boot_id};
use crate::store::{EndedSessions, Kind, SessionShown, SessionTarget, Store};

impl Show for SessionShown {
    const KIND: Kind = Kind::Session;
    const COLUMNS: &'static [&'static str] =
        &["SESSION", "SITE", "DEVICE", "USER", "FOR", "ACCOUNT", "REALM", "KIND", "LEVEL", "SINCE", "IDLE"];
    fn cells(&self) -> Vec<String> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let idle = self.idle_s.map_or_else(|| "of another boot".to_owned(), |seconds| format!("{seconds} s"));
        vec![
            self.name.clone(),
            self.site.clone(),
            self.device.clone(),
            or_none(&self.user),
            or_none(&self.acting_for),
            self.account.clone(),
            self.realm.clone(),
            self.kind.clone(),
            self.level.clone(),
            self.since.clone(),
            idle,
        ]
    }
    fn title(&self) -> String {
        self.name.clone()
    }
}

impl Show for EndedSessions {
    const KIND: Kind = Kind::Session;
    const COLUMNS: &'static [&'static str] = &["OF", "SESSIONS"];
    fn cells(&self) -> Vec<String> {
        vec![self.target.name(), self.sessions.to_string()]
    }
    fn title(&self) -> String {
        crate::cli::terminal::text(&self.target.name())
    }
}

fn target(of: SessionsOf) -> Option<SessionTarget> {
    let SessionsOf { name, user, device, site } = of;
    let of_user = |user: crate::store::UserId| SessionTarget::User { site: user.site, user: user.user };
    let of_device = |id: policy::DeviceId| SessionTarget::Device { site: id.site, device: id.device };
    name.map(|name| SessionTarget::Name { name })
        .or_else(|| user.map(of_user))
        .or_else(|| device.map(of_device))
        .or_else(|| site.map(|site| SessionTarget::Site { site }))
}

pub(super) async fn run(
    command: SessionCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        SessionCommand::List { of } => {
            let boot = boot_id().context("cannot tell this boot from others")?;
            let clock = KernelClock::new().context("the kernel's clock cannot be read")?;
            print::list(&store.session_list(target(of).as_ref(), &boot, clock.monotonic_ns()).await?, json, out)?;
        }
        SessionCommand::End { of } => {
            let target = target(of).context("say which: a session, --user, --device or --site")?;
            print::done(&store.session_end(actor, target).await?, "ended", json, out)?;
        }
    }
    Ok(())
}
