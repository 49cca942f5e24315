//! From an accepted stream to a connection that is known.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use certs::{PeerIdentity, PeerRefused};
use gateway_audit::record::{self, ConnectionEvent, ConnectionFields, ConnectionTraffic, Refused, Stage};
use gateway_tunnel::PeerName;
use http::HeaderValue;
use policy::judge::TlsVersion;
use policy::{DeviceId, DeviceName, Party, Refusal, SiteName, Subject, UserName};

use super::allowance::{Allowance, Rate};
use super::control::Control;
use super::deadline::Deadline;
use super::peer::Peer;
use super::tls::{Parameters, Protocol};
use crate::clock::Clock as _;
use crate::config::Listener;
use crate::exchange::Meters;
use crate::quota::{Metered, Quotas};
use crate::session::{Acting, Session};
use crate::snapshot::{Door, Snapshot};
use crate::upstream::Client;
use crate::upstream::headers::{self, client_cert};
use crate::worker::Worker;

/// What a record of a refusal that is no request's is reckoned at, in bytes.
const REFUSAL_BYTES: u64 = 1024;
/// How long a client may remember that HTTP/3 is spoken (RFC 7838 3.1).
const ALT_SVC_SECONDS: u32 = 86_400;
/// Requests that a peer may make at once, in seconds of its rate: a viewer asks for many images together.
const REQUEST_BURST_SECONDS: u64 = 10;

/// A stream that the gate let in. Nobody knows yet who it is.
#[derive(Debug)]
pub struct Arrival {
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// The port it came to.
    pub port: u16,
    /// Where it comes from: by the word of a load balancer, where it came through one.
    pub source: SocketAddr,
    /// The address that it came to, where that is known.
    pub local: Option<IpAddr>,
    /// The load balancer that it came through.
    pub proxy: Option<SocketAddr>,
    /// When it was accepted.
    pub accepted: Instant,
    /// Its name in every record of the connection: unique on this node while the gateway runs.
    pub id: HeaderValue,
    /// The peer at the other end of the tunnel that it came out of, where it came out of one.
    pub tunnel: Option<Arc<PeerName>>,
}

impl Arrival {
    /// Whose it is, where a certificate that was refused says so or the tunnel that it came out of.
    pub(crate) fn party<'a>(&'a self, refused: &'a PeerRefused) -> Option<(&'a SiteName, &'a DeviceName)> {
        let shown = refused.device.as_ref().map(|device| (&device.site, &device.device));
        shown.or_else(|| self.tunnel.as_deref().map(|peer| (&peer.site, &peer.device)))
    }
}

/// A connection with a known, registered peer: what every request on it has in common.
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// The port it came to.
    pub port: u16,
    /// Where it comes from: by the word of a load balancer, where it came through one.
    source: Cell<SocketAddr>,
    /// The address that it came to, where that is known.
    local: Option<IpAddr>,
    /// Says in answers that HTTP/3 is spoken as well; none where it is not, or is what is spoken.
    pub alt_svc: Option<HeaderValue>,
    /// When it was accepted.
    pub accepted: Instant,
    /// The proved peer.
    pub peer: Peer,
    /// The server name that the peer asked for, lower case; none where it asked for none.
    pub sni: Option<String>,
    /// The device's SPIFFE ID, where the peer is one.
    pub spiffe_id: Option<String>,
    /// For policies; none where no TLS is spoken, inside a tunnel.
    pub tls_version: Option<TlsVersion>,
    /// `Client-Cert` for backends (RFC 9440), made once.
    pub client_cert: Option<HeaderValue>,
    /// `Forwarded` for backends (RFC 7239), and the authority it was made for.
    forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// The `connection` part of every record.
    pub fields: record::Connection,
    /// What its peer may still have of this worker.
    allowance: Rc<Allowance>,
    /// What its peer and its peer's site have used of their quotas; looked up once.
    metered: OnceCell<Metered>,
    /// Who it was opened by, without what may change while it lives; none where the registry changed its mind between
    /// the handshake and here, and then the connection is cut.
    party: Option<Party>,
    /// The handle that ends it.
    pub control: Control,
    /// Requests taken so far.
    pub requests: Cell<u64>,
    /// The metrics of its requests.
    pub meters: Meters,
    /// Timers of exchanges that are over. A timer that is used again is moved by a store.
    deadlines: RefCell<Vec<Deadline>>,
    /// Users of requests under way, besides whom the peer itself stands for; one for each request.
    bearers: RefCell<Vec<(UserName, Option<UserName>)>>,
    /// Who its peer is, and the version of the snapshot that says so.
    subject: RefCell<Option<(u64, Arc<Subject>)>>,
    /// The same of the user whose session was last used on it.
    in_session: RefCell<Option<InSession>>,
}

