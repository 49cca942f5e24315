//! Handshakes with the gateway's listener, good and bad.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http1::Wire;
use crate::pki::Identity;
use crate::wait::PATIENCE;

/// A listener as its clients know it: an address and the authority of its certificate.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    anchors: Arc<RootCertStore>,
}

/// How a ClientHello is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    Segments,
    Records,
}

/// A handshake that is about to be made.
#[derive(Debug, Clone)]
pub struct Handshake {
    door: Door,
    identity: Option<Identity>,
    server_name: String,
    alpn: Vec<Vec<u8>>,
    cut: Cut,
    tls12: bool,
    source: [u8; 4],
    before: Vec<u8>,
    group: Option<&'static dyn SupportedKxGroup>,
}

/// How a handshake was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// By a TLS alert.
    Alert(AlertDescription),
    /// By closing the connection.
    Closed,
}

/// A connection from another address of this machine: all of 127.0.0.0/8 is.
///
/// # Panics
/// If there is no socket.
#[must_use]
pub fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    try_connect_from(source, to).expect("a connection")
}

fn try_connect_from(source: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    if source == [127, 0, 0, 1] {
        return TcpStream::connect(to);
    }
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

impl Door {
    /// The listener at `address`, whose certificate `ca_pem` issued.
    ///
    /// # Panics
    /// If `ca_pem` is no certificate.
    #[must_use]
    pub fn new(address: SocketAddr, ca_pem: &str) -> Self {
        let mut anchors = RootCertStore::empty();
        anchors.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("a certificate")).expect("an authority");
        Self { address, anchors: Arc::new(anchors) }
    }

    /// A handshake with this certificate, for `localhost` and HTTP/1.1 over TLS 1.3 unless it is said otherwise.
    #[must_use]
    pub fn with(&self, identity: &Identity) -> Handshake {
        Handshake { identity: Some(identity.clone()), ..self.without_certificate() }
    }

    /// A handshake without a certificate.
    #[must_use]
    pub fn without_certificate(&self) -> Handshake {
        Handshake {
            door: self.clone(),
            identity: None,
            server_name: "localhost".to_owned(),
            alpn: vec![b"http/1.1".to_vec()],
            cut: Cut::Whole,
            tls12: false,
            source: [127, 0, 0, 1],
            before: Vec::new(),
            group: None,
        }
    }
}

impl Handshake {
    /// The server's name; an IP address is not sent as SNI (RFC 6066 section 3).
    #[must_use]
    pub fn to(mut self, server_name: &str) -> Self {
        server_name.clone_into(&mut self.server_name);
        self
    }

    /// The one protocol that is offered.
    #[must_use]
    pub fn alpn(mut self, protocol: &str) -> Self {
        self.alpn = vec![protocol.as_bytes().to_vec()];
        self
    }

    /// From another address of this machine.
    #[must_use]
    pub const fn from(mut self, source: [u8; 4]) -> Self {
        self.source = source;
        self
    }

    /// Sends these bytes before the handshake.
    #[must_use]
    pub fn after(mut self, bytes: &[u8]) -> Self {
        self.before = bytes.to_vec();
        self
    }

    /// Offers TLS 1.2 only.
    #[must_use]
    pub const fn tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    /// Offers this key exchange group alone.
    #[must_use]
    pub const fn only_group(mut self, group: &'static dyn SupportedKxGroup) -> Self {
        self.group = Some(group);
        self
    }

    /// Sends the ClientHello byte by byte, each in a TCP segment of its own.
    #[must_use]
    pub const fn in_segments(mut self) -> Self {
        self.cut = Cut::Segments;
        self
    }

    /// Sends the ClientHello in TLS records of one byte.
    #[must_use]
    pub const fn in_records(mut self) -> Self {
        self.cut = Cut::Records;
        self
    }

    /// The client's side of TLS, for clients that bring their own sockets.
    ///
    /// # Panics
    /// If the identity cannot be used.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Some(group) = self.group {
            provider.kx_groups = vec![group];
        }
        let provider = Arc::new(provider);
        let versions = if self.tls12 { [&rustls::version::TLS12] } else { [&rustls::version::TLS13] };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("the provider knows the version")
            .with_root_certificates(Arc::clone(&self.door.anchors));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()).expect("an identity"),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// The connection, with what is sent before the handshake.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut tcp = try_connect_from(self.source, to)?;
        tcp.write_all(&self.before)?;
        Ok(tcp)
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// What broke. With TLS 1.3 a server refuses a client's certificate only after the client is done: then the first
    /// read fails instead.
    pub fn try_open(&self) -> io::Result<Wire> {
        let name = ServerName::try_from(self.server_name.clone()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(self.config()), name).map_err(io::Error::other)?;
        let tcp = self.connect(self.door.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let local = tcp.local_addr()?;
        let mut stream = StreamOwned::new(connection, Socket { tcp, cut: self.cut });
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.sock.cut = Cut::Whole;
        stream.flush()?;
        Ok(Wire::new(stream, local, self.door.address.port()))
    }

    /// Makes the handshake.
    ///
    /// # Panics
    /// If it breaks.
    #[must_use]
    pub fn open(&self) -> Wire {
        self.try_open().unwrap_or_else(|error| panic!("the handshake broke: {error}"))
    }

    /// Makes the handshake, and expects the gateway to refuse it.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn refused(&self) -> Refusal {
        let error = match self.try_open() {
            Err(error) => error,
            Ok(mut wire) => match wire.read_some() {
                Ok(0) => return Refusal::Closed,
                Ok(_) => panic!("the handshake was not refused"),
                Err(error) => error,
            },
        };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Refusal::Alert(*alert),
            _ if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the handshake was not refused within {PATIENCE:?}")
            }
            _ if is_closed(&error) => Refusal::Closed,
            _ => panic!("the handshake broke on this side: {error}"),
        }
    }
}

/// The other side has closed.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A socket that can cut up what is written to it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) tcp: TcpStream,
    cut: Cut,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.cut, bytes) {
            (Cut::Segments, [first, ..]) => self.tcp.write(&[*first]),
            (Cut::Records, [22, major, minor, _, _, message @ ..]) => {
                let record = |byte: &u8| [22, *major, *minor, 0, 1, *byte];
                self.tcp.write_all(&message.iter().flat_map(record).collect::<Vec<_>>())?;
                self.cut = Cut::Whole;
                Ok(bytes.len())
            }
            _ => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
