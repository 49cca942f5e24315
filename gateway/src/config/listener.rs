//! Listeners: the doors, and how much of anything they let in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::edge::{ForwardedFrom, ProxyProtocol};
use super::stream::Stream;
use super::wireguard::{Asking, InsideTls, WireGuard};
use ::policy::judge::TlsVersion;
use ::policy::{AuthenticationLevel, Refusal, SiteName};
use certs::PatientField;

/// A door: HTTP or something else over mutual TLS on TCP, or WireGuard tunnels on UDP.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// A metric label and a field of every record.
    pub name: String,
    /// Where to listen. A systemd socket of the listener's name takes precedence.
    pub address: SocketAddr,
    /// Host names, and IP addresses in text, that a request's authority may name. At least one. Lower case.
    pub server_names: Vec<String>,
    /// Certificate, anchors and profile. Of tunnels without TLS inside, nothing is in it.
    pub tls: ListenerTls,
    /// Where tunnels end here, what they are like; none of a listener on TCP.
    pub wireguard: Option<Box<WireGuard>>,
    /// What it carries that is no HTTP: of kind `tcp` one, of tunnels one for each of some ports, otherwise none.
    pub streams: Vec<Stream>,
    /// Whether HTTP/3 is spoken as well, on UDP at the same address.
    pub http3: bool,
    /// Whether users log in to the gateway itself here, at pages below `/.sekisho/`.
    pub login_page: bool,
    /// OpenID providers at which users log in here, by their names.
    pub oidc: Vec<String>,
    /// Load balancers before it that speak the PROXY protocol; none unless set.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Proxies before it that say in each request whose it is; none unless set.
    pub forwarded: Option<ForwardedFrom>,
    /// Bounds on everything a peer can send.
    pub limits: Limits,
}

impl Listener {
    /// Whether TLS is spoken at the door.
    #[must_use]
    pub fn speaks_tls(&self) -> InsideTls {
        self.wireguard.as_ref().map_or(InsideTls::Required, |tunnels| tunnels.inside_tls)
    }

    /// Whether peers are asked for a certificate. Where no tunnel has proved who is there, they must show one.
    #[must_use]
    pub fn client_certificates(&self) -> Asking {
        self.wireguard.as_ref().map_or(Asking::Required, |tunnels| tunnels.client_certificate)
    }

    /// Whether devices of a site may speak this version of TLS here (R21).
    ///
    /// # Errors
    /// [`Refusal::ProtocolTooOld`].
    pub fn takes_version(&self, version: Option<TlsVersion>, site: Option<&SiteName>) -> Result<(), Refusal> {
        match &self.tls.tls12_sites {
            Some(sites) if version == Some(TlsVersion::V1_2) && !site.is_some_and(|site| sites.contains(site)) => {
                Err(Refusal::ProtocolTooOld)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether what lies below `/.sekisho/` is the gateway's own here.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        self.login_page || !self.oidc.is_empty()
    }
}

/// How a listener proves itself and whom it trusts (R12, R15, R22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// What the listener shows, by server name; at least one where TLS is spoken. The first is also for clients that name no server.
    pub identities: Vec<IdentityFiles>,
    /// Whom it takes certificates for.
    pub peers: ListenerPeers,
    /// The anchors of their certificates, PEM; none where nobody is asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Name of a profile that `certs` knows: `cryptrec-high`, `cryptrec-high-tls12` or `compatible`.
    pub profile: String,
    /// The only sites whose devices may speak TLS 1.2, where the profile has it; none for every site (R21).
    pub tls12_sites: Option<Vec<SiteName>>,
    /// How it is known that a certificate was revoked.
    pub revocation: Revocation,
}

/// Whom a listener takes certificates for: one purpose, and no other's certificate opens the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerPeers {
    /// Devices (R3).
    Devices,
    /// Users by HPKI (R1, R2).
    Users(UserPeers),
    /// Patients (R18).
    Patients(PatientPeers),
}

/// How users are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPeers {
    /// Test cards are taken as well.
    pub test_cards: bool,
    /// Roles by hcRole that the table does not have, or has otherwise.
    pub roles_file: Option<PathBuf>,
    /// The file is the whole table.
    pub replace_roles: bool,
    /// What a card counts for (R9).
    pub authentication: AuthenticationLevel,
}

/// How patients are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientPeers {
    /// Where a certificate names its holder.
    pub id: PatientField,
    /// Certificate policies, OIDs, of which a path must have one; none for any path.
    pub policies: Vec<String>,
    /// What a certificate counts for (R9).
    pub authentication: AuthenticationLevel,
}