struct InSession {
    snapshot: u64,
    session: Arc<Session>,
    acting: Option<Arc<Acting>>,
    subject: Arc<Subject>,
}

impl Connection {
    /// Ties an arrival to the peer that was proved on it.
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        arrival: Arrival,
        peer: Peer,
        tls: Option<Parameters>,
        opened_by: (&Door, &Snapshot),
    ) -> Rc<Self> {
        let (door, snapshot) = opened_by;
        let spiffe_id = peer.device().map(|device| door.tls.spiffe_id(device));
        let party = party_of(&peer, door, snapshot);
        let patient = party.as_ref().and_then(Party::patient).map(ToString::to_string);
        // A device's record tells of its user with each request: that may change while the connection lives.
        let user = party.as_ref().filter(|party| party.device().is_none()).and_then(Party::user);
        let qualifications: Vec<&str> = match peer.identity() {
            PeerIdentity::User { qualifications, .. } => qualifications.iter().map(String::as_str).collect(),
            PeerIdentity::Device(_) | PeerIdentity::Patient(_) => Vec::new(),
        };
        let fields = record::Connection::new(&ConnectionFields {
            id: arrival.id.to_str().unwrap_or_default(),
            listener: &arrival.listener.name,
            transport: match tls.as_ref().map(|tls| tls.protocol) {
                Some(Protocol::H3) => "quic",
                Some(Protocol::H1 | Protocol::H2) | None => peer.transport_label(),
            },
            source: &arrival.source.to_string(),
            proxy: arrival.proxy.map(|proxy| proxy.to_string()).as_deref(),
            tls: tls.as_ref().map(|tls| record::Tls {
                version: tls.version,
                suite: tls.suite,
                group: tls.group,
                resumed: tls.resumed,
                sni: tls.sni.as_deref().map(str::as_bytes),
                alpn: match arrival.listener.stream(arrival.port) {
                    Some(_) => None,
                    None => Some(tls.protocol.label().as_bytes()),
                },
            }),
            site: party.as_ref().and_then(Party::site).map(SiteName::as_str),
            device: peer.device().map(|device| device.device.as_str()),
            user: user.map(UserName::as_str),
            patient: patient.as_deref(),
            qualifications: &qualifications,
            certificate: peer.fingerprint().map(|sha256| record::Certificate { sha256, serial: None }),
        });
        let protocol = tls.as_ref().map(|tls| tls.protocol);
        let alt_svc = match protocol {
            Some(Protocol::H1 | Protocol::H2) if arrival.listener.http3 => {
                HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", arrival.port)).ok()
            }
            Some(Protocol::H1 | Protocol::H2 | Protocol::H3) | None => None,
        };
        if let Some(protocol) = protocol {
            let labels = [arrival.listener.name.as_str(), protocol.label()];
            worker.metrics.connections_opened.with_label_values(&labels).inc();
        }
        Rc::new(Self {
            client_cert: peer.chain().first().and_then(|leaf| client_cert(leaf)),
            spiffe_id,
            forwarded: RefCell::default(),
            allowance: worker.allowances.of(party.as_ref(), &worker.clock.now()),
            metered: OnceCell::new(),
            party,
            tls_version: tls.as_ref().map(|tls| match tls.version {
                "1.3" => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            }),
            sni: tls.and_then(|tls| tls.sni),
            fields,
            listener: arrival.listener,
            port: arrival.port,
            source: Cell::new(arrival.source),
            local: arrival.local,
            alt_svc,
            accepted: arrival.accepted,
            worker,
            peer,
            control: Control::default(),
            requests: Cell::new(0),
            meters: Meters::default(),
            deadlines: RefCell::default(),
            bearers: RefCell::default(),
            subject: RefCell::default(),
            in_session: RefCell::default(),
        })
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source.get()
    }

    /// Notes where it comes from now: a peer's address may change while its connection of QUIC lives (RFC 9000 9), which is
    /// counted and recorded. What is judged from here on, is by the new one.
    pub(crate) fn follow(&self, source: SocketAddr) {
        if self.source.replace(source) == source {
            return;
        }
        *self.forwarded.borrow_mut() = None;
        self.worker.metrics.quic.migrations.with_label_values(&[&self.listener.name]).inc();
        let to = source.to_string();
        self.worker.append_unwaited(&(&self.fields, ConnectionEvent::Moved { to: &to }));
    }

    /// `Forwarded` for a request to `authority`; the one made before where the authority is the same.
    pub fn forwarded(&self, authority: &HeaderValue) -> Option<HeaderValue> {
        let mut made = self.forwarded.borrow_mut();
        if let Some((known, value)) = made.as_ref()
            && known == authority
        {
            return Some(value.clone());
        }
        let is_tls = self.tls_version.is_some();
        let value = headers::forwarded(self.source().ip(), is_tls, authority.to_str().ok()?, &self.listener.name)?;
        *made = Some((authority.clone(), value.clone()));
        Some(value)
    }

    /// Whose connection it is, for backends that want to know.
    pub(crate) fn client(&self) -> Client {
        let unknown =
            || if self.source().is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = self.local.unwrap_or_else(unknown);
        Client { source: self.source(), destination: SocketAddr::new(local, self.port) }
    }

    /// The deadline of an exchange that begins: the listener's bound, and `grace` on top of it.
    pub(crate) fn deadline(self: &Rc<Self>, grace: Duration) -> ExchangeDeadline {
        let timer = self.listener.limits.request_timeout.map(|limit| {
            let mut deadline = self.deadlines.borrow_mut().pop().unwrap_or_default();
            deadline.set(limit + grace);
            deadline
        });
        ExchangeDeadline { connection: Rc::clone(self), timer }
    }

    /// Who the peer is by the registry in force; looked up once for each snapshot.
    ///
    /// # Errors
    /// As [`Directory::subject`](crate::registry::Directory::subject); [`Refusal::Draining`] if its listener is gone.
    pub fn subject(&self, snapshot: &Snapshot) -> Result<Arc<Subject>, Refusal> {
        let mut known = self.subject.borrow_mut();
        if let Some((version, subject)) = known.as_ref()
            && *version == snapshot.version
        {
            return Ok(Arc::clone(subject));
        }
        *known = None;
        let door = snapshot.door(&self.listener.name).ok_or(Refusal::Draining)?;
        let subject = snapshot.directory.subject(self.peer.identity(), door.tls.proved())?;
        *known = Some((snapshot.version, Arc::clone(&subject)));
        Ok(subject)
    }

    /// Whether the registry still takes every user of a request under way (R27), and still lets those act who act for another.
    ///
    /// # Errors
    /// As [`Directory::admit_user`](crate::registry::Directory::admit_user) and
    /// [`Directory::acting_for`](crate::registry::Directory::acting_for).
    pub(crate) fn admits_bearers(&self, snapshot: &Snapshot, unix_ns: i64) -> Result<(), Refusal> {
        let bearers = self.bearers.borrow();
        let Some(site) = self.party.as_ref().and_then(Party::site).filter(|_| !bearers.is_empty()) else {
            return Ok(());
        };
        bearers.iter().try_for_each(|(user, acts_for)| {
            snapshot.directory.admit_user(site, user)?;
            let granted = |acts_for| snapshot.directory.acting_for(site, user, acts_for, unix_ns).map(drop);
            acts_for.as_ref().map_or(Ok(()), granted)
        })
    }

    /// Who the user of a session is at this device by the registry in force; looked up once for each snapshot.
    ///
    /// # Errors
    /// As [`Directory::user_at`](crate::registry::Directory::user_at).
    pub fn subject_in(
        &self,
        snapshot: &Snapshot,
        session: &Arc<Session>,
        (device, user): (&DeviceId, &UserName),
        acting: Option<&Arc<Acting>>,
        unix_ns: i64,
    ) -> Result<Arc<Subject>, Refusal> {
        let mut known = self.in_session.borrow_mut();
        let level = session.proof().level;
        let is_over = |acting: Option<&Arc<Acting>>| {
            let until_s = acting.and_then(|acting| acting.until_s);
            until_s.is_some_and(|until_s| unix_ns >= until_s.saturating_mul(1_000_000_000))
        };
        if let Some(known) = known.as_ref()
            && known.snapshot == snapshot.version
            && Arc::ptr_eq(&known.session, session)
            && known.subject.authentication_level == level
            && known.acting.as_ref() == acting
            && !is_over(acting)
        {
            return Ok(Arc::clone(&known.subject));
        }
        *known = None;
        let mut subject = snapshot.directory.user_at(device, user, level)?;
        if let Some(acting) = acting {
            let granted = snapshot.directory.acting_for(&device.site, user, &acting.user, unix_ns)?;
            Arc::make_mut(&mut subject).acting_for = Some(granted.0);
        }
        let (snapshot, session) = (snapshot.version, Arc::clone(session));
        *known = Some(InSession { snapshot, session, acting: acting.cloned(), subject: Arc::clone(&subject) });
        Ok(subject)
    }

    /// Whether its site may speak its version of TLS at the listener, by the configuration in force.
    ///
    /// # Errors
    /// As [`Listener::takes_version`].
    pub(crate) fn takes_version(&self, listener: &Listener) -> Result<(), Refusal> {
        listener.takes_version(self.tls_version, self.party.as_ref().and_then(Party::site))
    }

    /// Records the connection's beginning (R5: when a peer came).
    pub fn opened(&self) {
        self.worker.append_unwaited(&(&self.fields, ConnectionEvent::Opened));
    }

    /// Whether its peer may make another request.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        let limit = self.listener.limits.device_requests_per_second;
        limit.is_none_or(|per_second| {
            let rate = Rate { burst: per_second.saturating_mul(REQUEST_BURST_SECONDS), per_second };
            self.allowance.may_ask(&self.worker.clock.now(), rate)
        })
    }

    /// By what its requests are counted for quotas; none where nobody has one.
    pub(crate) fn metered(&self, quotas: &Quotas, now_ns: u64) -> Option<&Metered> {
        let party = self.party.as_ref().filter(|_| !quotas.is_off())?;
        Some(self.metered.get_or_init(|| self.worker.meters().of(party, now_ns)))
    }

    /// Whether a refusal may be recorded in full, in so many bytes; otherwise it is to be [counted](Self::limited).
    #[must_use]
    pub fn may_record(&self, bytes: u64) -> bool {
        let limits = &self.listener.limits;
        let rate =
            Rate { burst: limits.device_refusal_burst_bytes, per_second: limits.device_refusal_bytes_per_second };
        self.allowance.may_record(&self.worker.clock.now(), bytes, rate)
    }

    /// Counts a refusal instead of recording it.
    pub fn limited(&self) {
        self.allowance.count(&self.worker.clock.now());
    }

    /// Records something that the peer sent and that is no request.
    pub fn refused(&self, refusal: Refusal, detail: &str) {
        if !self.may_record(REFUSAL_BYTES) {
            self.limited();
            return;
        }
        let party = self.party.as_ref();
        let patient = party.and_then(Party::patient).map(ToString::to_string);
        self.worker.append_unwaited(&Refused {
            listener: &self.listener.name,
            source: &self.source().to_string(),
            stage: Stage::Request,
            reason: refusal.label(),
            detail: Some(detail.as_bytes()),
            sni: None,
            certificate: self.peer.fingerprint().map(|sha256| record::Certificate { sha256, serial: None }),
            site: party.and_then(Party::site).map(SiteName::as_str),
            device: party.and_then(Party::device).map(|device| device.device.as_str()),
            user: party.and_then(Party::user).map(UserName::as_str),
            patient: patient.as_deref(),
        });
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

/// Who the peer is as long as the connection lives. What a device's user is may change meanwhile.
fn party_of(peer: &Peer, door: &Door, snapshot: &Snapshot) -> Option<Party> {
    match peer.identity() {
        PeerIdentity::Device(device) => Some(Party::Device { device: device.clone(), user: None }),
        PeerIdentity::Patient(patient) => Some(Party::Patient(patient.clone())),
        identity @ PeerIdentity::User { .. } => {
            Some(snapshot.directory.subject(identity, door.tls.proved()).ok()?.party.clone())
        }
    }
}

/// A request under way whose user the peer itself does not stand for, and whom that one acts for. Should the registry suspend that
/// user, or take the leave to act, its connection is ended.
pub(crate) struct Bearing {
    connection: Rc<Connection>,
    who: (UserName, Option<UserName>),
}

impl Bearing {
    /// The request begins.
    pub(crate) fn begin(connection: &Rc<Connection>, user: &UserName, acts_for: Option<&UserName>) -> Self {
        let who = (user.clone(), acts_for.cloned());
        connection.bearers.borrow_mut().push(who.clone());
        Self { connection: Rc::clone(connection), who }
    }
}

impl Drop for Bearing {
    fn drop(&mut self) {
        let mut bearers = self.connection.bearers.borrow_mut();
        if let Some(place) = bearers.iter().position(|who| *who == self.who) {
            bearers.swap_remove(place);
        }
    }
}

/// When an exchange must have its answer; a timer lent by its connection.
pub(crate) struct ExchangeDeadline {
    connection: Rc<Connection>,
    /// None where the listener sets no bound.
    timer: Option<Deadline>,
}

impl ExchangeDeadline {
    /// Ready once the time is up.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.poll_expired(cx))
    }
}

