//! Every number of the configuration: its default, its bounds and why it has them. The only place they stand in.

use std::time::Duration;

use super::{Limits, OnRevocation, Revocation};

/// A number with a default and bounds.
pub(super) struct Knob {
    /// Taken where the key is absent.
    pub(super) default: u64,
    /// The least that is taken.
    pub(super) min: u64,
    /// The most that is taken.
    pub(super) max: u64,
    /// Why not less and not more; ends the message to whoever tries.
    pub(super) why: &'static str,
}

macro_rules! knobs {
    ($group:ident: $($name:ident = $default:expr, $min:expr => $max:expr, $why:literal;)*) => {
        $(pub(super) const $name: Knob = Knob { default: $default, min: $min, max: $max, why: $why };)*

        #[cfg(test)]
        const $group: &[(&str, &Knob)] = &[$((stringify!($name), &$name),)*];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

// Listener limits.
knobs! {
    LISTENER:
    CONNECTIONS = 4_096, 1 => 1_000_000, "each costs memory on the worker before anyone is authenticated";
    CONNECTIONS_PER_ADDRESS = 512, 1 => 1_000_000, "a hospital may come from one address, and so may a flood";
    HANDSHAKES = 512, 1 => 100_000, "each may hold the worker for a signature";
    HANDSHAKES_PER_ADDRESS = 128, 1 => 100_000, "a hospital may come back from one address at once, and no stranger may hold all places";
    HANDSHAKE_TIMEOUT_MS = 10_000, 500 => 2 * MINUTE_MS, "a distant clinic needs several round trips, a stranger may hold a place no longer";
    HEADER_TIMEOUT_MS = 10_000, 500 => 2 * MINUTE_MS, "a head is a few packets, and a slow one holds a place";
    BODY_IDLE_TIMEOUT_MS = 30_000, 1_000 => HOUR_MS, "a lossy line falls silent for seconds, not for hours";
    KEEPALIVE_TIMEOUT_MS = 75_000, 1_000 => 24 * HOUR_MS, "an idle connection saves a handshake and holds a place";
    REQUEST_TIMEOUT_MS = 600_000, 0 => 24 * HOUR_MS, "0 is no limit, and a day is the longest exchange that is not a stream";
    TARGET_BYTES = 16 * KIB, 256 => 64 * KIB, "a FHIR search is long, and every target is in the record";
    HEADER_BYTES = 32 * KIB, 8 * KIB => MIB, "the HTTP/1.1 codec reads at least 8 KiB, and the head is held in memory";
    HEADER_COUNT = 100, 16 => 1_000, "a browser sends about 20, and each is looked at";
    BODY_BYTES = 2 * GIB, KIB => 1 << 40, "an imaging study has gigabytes, and no request has more than 1 TiB";
    H2_CONCURRENT_STREAMS = 128, 1 => 1_000, "RFC 9113 section 5.1.2 recommends at least 100, and each holds a request";
    H2_RESETS = 100, 1 => 10_000, "a viewer cancels what has scrolled away, an attacker cancels everything";
    H3_RETRY_HANDSHAKES = 64, 0 => 100_000, "0 asks everybody for a round trip more, and a forged address costs a handshake";
    H3_WINDOW_BYTES = 256 * MIB, 0 => 64 * GIB, "2 MiB of it make one connection fast, and all of it may be held in memory";
    DEVICE_REFUSAL_BURST_BYTES = 64 * MIB, MIB => 64 * GIB, "at least the longest record must fit, and one device must not fill the disk";
    DEVICE_REFUSAL_BYTES_PER_SECOND = 256 * KIB, KIB => GIB, "a refused request has a record of about one KiB, and one device must not fill the disk";
    PROXY_TIMEOUT_MS = 3_000, 50 => MINUTE_MS, "a load balancer is near, and sends its header at once";
    DEVICE_REQUESTS_PER_SECOND = 0, 0 => 1_000_000, "0 is no bound, and a worker serves fewer than a million";
}

// Quotas of sites and devices.
knobs! {
    QUOTA:
    QUOTA_BURST_S = 10, 1 => 3_600, "a viewer asks for many images together, and after an hour it is no burst";
    QUOTA_REQUESTS = 0, 0 => 10_000_000, "0 is no bound, and no gateway serves more";
    QUOTA_BYTES = 0, 0 => 1 << 40, "0 is no bound, and no line carries more";
    QUOTA_CONCURRENT = 0, 0 => 10_000_000, "0 is no bound, and each is held in memory";
}

// Sites that fall silent.
knobs! {
    OUTAGE:
    OUTAGE_DELAY_S = 900, 0 => 86_400, "0 raises nothing, and after a day everybody knows";
    OUTAGE_WEEKS = 3, 1 => 4, "what was so once is no rule, and habits change";
    OUTAGE_LEAST = 2, 1 => 4, "what was so once is no rule";
}

// Tunnels of a listener.
knobs! {
    WIREGUARD:
    SITE_PREFIX = 24, 8 => 30, "a site has at least the gateway's other end and a device, and there are many sites";
    SITE_PREFIX_V6 = 64, 16 => 126, "a site has at least a device, and there are many sites";
    INSIDE_MTU = 1_360, 576 => 1_440, "every IPv4 host takes 576, and an outer packet of 1500 holds no more";
}

// Connections without HTTP.
knobs! {
    STREAM:
    STREAM_PORT = 11_112, 1 => 65_535, "a TCP port has sixteen bits, and 0 is none";
    STREAM_IDLE_TIMEOUT_MS = 600_000, 1_000 => 7 * 24 * HOUR_MS, "an interface may be silent at night, and whoever is gone holds two connections";
    MESSAGE_TIMEOUT_MS = 30_000, 100 => 10 * MINUTE_MS, "a message is a few packets, and a slow one holds a place";
    MESSAGE_BYTES = MIB, 4 * KIB => 256 * MIB, "a message is held in memory until it is judged, and a report in it may be large";
}

// Revocation of a listener's devices.
knobs! {
    REVOCATION:
    MAX_CRL_BYTES = 32 * MIB, 4 * KIB => 64 * MIB, "a list of a million certificates has about 40 MiB, and it is held in memory";
    FETCH_TIMEOUT_MS = 30_000, 100 => 10 * MINUTE_MS, "a long list over a slow line takes a while, and nothing waits for it";
    FETCH_INTERVAL_S = 3_600, 1 => 7 * 86_400, "a revocation acts no sooner than its list is fetched";
    CRL_GRACE_S = 3_600, 0 => 30 * 86_400, "0 is none, and after a month nobody knows who was revoked meanwhile";
    CRL_WARN_BEFORE_S = 86_400, 0 => 30 * 86_400, "0 warns only of lists that are out of date, and no list should be due in a month and not come";
}

// Services.
knobs! {
    SERVICE:
    IDLE_CONNECTIONS = 64, 0 => 10_000, "0 keeps none, and each holds a connection of the backend";
    CONNECT_TIMEOUT_MS = 3_000, 50 => 2 * MINUTE_MS, "a backend is near, and the client waits";
    RESPONSE_TIMEOUT_MS = 60_000, 100 => 24 * HOUR_MS, "a report takes a while to make, and the client waits";
    IDLE_TIMEOUT_MS = 60_000, 1_000 => 24 * HOUR_MS, "a stalled stream holds two connections";
    KEEPALIVE_MS = 15_000, 100 => HOUR_MS, "the backend should not be the one to close";
    SLOW_START_MS = 10_000, 0 => HOUR_MS, "0 gives the whole share at once, and after an hour nothing is cold any more";
    MAX_IN_FLIGHT = 0, 0 => 1_000_000, "0 is no bound, and a worker serves fewer than a million";
    MAX_PENDING = 100, 0 => 1_000_000, "0 refuses at once, and each that waits is held in memory";
    PENDING_TIMEOUT_MS = 1_000, 10 => 2 * MINUTE_MS, "a place comes free soon or not at all, and the client waits";
    RETRIES = 2, 0 => 10, "0 never asks another server, and each retry is load on those that are left";
    RETRY_PERCENT = 20, 0 => 100, "0 leaves the reserve alone, and twice the load is what retries can make of an outage";
    RETRY_RESERVE = 50, 0 => 10_000, "0 lets a quiet service retry nothing, and it is spent at once in an outage";
    RETRY_BACKOFF_MS = 25, 0 => 10_000, "0 asks at once, and the client waits";
    EJECT_AFTER = 5, 0 => 1_000, "0 never ejects, and one failure may be chance";
    EJECT_MS = 10_000, 100 => HOUR_MS, "a server that restarts is back within seconds, and an hour is an operator's time";
    MAX_EJECTED_PERCENT = 50, 0 => 100, "0 ejects none, and the last one never is";
    RESOLVE_INTERVAL_MS = 30_000, 500 => HOUR_MS, "a name that moves should be followed, and the resolver is not ours alone";
    RETRY_AFTER_S = 5, 1 => 3_600, "clients come again all at once";
    HEALTH_INTERVAL_MS = 5_000, 100 => HOUR_MS, "a server that has gone should not take an hour of requests";
    HEALTH_TIMEOUT_MS = 2_000, 50 => MINUTE_MS, "a check that takes a minute says no";
    UNHEALTHY_AFTER = 3, 1 => 100, "one check that fails may be chance";
    HEALTHY_AFTER = 2, 1 => 100, "a server that starts may pass once";
}

// Everything else.
knobs! {
    REST:
    INTERVAL_MS = 100, 1 => MINUTE_MS, "what is lost in a crash is what came within it";
    QUEUE_RECORDS = 16_384, 64 => 1 << 20, "a worker must be able to go on during one commit, and the queue is memory";
    SEGMENT_BYTES = 64 * MIB, MIB => 64 * GIB, "each segment is a file of its own, read from its beginning at recovery";
    RESERVE_BYTES = MIB, 64 * KIB => GIB, "the records that say the disk is full must still fit on it";
    KEY_PERIOD_DAYS = 1, 1 => 366, "records are destroyed and handed over by the period, and a key that lasts longer opens more";
    RETENTION_DAYS = 3_650, 1 => 36_500, "charts are kept for five years from the end of a treatment, which no log knows: ten years leave five for it";
    TREE_LAG_S = 0, 0 => 86_400, "0 is never, and a tree that lags for a day is no window";
    REFUSAL_INTERVAL_S = 60, 1 => 3_600, "a stranger gets one full record within it";
    REFUSAL_BYTES = MIB, 4 * KIB => GIB, "at least one record must fit, and strangers must not fill the disk";
    MAX_ERROR_MS = 1_000, 1 => MINUTE_MS, "the record's time has to order events between machines";
    WARN_ERROR_MS = 100, 1 => MINUTE_MS, "a well-kept clock is within a few milliseconds";
    PROBE_INTERVAL_S = 64, 4 => 3_600, "a server of others is not to be asked more often, and a statement ages by 0.5 ms a second";
    WORKERS = 0, 0 => 1_024, "0 is one per core, and more threads than cores serve slower";
    DRAIN_S = 30, 0 => 3_600, "0 ends at once, and a service manager waits no longer than an hour";
}

// The login guard.
knobs! {
    LOGIN:
    FAILURES = 5, 1 => 1_000, "a person mistypes a few times, a guesser should not get much further";
    WINDOW_S = 900, 10 => 30 * 86_400, "failures longer ago than a month say nothing about now";
    LOCKOUT_S = 1_800, 10 => 30 * 86_400, "a lockout of more than a month is a suspension";
    PAUSE_S = 2, 0 => 3_600, "0 is no pause, and an hour is a lockout";
    PAUSE_MOST_S = 30, 0 => 3_600, "a pause of more than an hour is a lockout";
    GLOBAL_FAILURES = 50, 0 => 100_000, "0 is no bound over all sites";
    GLOBAL_WINDOW_S = 86_400, 60 => 30 * 86_400, "every failure within it is remembered";
    GLOBAL_SPARE = 2, 1 => 100, "whoever knows the password mistypes it once or twice";
    DEVICE_FAILURES = 30, 0 => 10_000, "0 is no bound, and a shared terminal has many users";
    SITE_FAILURES = 200, 0 => 100_000, "0 is no bound, and a hospital has thousands of users";
    ADDRESS_FAILURES = 0, 0 => 100_000, "0 is no bound: clinics that share an address would lock each other out";
    PLACE_WINDOW_S = 900, 10 => 30 * 86_400, "failures longer ago than a month say nothing about now";
    PLACE_LOCKOUT_S = 900, 10 => 30 * 86_400, "a lockout of more than a month is a suspension";
    DEVICE_ATTEMPTS_PER_MINUTE = 60, 1 => 1_000_000, "a person logs in once a minute at most, a program with Basic at every request";
    SITE_ATTEMPTS_PER_MINUTE = 1_200, 1 => 1_000_000, "at eight in the morning a hospital logs in";
    ADDRESS_ATTEMPTS_PER_MINUTE = 1_200, 1 => 1_000_000, "at eight in the morning a hospital logs in";
    ACCOUNTS = 65_536, 16 => 10_000_000, "each account that failed lately takes about a kilobyte";
    VERIFIED_S = 900, 0 => 86_400, "0 has every Basic request guarded one by one, and a day is a working day";
}

// The gateway's own accounts.
knobs! {
    ACCOUNT:
    MEMORY_KIB = 65_536, 8 => 4_194_304, "RFC 9106 section 4 recommends 64 MiB where 2 GiB are too much, and each thread takes as much";
    PASSES = 3, 1 => 100, "RFC 9106 section 4 recommends three passes over 64 MiB";
    LANES = 4, 1 => 64, "RFC 9106 section 4 recommends four lanes";
    HASH_THREADS = 2, 1 => 64, "they run behind everything else, and each takes the memory of a hash";
    HASH_QUEUE = 64, 1 => 10_000, "whoever waits for more than a few seconds tries again, and waits twice";
    REMEMBER = 5, 1 => 24, "a new password is hashed once for each, and nobody remembers more";
    TOTP_WINDOW = 1, 0 => 10, "RFC 6238 section 5.2 recommends one step for the way a code takes, and each more is another guess";
    STAGE_S = 300, 30 => 3_600, "a password has to be thought of, and a half-open login must not wait for whoever sits down next";
}

// Issuers of tokens.
knobs! {
    TOKEN:
    TOKEN_LEEWAY_S = 5, 0 => 300, "an issuer's clock may be a little ahead, and nobody's is by more than minutes";
    TOKEN_MAX_LIFETIME_S = 86_400, 60 => 31 * 86_400, "a token cannot be taken back before it ends, and a day is a working day";
    TOKEN_TIMEOUT_MS = 3_000, 50 => MINUTE_MS, "a provider is near, and a client may wait for it";
    TOKEN_REFRESH_S = 3_600, 10 => 7 * 86_400, "a key that its issuer withdrew is believed no longer than this";
    TOKEN_GRACE_S = 86_400, 0 => 30 * 86_400, "0 is none, and after a month nobody knows what was withdrawn";
    TOKEN_CACHE_S = 10, 0 => 300, "0 asks for each request, and a token that was taken back counts until then";
}

// Logins at OpenID providers.
knobs! {
    OIDC:
    OIDC_MAX_AGE_S = 43_200, 60 => 31 * 86_400, "a shift is half a day, and whoever proved something a month ago may be gone";
    OIDC_LOGIN_S = 600, 30 => 3_600, "a second factor may have to be fetched, and a half-open login must not wait for whoever sits down next";
}

// Sessions.
knobs! {
    SESSION:
    IDLE_S = 1_800, 1 => 30 * 86_400, "whoever leaves the terminal is logged out by itself, and no one sits before it for a month";
    ABSOLUTE_S = 43_200, 1 => 366 * 86_400, "a shift is half a day, and after a year nobody knows who logged in";
    CONCURRENT = 0, 0 => 10_000, "0 is as many as come, and nobody sits before thousands of terminals";
    SESSIONS = 65_536, 16 => 10_000_000, "each takes about a kilobyte, and those that are over are remembered";
}

impl Knob {
    pub(super) const fn millis(&self) -> Duration {
        Duration::from_millis(self.default)
    }
}

pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Zero stands for no limit.
pub(super) fn limit(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

/// Zero stands for no limit.
pub(super) fn limit_millis(number: u64) -> Option<Duration> {
    (number > 0).then(|| Duration::from_millis(number))
}

impl Revocation {
    /// Nobody looks at revocation.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            mode: OnRevocation::Off,
            ocsp: OnRevocation::Off,
            ocsp_responder: None,
            crl_files: Vec::new(),
            crl_directory: None,
            fetch: false,
            fetch_hosts: Vec::new(),
            cache_directory: None,
            max_crl_bytes: MAX_CRL_BYTES.default,
            fetch_timeout: FETCH_TIMEOUT_MS.millis(),
            fetch_interval: Duration::from_secs(FETCH_INTERVAL_S.default),
            grace: Duration::from_secs(CRL_GRACE_S.default),
            warn_before: Duration::from_secs(CRL_WARN_BEFORE_S.default),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: size(CONNECTIONS.default),
            connections_per_address: size(CONNECTIONS_PER_ADDRESS.default),
            handshakes: size(HANDSHAKES.default),
            handshakes_per_address: size(HANDSHAKES_PER_ADDRESS.default),
            handshake_timeout: HANDSHAKE_TIMEOUT_MS.millis(),
            header_timeout: HEADER_TIMEOUT_MS.millis(),
            body_idle_timeout: BODY_IDLE_TIMEOUT_MS.millis(),
            keepalive_timeout: KEEPALIVE_TIMEOUT_MS.millis(),
            request_timeout: limit_millis(REQUEST_TIMEOUT_MS.default),
            target_bytes: size(TARGET_BYTES.default),
            header_bytes: size(HEADER_BYTES.default),
            header_count: size(HEADER_COUNT.default),
            body_bytes: BODY_BYTES.default,
            h2_concurrent_streams: short(H2_CONCURRENT_STREAMS.default),
            h2_resets: short(H2_RESETS.default),
            h3_retry_handshakes: size(H3_RETRY_HANDSHAKES.default),
            h3_window_bytes: H3_WINDOW_BYTES.default,
            device_refusal_burst_bytes: DEVICE_REFUSAL_BURST_BYTES.default,
            device_refusal_bytes_per_second: DEVICE_REFUSAL_BYTES_PER_SECOND.default,
            device_requests_per_second: limit(DEVICE_REQUESTS_PER_SECOND.default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_within_its_bounds_and_says_why() {
        for (name, knob) in LISTENER
            .iter()
            .chain(WIREGUARD)
            .chain(QUOTA)
            .chain(STREAM)
            .chain(OUTAGE)
            .chain(REVOCATION)
            .chain(SERVICE)
            .chain(LOGIN)
            .chain(ACCOUNT)
            .chain(SESSION)
            .chain(TOKEN)
            .chain(OIDC)
            .chain(REST)
        {
            assert!(knob.min <= knob.default && knob.default <= knob.max, "{name}");
            assert!(knob.max <= i64::MAX as u64, "{name}: TOML has no larger integer");
            assert!(knob.why.len() > 20 && !knob.why.ends_with('.'), "{name}");
        }
    }
}
