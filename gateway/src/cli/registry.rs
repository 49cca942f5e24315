//! `sekisho site|device|user|role`: the operator's hand on the registry (R1, R3, R27).
//!
//! A running gateway acts on a change within one second; nothing has to be reloaded.

mod accounts;
mod actor;
mod args;
mod certificates;
mod delegations;
mod holders;
mod keys;
mod lockouts;
mod print;
mod sessions;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;

pub use accounts::{PasswdArgs, RecoveryArgs, TotpArgs};
pub use actor::operating_system_user;
pub use args::{
    CodeArgs, DeviceArgs, DeviceCommand, EnrolArgs, HolderArgs, KeyCommand, KeyForm, RegistryOptions, RevokeArgs,
    RoleArgs, RoleCommand, SessionArgs, SessionCommand, SiteArgs, SiteCommand, UserArgs, UserCertificateCommand,
    UserCommand,
};
pub use delegations::DelegateCommand;

use crate::store::{
    Assignment, Edited, Lift, NamesEdit, NewDevice, NewUser, RoleEdit, SetDevice, SetSite, SetUser, Store,
};
use crate::tunnels::TunnelListener;
use print::Show;

/// A command of any of the four families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryCommand {
    /// `sekisho site`.
    Site(SiteCommand),
    /// `sekisho device`.
    Device(DeviceCommand),
    /// `sekisho user`.
    User(UserCommand),
    /// `sekisho role`.
    Role(RoleCommand),
    /// `sekisho session`.
    Session(SessionCommand),
}

impl RegistryCommand {
    /// Whether it may be the first command on a new installation, and so makes the store: open it with
    /// [`Store::open`], and for any other command with [`Store::open_existing`], so that a mistyped path is an error
    /// and not an empty registry.
    #[must_use]
    pub const fn makes_store(&self) -> bool {
        matches!(self, Self::Site(SiteCommand::Add { .. }) | Self::Role(RoleCommand::Add { .. }))
    }

    /// Where the command says which folder the authority is in, for a command that needs one.
    pub const fn authority(&mut self) -> Option<&mut Option<PathBuf>> {
        match self {
            Self::Device(DeviceCommand::Enrol(EnrolArgs { ca, .. }) | DeviceCommand::Revoke(RevokeArgs { ca, .. })) => {
                Some(ca)
            }
            Self::Device(_) | Self::Site(_) | Self::User(_) | Self::Role(_) | Self::Session(_) => None,
        }
    }

    /// Where the command gets `[account]`, for a command that needs it.
    pub const fn account(&mut self) -> Option<&mut Option<crate::config::Account>> {
        match self {
            Self::User(
                UserCommand::Passwd(PasswdArgs { settings, .. }) | UserCommand::Totp(TotpArgs { settings, .. }),
            ) => Some(settings),
            Self::Device(_) | Self::Site(_) | Self::User(_) | Self::Role(_) | Self::Session(_) => None,
        }
    }
}

impl RegistryCommand {
    /// Where the command gets the listeners of tunnels, for a command that needs them.
    pub const fn tunnels(&mut self) -> Option<&mut Option<Vec<TunnelListener>>> {
        match self {
            Self::Device(
                DeviceCommand::Add { wireguard: true, form, .. }
                | DeviceCommand::Key { command: KeyCommand::New { form, .. } },
            ) => Some(&mut form.tunnels),
            Self::Device(_) | Self::Site(_) | Self::User(_) | Self::Role(_) | Self::Session(_) => None,
        }
    }
}

/// Carries out `command` for `actor` and writes the answer to `out`: with `json` an object of stable shape (an entry;
/// `{"sites": […]}` and the like; `{"removed": […]}`), otherwise text for people.
///
/// # Errors
/// Those of the store, which name the entry or the file; or of writing to `out`.
pub async fn run(
    command: RegistryCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        RegistryCommand::Site(command) => site(command, store, actor, json, out).await,
        RegistryCommand::Device(command) => device(command, store, actor, json, out).await,
        RegistryCommand::User(command) => user(command, store, actor, json, out).await,
        RegistryCommand::Role(command) => role(command, store, actor, json, out).await,
        RegistryCommand::Session(command) => sessions::run(command, store, actor, json, out).await,
    }
}

async fn site(command: SiteCommand, store: &Store, actor: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        SiteCommand::Add { name, display_name, inside } => {
            print::done(&store.site_add_inside(actor, name, display_name, inside).await?, "added", json, out)?;
        }
        SiteCommand::List => print::list(&store.site_list().await?, json, out)?,
        SiteCommand::Show { name } => print::one(&store.site_show(&name).await?, json, out)?,
        SiteCommand::Set { name, display_name, inside, facilities, no_facilities } => {
            let facilities = NamesEdit { give: facilities, take: no_facilities };
            let set = SetSite { display_name, inside: Some(inside).filter(|inside| !inside.is_empty()), facilities };
            edited(&store.site_set(actor, &name, set).await?, "set", json, out)?;
        }
        SiteCommand::Suspend { name } => edited(&store.site_suspend(actor, &name).await?, "suspended", json, out)?,
        SiteCommand::Resume { name } => edited(&store.site_resume(actor, &name).await?, "resumed", json, out)?,
        SiteCommand::Remove { name, cascade } => {
            print::removed(&store.site_remove(actor, &name, cascade).await?, json, out)?;
        }
        SiteCommand::Unlock { name } => lockouts::lift_site(&name, store, actor, json, out).await?,
    }
    Ok(())
}

