//! The sections of which a node has one each.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use gateway_audit::retention::Rules;

use super::ListenerTls;

/// Where sites, devices and users are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The SQLite file.
    pub file: PathBuf,
}

/// The audit log (R5, R6, R30).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The folder of its lanes.
    pub directory: PathBuf,
    /// The folder of wrapped data keys; never within `directory`, which is copied elsewhere.
    pub key_directory: PathBuf,
    /// The folder of the statements that say who may open records.
    pub reviewers: PathBuf,
    /// Days that one data key is used for.
    pub key_period: NonZeroU32,
    /// How long data keys are kept.
    pub retention: Retention,
    /// Not ready while a record is durable for longer than this and under no checkpoint; none: ready all the same.
    pub tree_lag: Option<Duration>,
    /// When a record counts as written.
    pub durability: Durability,
    /// What happens to requests while it cannot be written.
    pub on_failure: OnAuditFailure,
    /// Records that may wait for the writer, per worker.
    pub queue_records: usize,
    /// Size at which a new segment is begun; at least four times the reserve.
    pub segment_bytes: u64,
    /// Space set aside for the records that say why the log stopped.
    pub reserve_bytes: u64,
    /// Within this time one stranger's network gets one full record per reason.
    pub refusal_interval: Duration,
    /// Bytes that records about strangers may take per interval.
    pub refusal_bytes: u64,
}

/// How long records can be opened, and what must hold them before they go (R26, R30).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days by site and class.
    pub rules: Rules,
    /// Whether the gateway destroys what is no longer kept; otherwise only `sekisho audit shred` does.
    pub automatic: bool,
    /// Folders of cursors of `sekisho audit ship`: nothing goes that one of them has not passed.
    pub required: Vec<PathBuf>,
}

/// When a record counts as written (threats A1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is disclosed or changed before the record is on stable storage.
    BeforeAnswer,
    /// The log is committed at least this often; a crash loses what came within it.
    Interval(Duration),
}

/// What happens to requests while the audit log cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// 503, and not ready.
    Refuse,
    /// Continuity of care: requests go on, and an alarm stays until the log is whole.
    ServeAndAlarm,
}

/// The clock (R7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// What happens to requests while the error is beyond its bound.
    pub on_alarm: OnClockAlarm,
    /// The bound on the clock's error.
    pub max_error: Duration,
    /// The error that is worth a warning.
    pub warn_error: Duration,
    /// chronyd's monitoring address; none where nobody asks it.
    pub chrony: Option<SocketAddr>,
    /// From one question to a time server to the next.
    pub probe_interval: Duration,
    /// Time servers that the gateway asks by itself.
    pub servers: Vec<ClockServer>,
}

/// A time server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockServer {
    /// Host and port.
    pub address: String,
    /// The key that it shares with us (RFC 8573), a line of chrony's key file; none to believe whoever answers.
    pub key_file: Option<PathBuf>,
}

/// What happens to requests while the clock's error is beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnClockAlarm {
    /// 503, and not ready.
    Refuse,
    /// Requests go on, and their records say so.
    Mark,
}

/// Where the policies are (R2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The folder of `*.cedar` files.
    pub directory: PathBuf,
}

/// How backends know that an identity comes from this gateway (R13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The signing key of `Sekisho-Identity`, PEM; made at the first start where it is absent.
    pub key_file: PathBuf,
    /// Where backends fetch the public half by plain HTTP, and nothing else is served; none unless set.
    pub jwks_listen: Option<SocketAddr>,
}

/// A link to the folder of the certificate in use, in a listener's folder.
pub const ACME_CURRENT: &str = "current";
/// The chain in such a folder.
pub const ACME_CHAIN: &str = "chain.pem";
/// The key in such a folder.
pub const ACME_KEY: &str = "key.pem";

/// Where listeners' own certificates come from, if not from files (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The server's directory, an `https` URL.
    pub directory_url: String,
    /// The only authorities that may vouch for the server, PEM.
    pub ca_file: PathBuf,
    /// Where the server's operator reaches ours, such as `mailto:` URLs.
    pub contact: Vec<String>,
    /// The account's key, certificates and their keys.
    pub state_directory: PathBuf,
}

/// Metrics and health (R19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen: a loopback address unless there is TLS. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The operators' mutual TLS; none is plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// The login guard (R8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// How often a login may fail, and what follows.
    pub limits: policy::login::Limits,
    /// Attempts that one device may make per minute, before anything is remembered of them; a tenth of them at once.
    pub device_attempts: NonZeroU32,
    /// The same of a site.
    pub site_attempts: NonZeroU32,
    /// The same of a network address.
    pub address_attempts: NonZeroU32,
    /// How long a `Basic` password that was right is known to be.
    pub verified: Duration,
}

/// The gateway's own accounts (R8, R9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What a password must be.
    pub profile: policy::account::Profile,
    /// What hashing one costs.
    pub hashing: Hashing,
    /// Threads that hash.
    pub threads: usize,
    /// Logins that may wait for them.
    pub queue: usize,
    /// Passwords before the present one that must not come back.
    pub remember: u32,
    /// Time steps before and after the present one of which a code is taken.
    pub totp_window: u64,
    /// How long a login may take from its first step to its last.
    pub stage: Duration,
    /// What authenticators call the gateway.
    pub issuer: String,
    /// The key that authenticators' secrets are sealed under; made at its first use where it is absent.
    pub key_file: PathBuf,
    /// What the login page warns of, in Japanese (R32); none: the text that ships.
    pub notice_ja: Option<String>,
    /// The same in English.
    pub notice_en: Option<String>,
}

/// What one argon2id hash costs (RFC 9106 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashing {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Sessions (R10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// How long one lasts, and how many one user has.
    pub rules: policy::session::Rules,
    /// Most that live at once, and as many that are over are remembered.
    pub most: usize,
    /// The key that secrets are hashed under; made at the first start where it is absent.
    pub key_file: PathBuf,
}

/// Diagnostics to standard error. They never name a user or a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe event that is written.
    pub level: tracing::Level,
}

/// How a line of diagnostics looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Text for a person.
    Text,
}

/// The threads that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// How many; none is one per core.
    pub count: Option<NonZeroUsize>,
}

/// How the gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long requests under way may take once no new one is accepted.
    pub drain: Duration,
}

/// The clinic's own certificate authority, and where devices enrol (RFC 7030).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The authority's folder, made by `sekisho ca init`.
    pub directory: PathBuf,
    /// Where devices enrol and renew; none: only operators enrol them.
    pub est: Option<EnrolmentListener>,
    /// Where the lists of revoked certificates are served by plain HTTP, and nothing else is; none unless set.
    pub crl_listen: Option<SocketAddr>,
}

/// The listener that devices enrol at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentListener {
    /// Its address.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// The server's key, PEM.
    pub key_file: PathBuf,
}
