//! Connections: the part of a request's record that is the same for all requests of one connection.

use super::{Header, Record, Scope, Splice, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};

/// What is known of a connection once its peer is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFields<'a> {
    /// Unique on this node while the gateway runs, and in the log together with the boot id.
    pub id: &'a str,
    /// The listener's name.
    pub listener: &'a str,
    /// `tcp`, `quic` and so on.
    pub transport: &'a str,
    /// The peer's address and port.
    pub source: &'a str,
    /// The load balancer's address and port, where one passed the connection on and said by a PROXY header whose it is.
    pub proxy: Option<&'a str>,
    /// TLS parameters, where the connection speaks TLS.
    pub tls: Option<Tls<'a>>,
    /// The proved site; of a user with a certificate of their own, the one that the registry says.
    pub site: Option<&'a str>,
    /// The proved device.
    pub device: Option<&'a str>,
    /// The user, where a certificate of their own proved them.
    pub user: Option<&'a str>,
    /// The patient, where one was proved: who vouches, `/` and what they call the patient.
    pub patient: Option<&'a str>,
    /// The qualifications of the user, as the certificate spells them, those that stand for no role included.
    pub qualifications: &'a [&'a str],
    /// The certificate that proved it.
    pub certificate: Option<Certificate<'a>>,
}

/// TLS parameters of a connection (R15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'a> {
    /// `1.3` or `1.2`.
    pub version: &'a str,
    /// The cipher suite's IANA name.
    pub suite: &'a str,
    /// The key exchange group's IANA name.
    pub group: Option<&'a str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The server name as the peer sent it.
    pub sni: Option<&'a [u8]>,
    /// The protocol agreed by ALPN, as bytes.
    pub alpn: Option<&'a [u8]>,
}

/// A peer's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// SHA-256 of the leaf's DER.
    pub sha256: &'a [u8; 32],
    /// The serial number's bytes, as they stand in the certificate.
    pub serial: Option<&'a [u8]>,
}

/// The `connection` value of records, written once and copied into each record of the connection.
///
/// Keys: `certificate` {`serial`, `sha256`}, `device`, `id`, `listener`, `patient`, `proxy`, `qualifications`, `site`, `source`,
/// `tls` {`alpn`, `group`, `resumed`, `sni`, `suite`, `version`}, `transport`, `user`. `user`, `patient` and
/// `qualifications` are there only where a person's own certificate opened the connection; the user whom a device is
/// assigned to stands in each request's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    written: Box<[u8]>,
    site: Option<Box<str>>,
}

impl Connection {
    /// Writes the fields.
    #[must_use]
    pub fn new(fields: &ConnectionFields<'_>) -> Self {
        let mut out = Vec::with_capacity(512);
        let mut object = Object::new(&mut out);
        if let Some(certificate) = &fields.certificate {
            let mut inner = Object::new(object.key(key!("certificate")));
            if let Some(serial) = certificate.serial {
                inner.hex(key!("serial"), serial);
            }
            inner.hex(key!("sha256"), certificate.sha256);
            inner.end();
        }
        object.optional_text(key!("device"), fields.device);
        object.text(key!("id"), fields.id);
        object.text(key!("listener"), fields.listener);
        object.optional_text(key!("patient"), fields.patient);
        object.optional_text(key!("proxy"), fields.proxy);
        if !fields.qualifications.is_empty() {
            object.array(key!("qualifications"), fields.qualifications, |out, text| json::string(out, text));
        }
        object.optional_text(key!("site"), fields.site);
        object.text(key!("source"), fields.source);
        if let Some(tls) = &fields.tls {
            let mut inner = Object::new(object.key(key!("tls")));
            inner.optional_bytes(key!("alpn"), tls.alpn);
            inner.optional_text(key!("group"), tls.group);
            inner.boolean(key!("resumed"), tls.resumed);
            inner.optional_bytes(key!("sni"), tls.sni);
            inner.text(key!("suite"), tls.suite);
            inner.text(key!("version"), tls.version);
            inner.end();
        }
        object.text(key!("transport"), fields.transport);
        object.optional_text(key!("user"), fields.user);
        object.end();
        Self { written: out.into_boxed_slice(), site: fields.site.map(Into::into) }
    }

    /// The written value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.written
    }

    /// The proved site.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        self.site.as_deref()
    }
}

/// What happens to a connection as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent<'a> {
    /// The peer is verified and registered.
    Opened,
    /// It comes from another address from here on (RFC 9000 9).
    Moved {
        /// That address, and the port.
        to: &'a str,
    },
    /// The connection is over.
    Closed {
        /// Why: `peer`, `idle`, or a refusal's label such as `device-suspended`.
        cause: &'a str,
        /// What went over it.
        traffic: ConnectionTraffic,
    },
}

/// Counts over a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionTraffic {
    /// Requests taken.
    pub requests: u64,
    /// From accept to close, microseconds.
    pub duration_us: u64,
}

/// Kind `connection-opened`, `connection-moved` or `connection-closed` (R5: login time of a device or a person). Adds
/// `connection`, whose `source` is where it was opened from, for a moved one `to`, and for a closed one `cause`,
/// `duration_us`, `requests`.
impl Record for (&Connection, ConnectionEvent<'_>) {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        match self.1 {
            ConnectionEvent::Opened => Kind::ConnectionOpened,
            ConnectionEvent::Moved { .. } => Kind::ConnectionMoved,
            ConnectionEvent::Closed { .. } => Kind::ConnectionClosed,
        }
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.0.site(), class: None }
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let (connection, event) = self;
        let mut object = Object::new(out);
        if let ConnectionEvent::Closed { cause, .. } = event {
            object.text(key!("cause"), cause);
        }
        write_clock(&mut object, header);
        object.key(key!("connection")).extend_from_slice(connection.as_bytes());
        let mut requests = None;
        match event {
            ConnectionEvent::Opened => object.label(key!("kind"), "connection-opened"),
            ConnectionEvent::Moved { .. } => object.label(key!("kind"), "connection-moved"),
            ConnectionEvent::Closed { traffic, .. } => {
                object.number(key!("duration_us"), traffic.duration_us);
                object.label(key!("kind"), "connection-closed");
                requests = Some(traffic.requests);
            }
        }
        object.text(key!("node"), header.node);
        object.optional_number(key!("requests"), requests);
        let splice = write_sequence(&mut object, start);
        write_time(&mut object, header);
        if let ConnectionEvent::Moved { to } = event {
            object.text(key!("to"), to);
        }
        object.number(key!("version"), super::VERSION);
        object.end();
        splice
    }
}
