//! What a peer did wrong, and what it is told (RFC 9114 8.1, RFC 9204 6).

use policy::Refusal;

/// The codes that the gateway itself sends.
pub(super) mod code {
    pub(in super::super) const NO_ERROR: u32 = 0x100;
    pub(in super::super) const STREAM_CREATION_ERROR: u32 = 0x103;
    pub(in super::super) const CLOSED_CRITICAL_STREAM: u32 = 0x104;
    pub(in super::super) const FRAME_UNEXPECTED: u32 = 0x105;
    pub(in super::super) const FRAME_ERROR: u32 = 0x106;
    pub(in super::super) const EXCESSIVE_LOAD: u32 = 0x107;
    pub(in super::super) const ID_ERROR: u32 = 0x108;
    pub(in super::super) const SETTINGS_ERROR: u32 = 0x109;
    pub(in super::super) const MISSING_SETTINGS: u32 = 0x10a;
    pub(in super::super) const REQUEST_REJECTED: u32 = 0x10b;
    pub(in super::super) const REQUEST_CANCELLED: u32 = 0x10c;
    pub(in super::super) const REQUEST_INCOMPLETE: u32 = 0x10d;
    pub(in super::super) const MESSAGE_ERROR: u32 = 0x10e;
    pub(in super::super) const DECOMPRESSION_FAILED: u32 = 0x200;
    pub(in super::super) const ENCODER_STREAM_ERROR: u32 = 0x201;
    pub(in super::super) const DECODER_STREAM_ERROR: u32 = 0x202;
    pub(in super::super) const INTERNAL_ERROR: u32 = 0x102;
}

/// A breach of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// What the peer is told.
    pub(super) code: u32,
    /// It ends the connection; otherwise its stream alone.
    pub(super) whole: bool,
    /// What it is recorded as.
    pub(super) refusal: Refusal,
    /// What was wrong, for the record.
    pub(super) why: &'static str,
}

impl Fault {
    /// Of a stream.
    pub(super) const fn stream(code: u32, why: &'static str) -> Self {
        Self { code, whole: false, refusal: Refusal::RequestMalformed, why }
    }

    /// Of the connection.
    pub(super) const fn connection(code: u32, why: &'static str) -> Self {
        Self { code, whole: true, refusal: Refusal::RequestMalformed, why }
    }

    /// More of something than the gateway bears.
    pub(super) const fn load(refusal: Refusal, why: &'static str) -> Self {
        Self { code: code::EXCESSIVE_LOAD, whole: true, refusal, why }
    }
}