async fn role(command: RoleCommand, store: &Store, actor: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        RoleCommand::Add { name, display_name } => {
            print::done(&store.role_add(actor, name, display_name).await?, "added", json, out)?;
        }
        RoleCommand::List => print::list(&store.role_list().await?, json, out)?,
        RoleCommand::Show { name } => print::one(&store.role_show(&name).await?, json, out)?,
        RoleCommand::Set { name, display_name } => {
            edited(&store.role_set(actor, &name, display_name).await?, "set", json, out)?;
        }
        RoleCommand::Suspend { name } => edited(&store.role_suspend(actor, &name).await?, "suspended", json, out)?,
        RoleCommand::Resume { name } => edited(&store.role_resume(actor, &name).await?, "resumed", json, out)?,
        RoleCommand::Remove { name, cascade } => {
            print::removed(&store.role_remove(actor, &name, cascade).await?, json, out)?;
        }
    }
    Ok(())
}

async fn device(
    command: DeviceCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        DeviceCommand::Add { id, display_name, user, roles, wireguard, form } => {
            let new = NewDevice { id, display_name, user, roles };
            if wireguard {
                let id = new.id.clone();
                return keys::new(id, Some(new), form, store, actor, json, out).await;
            }
            print::done(&store.device_add(actor, new).await?, "added", json, out)?;
        }
        DeviceCommand::List { site } => print::list(&store.device_list(site.as_ref()).await?, json, out)?,
        DeviceCommand::Show { id } => print::one(&store.device_show(&id).await?, json, out)?,
        DeviceCommand::Set { id, display_name, user, no_user, roles, no_roles, ae_titles, no_ae_titles } => {
            let user = match (user, no_user) {
                (Some(user), _) => Assignment::User(user),
                (None, true) => Assignment::Nobody,
                (None, false) => Assignment::Keep,
            };
            let set = SetDevice {
                display_name,
                user,
                roles: RoleEdit { give: roles, take: no_roles },
                ae_titles: NamesEdit { give: ae_titles, take: no_ae_titles },
            };
            edited(&store.device_set(actor, &id, set).await?, "set", json, out)?;
        }
        DeviceCommand::Suspend { id } => {
            edited(&store.device_suspend(actor, &id).await?, "suspended", json, out)?;
        }
        DeviceCommand::Resume { id } => edited(&store.device_resume(actor, &id).await?, "resumed", json, out)?,
        DeviceCommand::Remove { id } => print::removed(&store.device_remove(actor, &id).await?, json, out)?,
        DeviceCommand::Unlock { id } => {
            let lift = Lift::Device { site: id.site.to_string(), device: id.device.to_string() };
            lockouts::lift(lift, store, actor, json, out).await?;
        }
        DeviceCommand::Enrol(arguments) => certificates::enrol(arguments, store, actor, json, out).await?,
        DeviceCommand::Revoke(arguments) => certificates::revoke(arguments, store, actor, json, out).await?,
        DeviceCommand::Code(arguments) => certificates::new_code(arguments, store, actor, json, out).await?,
        DeviceCommand::Key { command } => keys::run(command, store, actor, json, out).await?,
        DeviceCommand::Certificates { id } => certificates::list(&id, store, json, out).await?,
    }
    Ok(())
}

async fn user(command: UserCommand, store: &Store, actor: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { id, display_name, roles } => {
            print::done(&store.user_add(actor, NewUser { id, display_name, roles }).await?, "added", json, out)?;
        }
        UserCommand::List { site } => print::list(&store.user_list(site.as_ref()).await?, json, out)?,
        UserCommand::Show { id } => print::one(&store.user_show(&id).await?, json, out)?,
        UserCommand::Set { id, display_name, roles, no_roles } => {
            let set = SetUser { display_name, roles: RoleEdit { give: roles, take: no_roles } };
            edited(&store.user_set(actor, &id, set).await?, "set", json, out)?;
        }
        UserCommand::Lockouts => lockouts::list(store, json, out).await?,
        UserCommand::Unlock { account, realm, site } => {
            lockouts::unlock(&account, realm, site, store, actor, json, out).await?;
        }
        UserCommand::Passwd(arguments) => accounts::passwd(arguments, store, actor, json, out).await?,
        UserCommand::Totp(arguments) => accounts::totp(arguments, store, actor, json, out).await?,
        UserCommand::Recovery(arguments) => accounts::recovery(arguments, store, actor, json, out).await?,
        UserCommand::Certificate { command } => holders::run(command, store, actor, json, out).await?,
        UserCommand::Delegate { command } => delegations::run(command, store, actor, json, out).await?,
        UserCommand::Suspend { id } => edited(&store.user_suspend(actor, &id).await?, "suspended", json, out)?,
        UserCommand::Resume { id } => edited(&store.user_resume(actor, &id).await?, "resumed", json, out)?,
        UserCommand::Remove { id, cascade } => {
            print::removed(&store.user_remove(actor, &id, cascade).await?, json, out)?;
        }
    }
    Ok(())
}

fn edited<T: Show>(edited: &Edited<T>, what: &str, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let what = if edited.changed { what } else { "is so already; nothing changed" };
    print::done(&edited.entry, what, json, out)
}
