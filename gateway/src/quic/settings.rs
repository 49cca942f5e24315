//! What quinn is told: bounds on everything that a peer can make it hold.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};

use super::ids::Ids;
use super::windows::BASE;
use crate::config::Limits;
use crate::listen::Protocol;

/// QUIC version 1 (RFC 9000 15), and nothing before it.
const VERSION: u32 = 1;
/// Streams that a peer may have open in its direction alone: its control stream, two of QPACK, and what it tries us with.
const UNI_STREAMS: u32 = 16;
/// Bytes that a peer may send ahead on one stream; its connection's window bounds all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of handshake messages that may be out of order: a chain of certificates and what lies around it.
const CRYPTO_BUFFER: usize = 64 * 1024;
/// A peer that answers nothing for so long is gone; it is asked once in between. As over HTTP/2.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const SILENCE_MS: u32 = 50_000;
/// Handshakes that wait to be looked at, and bytes that come with them.
const INCOMING: usize = 256;
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_IN_ALL: u64 = 1024 * 1024;
/// How long a proof of an address holds.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);

/// What the workers of one listener share, so that one can read what another has given.
#[derive(Clone)]
pub(super) struct Keys {
    reset: Arc<hmac::Key>,
    token: Arc<hkdf::Prk>,
}

impl Keys {
    /// New random keys.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut bytes = [[0; 64]; 2];
        for key in &mut bytes {
            aws_lc_rs::rand::fill(key).map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        }
        let [reset, token] = bytes;
        Ok(Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token)),
        })
    }

    /// An endpoint's.
    pub(super) fn endpoint(&self, ids: Ids) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::clone(&self.reset) as _);
        config.cid_generator(move || Box::new(ids)).supported_versions(vec![VERSION]);
        config
    }

    /// A server's: how handshakes begin. `tls` and the transport are each connection's own when it is accepted.
    pub(super) fn server(
        &self,
        tls: Arc<dyn quinn::crypto::ServerConfig>,
        transport: Arc<TransportConfig>,
    ) -> ServerConfig {
        let mut config = ServerConfig::new(tls, Arc::clone(&self.token) as _);
        // A token for later would prove an address whose owner is long another.
        let mut later = quinn::ValidationTokenConfig::default();
        later.sent(0);
        config
            .transport_config(transport)
            .validation_token_config(later)
            .retry_token_lifetime(RETRY_LIFETIME)
            .migration(true)
            .max_incoming(INCOMING)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_IN_ALL);
        config
    }
}

/// A connection's bounds.
pub(super) fn transport(limits: &Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.h2_concurrent_streams.into())
        .max_concurrent_uni_streams(UNI_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(BASE.into())
        .send_window(u64::from(BASE))
        .crypto_buffer_size(CRYPTO_BUFFER)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(SILENCE_MS))))
        .keep_alive_interval(Some(PING_INTERVAL))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    config
}

/// What is agreed on by ALPN (RFC 9114 3.1).
pub(crate) const ALPN: &[&[u8]] = &[Protocol::H3.label().as_bytes()];
