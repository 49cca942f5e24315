//! The arguments of `sekisho site|device|user|role`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use policy::{DeviceId, RoleName, SiteName, UserName};

use crate::store::{DisplayName, UserId};

/// Which store, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct RegistryOptions {
    /// Answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Configuration that names the store
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "store")]
    pub config: Option<PathBuf>,
    /// The store itself
    #[arg(long, global = true, value_name = "FILE")]
    pub store: Option<PathBuf>,
}

/// `sekisho site`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SiteArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    pub options: RegistryOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: SiteCommand,
}

/// `sekisho device`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DeviceArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    pub options: RegistryOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// `sekisho user`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UserArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    pub options: RegistryOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// `sekisho role`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RoleArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    pub options: RegistryOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: RoleCommand,
}

/// What to do with sites.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SiteCommand {
    /// Register a site
    Add {
        /// Name: letters, digits, `-`, `_` and `.`
        name: SiteName,
        /// What people call it, in any script
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: DisplayName,
    },
    /// List every site
    List,
    /// Show one site
    Show {
        /// Its name
        name: SiteName,
    },
    /// Set a site's display name
    Set {
        /// Its name
        name: SiteName,
        /// What people call it, in any script
        #[arg(long)]
        display_name: DisplayName,
    },
    /// Refuse a site's devices, live connections included
    Suspend {
        /// Its name
        name: SiteName,
    },
    /// End a site's suspension
    Resume {
        /// Its name
        name: SiteName,
    },
    /// Remove a site
    Remove {
        /// Its name
        name: SiteName,
        /// Remove its devices and users, too
        #[arg(long)]
        cascade: bool,
    },
}

/// What to do with devices.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DeviceCommand {
    /// Register a device
    Add {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
        /// What people call it, in any script
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: DisplayName,
        /// User of the site whom the device is assigned to
        #[arg(long)]
        user: Option<UserName>,
        /// Role of whoever uses the device; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
    },
    /// List every device, or those of a site
    List {
        /// The site
        site: Option<SiteName>,
    },
    /// Show one device
    Show {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
    /// Set fields of a device
    #[command(group = ArgGroup::new("fields").required(true).multiple(true))]
    Set {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
        /// What people call it, in any script
        #[arg(long, group = "fields")]
        display_name: Option<DisplayName>,
        /// Assign it to this user of the site
        #[arg(long, group = "fields", conflicts_with = "no_user")]
        user: Option<UserName>,
        /// Assign it to nobody
        #[arg(long, group = "fields")]
        no_user: bool,
        /// Give this role; may be repeated
        #[arg(long = "role", value_name = "ROLE", group = "fields")]
        roles: Vec<RoleName>,
        /// Take this role away; may be repeated
        #[arg(long = "no-role", value_name = "ROLE", group = "fields")]
        no_roles: Vec<RoleName>,
    },
    /// Refuse a device, live connections included
    Suspend {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
    /// End a device's suspension
    Resume {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
    /// Remove a device
    Remove {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
}

/// What to do with users.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Register a user
    Add {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
        /// What people call the user, in any script
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: DisplayName,
        /// Role of the user; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
    },
    /// List every user, or those of a site
    List {
        /// The site
        site: Option<SiteName>,
    },
    /// Show one user
    Show {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
    },
    /// Set fields of a user
    #[command(group = ArgGroup::new("fields").required(true).multiple(true))]
    Set {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
        /// What people call the user, in any script
        #[arg(long, group = "fields")]
        display_name: Option<DisplayName>,
        /// Give this role; may be repeated
        #[arg(long = "role", value_name = "ROLE", group = "fields")]
        roles: Vec<RoleName>,
        /// Take this role away; may be repeated
        #[arg(long = "no-role", value_name = "ROLE", group = "fields")]
        no_roles: Vec<RoleName>,
    },
    /// Refuse devices assigned to the user, live connections included
    Suspend {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
    },
    /// End a user's suspension
    Resume {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
    },
    /// Remove a user
    Remove {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
        /// Suspend the devices assigned to the user and assign them to nobody
        #[arg(long)]
        cascade: bool,
    },
}

/// What to do with roles.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RoleCommand {
    /// Register a role
    Add {
        /// Name: letters, digits, `-`, `_` and `.`
        name: RoleName,
        /// What people call it, in any script
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: DisplayName,
    },
    /// List every role
    List,
    /// Show one role
    Show {
        /// Its name
        name: RoleName,
    },
    /// Set a role's display name
    Set {
        /// Its name
        name: RoleName,
        /// What people call it, in any script
        #[arg(long)]
        display_name: DisplayName,
    },
    /// Take a role's rights from everybody who has it, for a time
    Suspend {
        /// Its name
        name: RoleName,
    },
    /// End a role's suspension
    Resume {
        /// Its name
        name: RoleName,
    },
    /// Remove a role
    Remove {
        /// Its name
        name: RoleName,
        /// Take it from everybody who has it
        #[arg(long)]
        cascade: bool,
    },
}

fn device_id(text: &str) -> Result<DeviceId, String> {
    let (site, device) = halves(text, "SITE/DEVICE")?;
    let site = SiteName::new(site).map_err(|e| e.to_string())?;
    let device = device.parse().map_err(|e: policy::InvalidName| e.to_string())?;
    Ok(DeviceId { site, device })
}

fn user_id(text: &str) -> Result<UserId, String> {
    let (site, user) = halves(text, "SITE/USER")?;
    let site = SiteName::new(site).map_err(|e| e.to_string())?;
    let user = user.parse().map_err(|e: policy::InvalidName| e.to_string())?;
    Ok(UserId { site, user })
}

fn halves<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('/').ok_or_else(|| format!("`{}` is not of the form {form}", text.escape_debug()))
}