impl Drop for ExchangeDeadline {
    fn drop(&mut self) {
        self.connection.deadlines.borrow_mut().extend(self.timer.take());
    }
}

#[cfg(test)]
mod tests {
    use gateway_tunnel::PublicKey;

    use super::*;

    #[test]
    fn a_refusal_inside_a_tunnel_is_its_devices() {
        let device = |name: &str| DeviceId { site: "aoi".parse().unwrap(), device: name.parse().unwrap() };
        let DeviceId { site, device: name } = device("ward-1");
        let arrival = |tunnel| Arrival {
            listener: Arc::new(crate::config::example_of_tunnels()),
            port: 443,
            source: ([10, 64, 1, 2], 50_000).into(),
            local: None,
            proxy: None,
            accepted: Instant::now(),
            id: HeaderValue::from_static("1"),
            tunnel,
        };
        let refused = |device| PeerRefused { refusal: Refusal::HandshakeFailed, detail: String::new(), device };
        let inside = arrival(Some(Arc::new(PeerName { key: PublicKey([1; 32]), site, device: name })));
        let party = |arrival: &Arrival, of: Option<DeviceId>| {
            let refused = refused(of);
            arrival.party(&refused).map(|(site, device)| format!("{site}/{device}"))
        };
        assert_eq!(party(&inside, None).as_deref(), Some("aoi/ward-1"));
        assert_eq!(party(&inside, Some(device("ward-2"))).as_deref(), Some("aoi/ward-2"), "as the certificate says");
        assert_eq!(party(&arrival(None), None), None, "a stranger");
    }
}
