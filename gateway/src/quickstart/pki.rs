//! Keys and certificates: the authority, the server, every device of the cast, and two that are refused.

use std::path::Path;
use std::time::Duration;

use certs::TrustDomain;
use certs::issue::{Authority, IssueError, KeyKind};
use policy::{DeviceId, DeviceName, SiteName};
use rustls::pki_types::UnixTime;

use super::cast::{CLAIMED, SITES, STRANGER, TRUST_DOMAIN, UNREGISTERED};
use super::error::QuickstartError;
use super::layout;
use crate::authority::{self, Ca, NewCa, Settings};
use crate::store::Certificate;

/// The root's certificate, in the folder: what clients and gateway trust.
pub(super) const CA_CERTIFICATE: &str = "ca.crt";

/// The authority's folder, in the folder.
const CA: &str = "ca";

/// Names that the server's certificate carries.
const SERVER_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1", super::tunnel::INSIDE];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_DAYS: u32 = 3_650;
const CERTIFICATE_DAYS: u32 = 365;

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Issues everything; returns what the registry is to keep.
pub(super) fn make(dir: &Path) -> Result<Vec<Certificate>, QuickstartError> {
    let now = UnixTime::now();
    let folder = dir.join(CA);
    let name = "Sekisho quickstart";
    let new = NewCa {
        settings: Settings { device_days: CERTIFICATE_DAYS, ..Settings::new(TRUST_DOMAIN) },
        name,
        key: KeyKind::P256,
        root_token: None,
        issuing_token: None,
        root_lifetime: DAY * AUTHORITY_DAYS,
        issuing_lifetime: DAY * AUTHORITY_DAYS,
        // A developer's root is on the developer's machine, and has nothing to protect.
        root_passphrase: None,
        issuing_passphrase: None,
    };
    let fault = |error: authority::CaError| QuickstartError::Issue { name: name.to_owned(), why: error.to_string() };
    let root = authority::make(&folder, &new, now).map_err(fault)?;
    let ca = Ca::load(&folder).map_err(fault)?;
    layout::write(&dir.join(CA_CERTIFICATE), root.certificate_pem(), PUBLIC)?;

    // The issuing CA may name no server.
    let server = root.issue_server(SERVER_NAMES, DAY * CERTIFICATE_DAYS, now).map_err(named("the server"))?;
    let tls = dir.join("tls");
    layout::write(&tls.join("server.crt"), &server.certificate_pem, PUBLIC)?;
    layout::write(&tls.join("server.key"), server.key_pem.expose(), PRIVATE)?;

    let mut issued = Vec::new();
    for site in SITES {
        for device in site.devices {
            issued.push(enrol(dir, &ca, (site.name, device.name), now)?);
        }
    }
    // Stands in no registry, and so in no list of what was issued.
    enrol(dir, &ca, UNREGISTERED, now)?;
    // Its authority's key is forgotten with this call.
    let foreign = "An authority that nobody trusts";
    let foreign = Authority::new(foreign, DAY * AUTHORITY_DAYS, now).map_err(named(foreign))?;
    let (domain, id) = identity(CLAIMED)?;
    let stranger = foreign.issue_device(&domain, &id, DAY * CERTIFICATE_DAYS, now).map_err(named("the stranger"))?;
    keep(dir, STRANGER, &stranger.certificate_pem, stranger.key_pem.expose())?;
    Ok(issued)
}

fn enrol(dir: &Path, ca: &Ca, name: (&str, &str), now: UnixTime) -> Result<Certificate, QuickstartError> {
    let (_, id) = identity(name)?;
    let fault = |error: authority::CaError| QuickstartError::Issue { name: id.to_string(), why: error.to_string() };
    let (key, issued) = ca.certify_new(&id, None, now).map_err(fault)?;
    keep(dir, name, &ca.chain_pem(&issued.certified).map_err(fault)?, key.pem().expose())?;
    Ok(issued.entry)
}

fn identity(name: (&str, &str)) -> Result<(TrustDomain, DeviceId), QuickstartError> {
    let full = format!("{}/{}", name.0, name.1);
    let fault = |why: &dyn ToString| QuickstartError::Issue { name: full.clone(), why: why.to_string() };
    let domain = TrustDomain::new(TRUST_DOMAIN).map_err(|error| fault(&error))?;
    let id = DeviceId {
        site: SiteName::new(name.0).map_err(|error| fault(&error))?,
        device: DeviceName::new(name.1).map_err(|error| fault(&error))?,
    };
    Ok((domain, id))
}

fn keep(dir: &Path, (site, device): (&str, &str), chain: &str, key: &str) -> Result<(), QuickstartError> {
    let files = layout::client(dir, site, device);
    layout::write(&files.certificate, chain, PUBLIC)?;
    layout::write(&files.key, key, PRIVATE)
}

fn named(name: &str) -> impl FnOnce(IssueError) -> QuickstartError {
    move |error| QuickstartError::Issue { name: name.to_owned(), why: error.to_string() }
}
