//! Connections that carry no HTTP: what they speak, and where they go.

use std::time::Duration;

use policy::{InformationClass, RouteName, ServiceName};

use super::Listener;

/// What a port carries that carries no HTTP (R2, R5, R11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The TCP port inside tunnels; none of a listener of kind `tcp`, which has no other.
    pub port: Option<u16>,
    /// What is spoken.
    pub protocol: StreamProtocol,
    /// What policies, records and metrics call it; no other route has the name.
    pub route: RouteName,
    /// Where it goes.
    pub service: ServiceName,
    /// The class of information (R4).
    pub class: InformationClass,
    /// The longest silence.
    pub idle_timeout: Duration,
    /// From the first byte of an association's request or of a message to its last.
    pub message_timeout: Duration,
    /// Most bytes of a message, or of a data set as far as it must be known before it is judged.
    pub message_bytes: usize,
}

/// What is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamProtocol {
    /// Bytes, of which nothing is known.
    Raw,
    /// DICOM's upper layer (PS3.8).
    Dicom {
        /// The AE titles that the service answers to.
        called_titles: Vec<String>,
    },
    /// HL7 v2 over MLLP.
    Hl7 {
        /// Whether messages may have other separators than `|^~\&`.
        other_separators: bool,
    },
}

impl StreamProtocol {
    /// The name in the configuration.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Dicom { .. } => "dicom",
            Self::Hl7 { .. } => "hl7",
        }
    }
}

impl Listener {
    /// What a port carries, where that is no HTTP.
    #[must_use]
    pub fn stream(&self, port: u16) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.port.is_none_or(|own| own == port))
    }

    /// Whether nothing here is HTTP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.wireguard.is_none() && !self.streams.is_empty()
    }
}
