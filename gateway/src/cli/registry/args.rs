//! The arguments of `sekisho site|device|user|role`.
//!
//! Longer than a file should be: verbs and flags of the four are to be alike, which shows where they stand together.

use std::path::PathBuf;
use std::time::Duration;

use certs::path::RevocationReason;
use clap::{ArgGroup, Args, Subcommand};
use gateway_tunnel::{Network, PublicKey};
use policy::{DeviceId, RoleName, SiteName, UserName};

use super::accounts::{PasswdArgs, RecoveryArgs, TotpArgs};
use super::delegations::DelegateCommand;

use crate::store::{DisplayName, UserId};
use crate::tunnels::TunnelListener;

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
        /// Range of addresses that its devices have inside tunnels, such as `10.64.3.0/24`; may be repeated
        #[arg(long, value_name = "RANGE")]
        inside: Vec<Network>,
    },
    /// List every site
    List,
    /// Show one site
    Show {
        /// Its name
        name: SiteName,
    },
    /// Set fields of a site
    #[command(group = ArgGroup::new("fields").required(true).multiple(true))]
    Set {
        /// Its name
        name: SiteName,
        /// What people call it, in any script
        #[arg(long, group = "fields")]
        display_name: Option<DisplayName>,
        /// Range of addresses that its devices have inside tunnels, in place of those before; may be repeated
        #[arg(long, value_name = "RANGE", group = "fields")]
        inside: Vec<Network>,
        /// What it calls itself in messages of HL7 v2 (MSH-4); may be repeated
        #[arg(long = "facility", value_name = "NAME", group = "fields", value_parser = crate::store::facility)]
        facilities: Vec<String>,
        /// Take this name away; may be repeated
        #[arg(long = "no-facility", value_name = "NAME", group = "fields")]
        no_facilities: Vec<String>,
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
    /// Lift a lockout of the site by the login guard
    Unlock {
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
    /// Register a device; with `--wireguard` print what it needs to come by a tunnel
    #[command(group = ArgGroup::new("of_key")
        .args(["public_key", "listener", "addresses", "out", "qr"])
        .multiple(true)
        .requires("wireguard"))]
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
        /// Give it a WireGuard key as well
        #[arg(long)]
        wireguard: bool,
        /// Which.
        #[command(flatten)]
        form: KeyForm,
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
        /// What it calls itself in associations of DICOM; may be repeated
        #[arg(long = "ae-title", value_name = "TITLE", group = "fields", value_parser = crate::store::ae_title)]
        ae_titles: Vec<String>,
        /// Take this title away; may be repeated
        #[arg(long = "no-ae-title", value_name = "TITLE", group = "fields")]
        no_ae_titles: Vec<String>,
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
    /// Remove a device; its certificates are revoked
    Remove {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
    /// Lift a lockout of the device by the login guard
    Unlock {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
    /// Give a device a certificate
    Enrol(EnrolArgs),
    /// Revoke a device's certificates, and publish the list at once
    Revoke(RevokeArgs),
    /// Print a one-time code that the device enrols itself with
    Code(CodeArgs),
    /// The keys by which devices come by WireGuard
    Key {
        /// What to do.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// List the certificates that a device was given
    Certificates {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
}

/// What to do with devices' WireGuard keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Give a device a key, and print what it needs to come by it; the key before ends at once
    New {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
        /// Which.
        #[command(flatten)]
        form: KeyForm,
    },
    /// List every key, or those of a site
    List {
        /// The site
        site: Option<SiteName>,
    },
    /// Take a device's key away, live tunnels included
    Remove {
        /// Site and name
        #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
        id: DeviceId,
    },
}

/// Which key a device gets, and where its configuration goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct KeyForm {
    /// The device's own public key, in Base64; unless said a key is made and shown once
    #[arg(long, value_name = "BASE64", value_parser = public_key)]
    pub public_key: Option<PublicKey>,
    /// The listener that it comes to; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Address inside the tunnel, of a range of its site; may be repeated; those that it has or the next free ones unless said
    #[arg(long = "address", value_name = "ADDRESS")]
    pub addresses: Vec<Network>,
    /// Write the configuration into a new file; to standard output unless said
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Draw the QR code that WireGuard's apps read, wherever the configuration goes
    #[arg(long, conflicts_with = "public_key")]
    pub qr: bool,
    /// What is configured.
    #[arg(skip)]
    pub tunnels: Option<Vec<TunnelListener>>,
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let key = crate::store::read_base64(text)
        .ok_or_else(|| "it must be 32 bytes in Base64, as `wg pubkey` writes them".to_owned())?;
    if key.is_usable() { Ok(key) } else { Err("no device can have this key".to_owned()) }
}

/// `sekisho device enrol`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("form").required(true))]
pub struct EnrolArgs {
    /// Site and name
    #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
    pub id: DeviceId,
    /// Certify the key of this certification request; nothing else in it counts
    #[arg(long, value_name = "FILE", group = "form")]
    pub csr: Option<PathBuf>,
    /// Make a key, and write it with its certificate as PKCS#12
    #[arg(long, value_name = "FILE", group = "form")]
    pub p12: Option<PathBuf>,
    /// Make a key, and write it with its certificate into this folder as PEM
    #[arg(long, value_name = "DIR", group = "form")]
    pub pem: Option<PathBuf>,
    /// Where the certificate of a request goes; to standard output unless said
    #[arg(long, value_name = "FILE", requires = "csr")]
    pub out: Option<PathBuf>,
    /// Password of the PKCS#12 file; a random one is made and shown unless said
    #[arg(long, value_name = "FILE", requires = "p12")]
    pub password_file: Option<PathBuf>,
    /// Days that the certificate lasts; as the authority's settings say unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,
    /// Folder of the authority; as the configuration says unless said
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
}

/// `sekisho device revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RevokeArgs {
    /// Site and name
    #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
    pub id: DeviceId,
    /// Only the certificate of this serial number, hexadecimal
    #[arg(long, value_name = "HEX")]
    pub serial: Option<String>,
    /// Why: a name of RFC 5280 5.3.1, such as `keyCompromise`
    #[arg(long, value_name = "NAME", default_value = "unspecified", value_parser = reason)]
    pub reason: RevocationReason,
    /// Folder of the authority; as the configuration says unless said
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
}