/// Where CRLs and OCSP answers come from, and how much is asked of them (R3, R12, R27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// How much is asked of CRLs.
    pub mode: OnRevocation,
    /// How much is asked of OCSP responders. With `must` here or for CRLs, a certificate has to be known to be good from
    /// one of those that are asked.
    pub ocsp: OnRevocation,
    /// The responder that is asked, instead of those that certificates name.
    pub ocsp_responder: Option<String>,
    /// Files of CRLs, DER or PEM. Each must be there and good.
    pub crl_files: Vec<PathBuf>,
    /// A folder whose `*.crl` and `*.pem` are such files.
    pub crl_directory: Option<PathBuf>,
    /// CRLs are fetched from the distribution points that certificates name.
    pub fetch: bool,
    /// The only hosts that lists and answers are fetched from; none is every one that a certificate of a trusted authority names.
    pub fetch_hosts: Vec<String>,
    /// Where what was fetched outlives a restart; none is memory alone.
    pub cache_directory: Option<PathBuf>,
    /// The longest CRL, in bytes.
    pub max_crl_bytes: u64,
    /// From a fetch's beginning to its last byte.
    pub fetch_timeout: Duration,
    /// The longest time between two fetches of one CRL or answer.
    pub fetch_interval: Duration,
    /// How long a CRL or an answer is used after its next update was due.
    pub grace: Duration,
    /// How long before its next update is due an alarm is raised where there is no newer one.
    pub warn_before: Duration,
}

/// How much is asked of revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRevocation {
    /// Nobody looks.
    Off,
    /// Who is said to be revoked is refused; of whom nobody speaks, passes.
    Prefer,
    /// Who is not known to be good is refused, and so is everybody below a CA that is not.
    Must,
}

/// The files of one server identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Where its keys stand below the listener's `tls`: empty for the single pair, `identities[0]` and so on in a list.
    pub place: String,
    /// The certificate chain, PEM, leaf first.
    pub certificate_file: PathBuf,
    /// The private key, PEM; readable by its owner only.
    pub key_file: PathBuf,
    /// An OCSP response about the certificate, DER, to be stapled; none unless set.
    pub ocsp_file: Option<PathBuf>,
    /// The names to get a certificate for by ACME; then the files are the gateway's own, and may not be there yet.
    pub acme: Option<Vec<String>>,
    /// The gateway itself keeps `ocsp_file` fresh, from the responder that the certificate names.
    pub ocsp_fetch: bool,
}

impl IdentityFiles {
    /// The name of one of its keys below the listener's `tls`.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }
}

/// Bounds of a listener. Every one has a default in `deploy/sekisho.toml`, with the row it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once on one worker.
    pub connections: usize,
    /// Connections open at once from one source address (IPv6: one /64), per worker.
    pub connections_per_address: usize,
    /// Handshakes under way at once, per worker.
    pub handshakes: usize,
    /// Of these from one source address (IPv6: one /64), per worker.
    pub handshakes_per_address: usize,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Longest silence inside a request body.
    pub body_idle_timeout: Duration,
    /// Longest silence between requests.
    pub keepalive_timeout: Duration,
    /// From a request's head to its answer's last byte; none for streams that live long.
    pub request_timeout: Option<Duration>,
    /// Bytes of the request line's target.
    pub target_bytes: usize,
    /// Bytes of the head: request line and header section.
    pub header_bytes: usize,
    /// Fields of the header section.
    pub header_count: usize,
    /// Bytes of a request body.
    pub body_bytes: u64,
    /// HTTP/2 and HTTP/3: streams open at once on one connection.
    pub h2_concurrent_streams: u32,
    /// HTTP/2 and HTTP/3: streams that the peer may reset, as a burst refilled at this number per ten seconds, before the
    /// connection ends.
    pub h2_resets: u32,
    /// HTTP/3: handshakes under way, per worker, from which on strangers must prove their address first.
    pub h3_retry_handshakes: usize,
    /// HTTP/3: bytes that flow-control windows may grow by, beyond what each connection begins with, in all and per worker.
    pub h3_window_bytes: u64,
    /// Bytes that records of one device's refused requests may take at once, per worker; beyond them they are counted.
    pub device_refusal_burst_bytes: u64,
    /// Bytes of them that come back in a second.
    pub device_refusal_bytes_per_second: u64,
    /// Requests that one device may make in a second, per worker, and ten times as many at once; none for no bound.
    pub device_requests_per_second: Option<u64>,
}
