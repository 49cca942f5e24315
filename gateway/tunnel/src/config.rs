//! What a caller decides.

use std::net::IpAddr;
use std::time::Duration;

use policy::names::{DeviceName, SiteName};

use crate::gate::HandshakeLimits;
use crate::keys::{PresharedKey, PublicKey};
use crate::network::Network;

/// The inside MTU unless a site says otherwise, in bytes: fits PPPoE over FLET'S (1,454) with IPv6 outside, and
/// whatever has more.
pub const DEFAULT_MTU: u16 = 1360;
/// The least MTU of a site that has IPv4 alone, in bytes (RFC 791 3.1).
pub const MIN_MTU_V4: u16 = 576;
/// The least MTU of a site with IPv6, in bytes (RFC 8200 5).
pub const MIN_MTU_V6: u16 = 1280;
/// The greatest MTU, in bytes: an outer packet of 1,500 without IPv6.
pub const MAX_MTU: u16 = 1440;

/// Bounds. All memory that strangers and peers can make the tunnels use is within them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes.
    pub handshakes: HandshakeLimits,
    /// Registered peers.
    pub peers: usize,
    /// Streams of one peer at a time, those that were ended and linger included.
    pub streams_per_peer: usize,
    /// Half-open TCP connections of one peer at a time; beyond it the oldest gives way.
    pub half_open_per_peer: usize,
    /// Streams of one site at a time.
    pub streams_per_site: usize,
    /// Buffers of all streams, in bytes.
    pub buffer_bytes: usize,
    /// Buffers of one peer's streams, in bytes.
    pub peer_buffer_bytes: usize,
    /// A stream's buffer for one direction, in bytes, while there is plenty.
    pub stream_buffer_max: usize,
    /// A stream's buffer for one direction, in bytes, when little is left. Below it a stream is refused.
    pub stream_buffer_min: usize,
    /// How long drops are gathered until they are reported again.
    pub report_interval: Duration,
    /// How long nothing may come from the other end of a stream that has something outstanding, until it is given up.
    pub stream_timeout: Duration,
    /// After how long a silence an open stream asks whether the other end is still there (RFC 9293 3.8.4).
    pub stream_keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: HandshakeLimits::default(),
            peers: 20_000,
            streams_per_peer: 256,
            half_open_per_peer: 32,
            streams_per_site: 1024,
            buffer_bytes: 256 << 20,
            peer_buffer_bytes: 64 << 20,
            stream_buffer_max: 512 << 10,
            stream_buffer_min: 16 << 10,
            report_interval: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(180),
            stream_keepalive: Duration::from_secs(60),
        }
    }
}

/// Which of several workers this is. It stands in every session's index, so that a filter on the socket can send each datagram
/// to the worker that has its session: the lowest bits of the index, shifted right by 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shard {
    /// The number of this worker.
    pub number: u16,
    /// How many bits workers' numbers have, 0 to [`MAX_BITS`](Self::MAX_BITS).
    pub bits: u8,
}

impl Shard {
    /// Up to 64 workers, each with 2^18 sessions.
    pub const MAX_BITS: u8 = 6;
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// Its name.
    pub name: SiteName,
    /// The gateway's own addresses inside, 1 to 8. Several sites may have the same ones.
    pub addresses: Vec<IpAddr>,
    /// The TCP ports that listen at these addresses.
    pub ports: Vec<u16>,
    /// Names that DNS (UDP, port 53) answers at these addresses, with these addresses. Without any it is not answered.
    pub names: Vec<String>,
    /// The inside MTU, in bytes. TCP announces what fits into it.
    pub mtu: u16,
}

/// A device with a WireGuard key.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Its key.
    pub key: PublicKey,
    /// Its site, which must have been added.
    pub site: SiteName,
    /// Its name.
    pub device: DeviceName,
    /// The inner addresses that are its own.
    pub addresses: Vec<Network>,
    /// A key that both share, beside the public keys.
    pub preshared_key: Option<PresharedKey>,
    /// After how long a silence the gateway sends an empty message, to keep a NAT open. Usually the device's business.
    pub keepalive: Option<Duration>,
}

/// Why a site or a peer was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The site is there already.
    #[error("site `{0}` is there already")]
    SiteExists(SiteName),
    /// No such site.
    #[error("there is no site `{0}`")]
    UnknownSite(SiteName),
    /// Too many inside addresses, or none.
    #[error("site `{0}` needs 1 to 8 inside addresses, each of one host")]
    Addresses(SiteName),
    /// The MTU is out of bounds.
    #[error("site `{site}`: an MTU of {mtu} bytes is not within {least} to {MAX_MTU}")]
    Mtu {
        /// The site.
        site: SiteName,
        /// What was asked.
        mtu: u16,
        /// The least that is possible.
        least: u16,
    },
    /// There are as many peers as [`Limits::peers`] allows.
    #[error("there are {0} peers already")]
    TooManyPeers(usize),
    /// The key belongs to a device already, or is the gateway's own.
    #[error("the key of `{site}/{device}` is registered already, or the gateway's own")]
    KeyInUse {
        /// The site of the peer that was to be added.
        site: SiteName,
        /// Its device.
        device: DeviceName,
    },
    /// No operation on the curve gives a secret with this key (RFC 7748 6.1).
    #[error("the key of `{site}/{device}` is none: it has a small order")]
    WeakKey {
        /// The site of the peer that was to be added.
        site: SiteName,
        /// Its device.
        device: DeviceName,
    },
    /// The addresses are somebody else's.
    #[error("`{range}` of `{site}/{device}` overlaps `{other}`, which is not its own")]
    Overlap {
        /// The site of the peer that was to be added.
        site: SiteName,
        /// Its device.
        device: DeviceName,
        /// Its range.
        range: Network,
        /// The range that was there.
        other: Network,
    },
}
