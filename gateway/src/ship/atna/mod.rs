//! IHE ATNA by syslog over TLS: store and forward (IHE ITI-20; RFC 5424, RFC 5425).
//!
//! RFC 5425 has no acknowledgement: that a write succeeded says that bytes are in this host's memory, and that TCP
//! acknowledged them says that they are in the other's. What a receiver *can* show is that it has read a connection to
//! its end: it answers our `close_notify` and FIN by its own. So a portion counts as taken when, in this order,
//!
//! 1. it was written to a connection of its own,
//! 2. a second connection was opened, and the first was still open then,
//! 3. the first was ended by us and then, without an error, by the receiver: its program had read everything,
//! 4. the second one lived on for `settle_ms` and was ended the same way: the program that read the first is alive, and
//!    had that time to write down what it held in memory.
//!
//! Whatever breaks this, a restart of either side, a timeout, a reset, leaves the position where it was, and the portion
//! is sent again. So nothing is lost, order in a lane is kept, and what comes twice has the same id
//! (`ParticipantObjectID` of the audit record). Not seen is a program that dies later than `settle_ms` with messages
//! still in its memory, and one that is many programs behind one address.

mod connection;
mod syslog;

use std::time::Duration;

use gateway_export::atna;

use super::config::AtnaSettings;
use super::lane::Lane;
use super::records::Records;
use super::tls::Tls;
use super::{Destination, Fault};
use connection::Connection;

/// The most that is sent before the receiver must show that it was read.
const PORTION_RECORDS: usize = 10_000;
const PORTION_BYTES: usize = 4 << 20;

/// A syslog receiver.
#[derive(Debug)]
pub(super) struct Atna {
    settings: AtnaSettings,
    records: Records,
    tls: Tls,
}

impl Atna {
    /// A receiver as `ship.toml` names it.
    ///
    /// # Errors
    /// [`Fault::State`] if a file of its TLS cannot be used.
    pub(super) fn new(settings: &AtnaSettings, records: Records) -> Result<Self, Fault> {
        let tls = Tls::new(&settings.tls, &settings.address, &[])?;
        Ok(Self { settings: settings.clone(), records, tls })
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let timeout = Duration::from_secs(self.settings.timeout_s);
        Connection::open(&self.settings.address, &self.tls, timeout).await.map_err(Fault::Receiver)
    }

    async fn send(&self, messages: &[u8]) -> Result<(), Fault> {
        let mut first = self.open().await?;
        first.write(messages).await.map_err(Fault::Receiver)?;
        let mut second = self.open().await?;
        first.is_open().await.map_err(Fault::Receiver)?;
        first.end().await.map_err(Fault::Receiver)?;
        tokio::time::sleep(Duration::from_millis(self.settings.settle_ms)).await;
        second.is_open().await.map_err(Fault::Receiver)?;
        second.end().await.map_err(Fault::Receiver)?;
        // A reset that came behind the end of the first says that nobody was there to read it.
        first.is_unbroken().map_err(Fault::Receiver)
    }
}

impl Destination for Atna {
    async fn take(&mut self, lane: &Lane, from: u64) -> Result<u64, Fault> {
        let sealed = lane.records(from, PORTION_RECORDS, PORTION_BYTES)?;
        let end = sealed.last().map_or(from, |last| last.end);
        let mut messages = Vec::with_capacity(1 << 20);
        for sealed in &sealed {
            let event = self.records.event(lane, sealed)?;
            for message in atna::messages(&event, self.settings.max_message_bytes) {
                syslog::frame(&event, &message, &mut messages);
            }
        }
        self.send(&messages).await?;
        Ok(end)
    }
}

impl AtnaSettings {
    /// Says what of it cannot be, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        self.tls.check()?;
        for (key, value, least, most) in [
            ("settle_ms", self.settle_ms, 0, 600_000),
            ("timeout_s", self.timeout_s, 1, 3_600),
            ("max_message_bytes", self.max_message_bytes as u64, atna::MIN_LIMIT as u64, 1 << 24),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("`{key}` is {value}, and not {least} to {most}"));
            }
        }
        Ok(())
    }
}

/// The same in every part of this module.
type Socket = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;
