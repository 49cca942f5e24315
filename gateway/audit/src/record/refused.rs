//! Peers that were refused before they could ask for anything.

use super::{Certificate, Header, Record, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{Object, key};

/// How far the peer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// A connection was accepted.
    Accept,
    /// The TLS handshake.
    Handshake,
    /// The certificate was proved; the registry does not take its device.
    Registry,
    /// Bytes that are no request, on a verified connection.
    Request,
    /// Somebody asked for a certificate (RFC 7030).
    Enrolment,
}

impl Stage {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Handshake => "handshake",
            Self::Registry => "registry",
            Self::Request => "request",
            Self::Enrolment => "enrolment",
        }
    }
}

/// Kind `refusal`: a connection or handshake refused. Keys: `certificate` {`serial`, `sha256`}, `detail`, `device`,
/// `listener`, `patient`, `reason`, `site`, `sni`, `source`, `stage`, `user`. Site and device are what the certificate
/// claims, or whoever asks for one.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The peer's address and port.
    pub source: &'a str,
    /// How far it came.
    pub stage: Stage,
    /// The refusal's label.
    pub reason: &'static str,
    /// What exactly was wrong, for the log only.
    pub detail: Option<&'a [u8]>,
    /// The server name as the peer sent it.
    pub sni: Option<&'a [u8]>,
    /// The certificate it showed.
    pub certificate: Option<Certificate<'a>>,
    /// The site that the certificate names.
    pub site: Option<&'a str>,
    /// The device that the certificate names.
    pub device: Option<&'a str>,
    /// The user whose certificate it is, on a verified connection.
    pub user: Option<&'a str>,
    /// The patient whose certificate it is, on a verified connection.
    pub patient: Option<&'a str>,
}

impl Record for Refused<'_> {
    const FOLLOWS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Refusal
    }

    fn scope(&self) -> Scope<'_> {
        // Only on a connection that was taken is the site a registered one.
        Scope { site: self.site.filter(|_| self.stage == Stage::Request), class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        if let Some(certificate) = &self.certificate {
            let mut inner = Object::new(object.key(key!("certificate")));
            if let Some(serial) = certificate.serial {
                inner.hex(key!("serial"), serial);
            }
            inner.hex(key!("sha256"), certificate.sha256);
            inner.end();
        }
        write_clock(&mut object, header);
        object.optional_bytes(key!("detail"), self.detail);
        object.optional_text(key!("device"), self.device);
        object.label(key!("kind"), "refusal");
        object.text(key!("listener"), self.listener);
        object.text(key!("node"), header.node);
        object.optional_text(key!("patient"), self.patient);
        object.label(key!("reason"), self.reason);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("site"), self.site);
        object.optional_bytes(key!("sni"), self.sni);
        object.text(key!("source"), self.source);
        object.label(key!("stage"), self.stage.label());
        write_time(&mut object, header);
        object.optional_text(key!("user"), self.user);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// Kind `refusal-summary`: refusals that were counted instead of recorded one by one. Keys: `count`, `device`, `from`,
/// `network`, `patient`, `reason`, `site`, `until`, `user`. Strangers are kept apart by `network`, peers that were proved
/// by `site` and `device`, `site` and `user`, or `patient`; absent where they were too many to keep apart.
#[derive(Debug, Clone, Copy)]
pub struct RefusedSummary<'a> {
    /// The refusal's label.
    pub reason: &'static str,
    /// The source network, such as `192.0.2.0/24`.
    pub network: Option<&'a str>,
    /// The site of a registered device.
    pub site: Option<&'a str>,
    /// The registered device.
    pub device: Option<&'a str>,
    /// The user, of whom no device is known.
    pub user: Option<&'a str>,
    /// The patient.
    pub patient: Option<&'a str>,
    /// How many were counted.
    pub count: u64,
    /// Start of the interval, nanoseconds since the Unix epoch.
    pub from_unix_ns: i64,
    /// Its end.
    pub until_unix_ns: i64,
}

impl Record for RefusedSummary<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::RefusalSummary
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        write_clock(&mut object, header);
        object.number(key!("count"), self.count);
        object.optional_text(key!("device"), self.device);
        super::lifecycle::write_instant(&mut object, key!("from"), self.from_unix_ns);
        object.label(key!("kind"), "refusal-summary");
        object.optional_text(key!("network"), self.network);
        object.text(key!("node"), header.node);
        object.optional_text(key!("patient"), self.patient);
        object.label(key!("reason"), self.reason);
        let splice = write_sequence(&mut object, start);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        super::lifecycle::write_instant(&mut object, key!("until"), self.until_unix_ns);
        object.optional_text(key!("user"), self.user);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
