//! From an accepted stream to a connection that is known.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_audit::record::{self, ConnectionEvent, ConnectionFields, ConnectionTraffic};
use http::HeaderValue;
use certs::VerifiedPeer;
use policy::Refusal;
use policy::judge::TlsVersion;
use rustls::pki_types::CertificateDer;

use super::control::Control;
use super::tls::Parameters;
use crate::config::Listener;
use crate::worker::Worker;

/// A stream that the gate let in. Nobody knows yet who it is.
#[derive(Debug)]
pub struct Arrival {
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// Its name in every record of the connection: unique on this node while the gateway runs.
    pub id: String,
}

/// A connection with a known, registered peer: what every request on it has in common.
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// The verified device.
    pub peer: VerifiedPeer,
    /// The certificates it presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server name that the peer asked for, lower case; none where it asked for none.
    pub sni: Option<String>,
    /// For policies.
    pub tls_version: TlsVersion,
    /// `Client-Cert` for backends (RFC 9440), made once.
    pub client_cert: HeaderValue,
    /// `Forwarded`'s `for` parameter for backends (RFC 7239), quoted where it must be.
    pub forwarded_for: String,
    /// The `connection` part of every record.
    pub fields: record::Connection,
    /// The rein.
    pub control: Control,
    /// Requests taken so far.
    pub requests: Cell<u64>,
}

impl Connection {
    /// Ties an arrival to the peer that was proved on it.
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        arrival: Arrival,
        peer: VerifiedPeer,
        chain: Vec<CertificateDer<'static>>,
        tls: Parameters,
    ) -> Rc<Self> {
        let fields = record::Connection::new(&ConnectionFields {
            id: &arrival.id,
            listener: &arrival.listener.name,
            transport: "tcp",
            source: &arrival.source.to_string(),
            tls: Some(record::Tls {
                version: tls.version,
                suite: tls.suite,
                group: tls.group,
                resumed: tls.resumed,
                sni: tls.sni.as_deref().map(str::as_bytes),
                alpn: Some(if tls.is_h2 { b"h2" } else { b"http/1.1" }),
            }),
            site: Some(peer.device().site.as_str()),
            device: Some(peer.device().device.as_str()),
            certificate: Some(record::Certificate { sha256: peer.fingerprint(), serial: None }),
        });
        Rc::new(Self {
            client_cert: client_cert(&chain),
            forwarded_for: forwarded_for(arrival.source),
            sni: tls.sni,
            tls_version: if tls.version == "1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
            fields,
            listener: arrival.listener,
            source: arrival.source,
            accepted: arrival.accepted,
            worker,
            peer,
            chain,
            control: Control::default(),
            requests: Cell::new(0),
        })
    }

    /// Records the connection's beginning (R5: when a device came).
    pub fn opened(&self) {
        self.worker.append_unwaited(&(&self.fields, ConnectionEvent::Opened));
    }

    /// Records the connection's end and its cause; none where the peer or a deadline ended it.
    pub fn closed(&self, cause: Option<Refusal>) {
        if let Some(refusal) = cause {
            self.worker.metrics.cuts.with_label_values(&[refusal.label()]).inc();
        }
        let traffic = ConnectionTraffic {
            requests: self.requests.get(),
            duration_us: u64::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let cause = cause.map_or("peer", Refusal::label);
        self.worker.append_unwaited(&(&self.fields, ConnectionEvent::Closed { cause, traffic }));
    }
}

/// RFC 9440 section 2.2: the leaf as a Structured Field byte sequence.
fn client_cert(chain: &[CertificateDer<'_>]) -> HeaderValue {
    let mut value = String::from(":");
    if let Some(leaf) = chain.first() {
        STANDARD.encode_string(leaf, &mut value);
    }
    value.push(':');
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static("::"))
}

/// RFC 7239 section 6: an IPv6 address is bracketed and quoted.
fn forwarded_for(source: SocketAddr) -> String {
    let mut value = String::new();
    let _ = match source.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => write!(value, "{v4}"),
        std::net::IpAddr::V6(v6) => write!(value, "\"[{v6}]\""),
    };
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_source_is_quoted_and_a_mapped_one_is_ipv4() {
        assert_eq!(forwarded_for("192.0.2.1:5".parse().unwrap()), "192.0.2.1");
        assert_eq!(forwarded_for("[2001:db8::1]:5".parse().unwrap()), "\"[2001:db8::1]\"");
        assert_eq!(forwarded_for("[::ffff:192.0.2.1]:5".parse().unwrap()), "192.0.2.1");
    }

    #[test]
    fn the_leaf_is_a_byte_sequence() {
        assert_eq!(client_cert(&[CertificateDer::from(vec![0u8, 1, 2, 255])]), ":AAEC/w==:");
    }
}
