//! Keys and certificates: the development CA, the server, every device of the cast, and two that are refused.

use std::path::Path;
use std::time::Duration;

use certs::TrustDomain;
use certs::issue::{Authority, IssueError, Issued};
use policy::{DeviceId, DeviceName, SiteName};
use rustls::pki_types::UnixTime;

use super::cast::{CLAIMED, SITES, STRANGER, TRUST_DOMAIN, UNREGISTERED};
use super::error::QuickstartError;
use super::layout;

/// The development CA's certificate, in the folder.
pub(super) const CA_CERTIFICATE: &str = "ca.crt";

/// Names that the server's certificate carries.
const SERVER_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_DAYS: u32 = 3_650;
const CERTIFICATE_DAYS: u32 = 365;

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Issues everything.
pub(super) fn make(dir: &Path) -> Result<(), QuickstartError> {
    let now = UnixTime::now();
    let lifetime = DAY * CERTIFICATE_DAYS;
    let authority = authority("Sekisho quickstart CA", now)?;
    layout::write(&dir.join(CA_CERTIFICATE), authority.certificate_pem(), PUBLIC)?;
    layout::write(&dir.join("pki").join("ca.key"), authority.key_pem().expose(), PRIVATE)?;

    let server = authority.issue_server(SERVER_NAMES, lifetime, now).map_err(named("the server"))?;
    let tls = dir.join("tls");
    layout::write(&tls.join("server.crt"), &server.certificate_pem, PUBLIC)?;
    layout::write(&tls.join("server.key"), server.key_pem.expose(), PRIVATE)?;

    let registered = SITES.iter().flat_map(|site| site.devices.iter().map(|device| (site.name, device.name)));
    for name in registered.chain([UNREGISTERED]) {
        keep(dir, name, &device(&authority, name, now)?)?;
    }
    // Its authority's key is forgotten with this call.
    let foreign = self::authority("An authority that nobody trusts", now)?;
    keep(dir, STRANGER, &device(&foreign, CLAIMED, now)?)
}

fn authority(name: &str, now: UnixTime) -> Result<Authority, QuickstartError> {
    Authority::new(name, DAY * AUTHORITY_DAYS, now).map_err(named(name))
}

fn device(authority: &Authority, name: (&str, &str), now: UnixTime) -> Result<Issued, QuickstartError> {
    let full = format!("{}/{}", name.0, name.1);
    let fault = |why: &dyn ToString| QuickstartError::Issue { name: full.clone(), why: why.to_string() };
    let domain = TrustDomain::new(TRUST_DOMAIN).map_err(|error| fault(&error))?;
    let id = DeviceId {
        site: SiteName::new(name.0).map_err(|error| fault(&error))?,
        device: DeviceName::new(name.1).map_err(|error| fault(&error))?,
    };
    authority.issue_device(&domain, &id, DAY * CERTIFICATE_DAYS, now).map_err(|error| fault(&error))
}

fn keep(dir: &Path, (site, device): (&str, &str), issued: &Issued) -> Result<(), QuickstartError> {
    let files = layout::client(dir, site, device);
    layout::write(&files.certificate, &issued.certificate_pem, PUBLIC)?;
    layout::write(&files.key, issued.key_pem.expose(), PRIVATE)
}

fn named(name: &str) -> impl FnOnce(IssueError) -> QuickstartError {
    move |error| QuickstartError::Issue { name: name.to_owned(), why: error.to_string() }
}