/// `sekisho device code`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CodeArgs {
    /// Site and name
    #[arg(value_name = "SITE/DEVICE", value_parser = device_id)]
    pub id: DeviceId,
    /// How long the code can be used: a number and `m`, `h` or `d`, at most 30 days
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub valid: Duration,
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    crate::authority::reason_named(text).ok_or_else(|| {
        let names: Vec<_> = crate::authority::REASONS.iter().map(|reason| format!("`{}`", reason.name())).collect();
        format!("it must be one of {}", names.join(", "))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().map(|unit| (unit, text.strip_suffix(unit)));
    let (seconds, number) = match unit {
        Some(('m', number)) => (60, number),
        Some(('h', number)) => (3_600, number),
        Some(('d', number)) => (86_400, number),
        Some(_) | None => return Err("it must be a number and `m`, `h` or `d`".to_owned()),
    };
    let number: u64 = number.unwrap_or_default().parse().map_err(|_| "it must begin with a number".to_owned())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 60..=2_592_000) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err("it must be between a minute and 30 days".to_owned()),
    }
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
    /// Give a user a first password at the gateway itself, typed or on standard input; it must be changed at its first use
    Passwd(PasswdArgs),
    /// Give a user an authenticator (RFC 6238): shows its URI, and asks for a code before it counts
    Totp(TotpArgs),
    /// Print recovery codes for whoever loses the authenticator; those before count no more
    Recovery(RecoveryArgs),
    /// List lockouts of accounts, devices, sites and addresses by the login guard
    Lockouts,
    /// Lift the lockouts of an account at backends, and forget its failures
    Unlock {
        /// The account, as the user writes it
        account: String,
        /// Only of this user directory; a route's `realm`
        #[arg(long)]
        realm: Option<String>,
        /// Only at this site
        #[arg(long)]
        site: Option<SiteName>,
    },
    /// Say which certificates are the user's own
    Certificate {
        /// What to do.
        #[command(subcommand)]
        command: UserCertificateCommand,
    },
    /// Say for whom a user may act
    Delegate {
        /// What to do.
        #[command(subcommand)]
        command: DelegateCommand,
    },
    /// Refuse the user's certificates and devices assigned to the user, live connections included
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

/// `sekisho session`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    pub options: RegistryOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: SessionCommand,
}

/// What to do with sessions.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SessionCommand {
    /// List sessions that are not over, all or some
    List {
        /// Which.
        #[command(flatten)]
        of: SessionsOf,
    },
    /// End sessions at once, their requests and streams included
    #[command(group = ArgGroup::new("which").required(true).args(["name", "user", "device", "site"]))]
    End {
        /// Which.
        #[command(flatten)]
        of: SessionsOf,
    },
}

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct SessionsOf {
    /// The session of this name
    #[arg(value_name = "SESSION")]
    pub name: Option<String>,
    /// Those of a user
    #[arg(long, value_name = "SITE/USER", value_parser = user_id, conflicts_with = "name")]
    pub user: Option<UserId>,
    /// Those bound to a device
    #[arg(long, value_name = "SITE/DEVICE", value_parser = device_id, conflicts_with_all = ["name", "user"])]
    pub device: Option<DeviceId>,
    /// Those of a site
    #[arg(long, conflicts_with_all = ["name", "user", "device"])]
    pub site: Option<SiteName>,
}

/// What to do with users' certificates.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCertificateCommand {
    /// Let the holder of an HPKI card in as this user, with this card and with those that the issuer gives after it
    Add(HolderArgs),
    /// List whose certificates are known, of every user or of one
    List {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: Option<UserId>,
    },
    /// Refuse the holder, live connections included
    Remove(HolderArgs),
}

/// A user, and the holder of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("holder").required(true))]
pub struct HolderArgs {
    /// Site and name
    #[arg(value_name = "SITE/USER", value_parser = user_id)]
    pub id: UserId,
    /// The card's certificate, PEM or DER
    #[arg(value_name = "FILE", group = "holder")]
    pub file: Option<PathBuf>,
    /// Instead of the card: the certificate of the CA that issues it, or the issuer as `list` shows it
    #[arg(long, value_name = "FILE|HEX", group = "holder", requires = "number")]
    pub issuer: Option<PathBuf>,
    /// The serialNumber in the card's subject
    #[arg(long, value_name = "NUMBER", requires = "issuer")]
    pub number: Option<String>,
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

pub(super) fn user_id(text: &str) -> Result<UserId, String> {
    let (site, user) = halves(text, "SITE/USER")?;
    let site = SiteName::new(site).map_err(|e| e.to_string())?;
    let user = user.parse().map_err(|e: policy::InvalidName| e.to_string())?;
    Ok(UserId { site, user })
}

fn halves<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('/').ok_or_else(|| format!("`{}` is not of the form {form}", text.escape_debug()))
}
