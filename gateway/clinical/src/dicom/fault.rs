//! What ends an association because a peer breaks the protocol.

/// Why bytes were not taken. Every fault ends the association by an A-ABORT, or without one in the middle of a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// A PDU of a type that the upper layer does not know (PS3.8 section 9.3).
    #[error("unknown PDU type")]
    UnknownPdu,
    /// A PDU that does not belong here, in this state or from this side.
    #[error("unexpected PDU")]
    UnexpectedPdu,
    /// A PDU or an item whose lengths contradict each other, or a field with a value that it may not have.
    #[error("malformed PDU")]
    MalformedPdu,
    /// A PDU that must be held whole is longer than the bound.
    #[error("PDU too long")]
    PduTooLong,
    /// A fragment on a presentation context that was not accepted.
    #[error("presentation context not accepted")]
    Context,
    /// Fragments of two messages mixed, or a message that is no message's turn (PS3.7 section 6.3.1, PS3.8 annex E).
    #[error("fragments out of order")]
    Fragments,
    /// A command set that cannot be read in exactly one way (PS3.7 section 6.3.1).
    #[error("malformed command")]
    MalformedCommand,
    /// A command set longer than the bound.
    #[error("command too long")]
    CommandTooLong,
    /// A request, a response or a sub-operation that nothing asked for.
    #[error("unexpected message")]
    UnexpectedMessage,
    /// A data set that cannot be read in exactly one way, of which part was already forwarded.
    #[error("malformed data set")]
    MalformedData,
    /// A refused operation's data set goes on and on.
    #[error("refused data set too long")]
    RefusedDataTooLong,
    /// The acceptor's answer to the association does not fit the request.
    #[error("answer does not fit the request")]
    Answer,
}

impl Fault {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownPdu => "unknown-pdu",
            Self::UnexpectedPdu => "unexpected-pdu",
            Self::MalformedPdu => "malformed-pdu",
            Self::PduTooLong => "pdu-too-long",
            Self::Context => "context",
            Self::Fragments => "fragments",
            Self::MalformedCommand => "malformed-command",
            Self::CommandTooLong => "command-too-long",
            Self::UnexpectedMessage => "unexpected-message",
            Self::MalformedData => "malformed-data",
            Self::RefusedDataTooLong => "refused-data-too-long",
            Self::Answer => "answer",
        }
    }

    /// The reason in an A-ABORT of the service provider (PS3.8 table 9-26).
    pub(crate) const fn abort_reason(self) -> u8 {
        match self {
            Self::UnknownPdu => 1,
            Self::UnexpectedPdu => 2,
            Self::MalformedPdu | Self::Context | Self::Fragments | Self::Answer => 6,
            Self::PduTooLong
            | Self::MalformedCommand
            | Self::CommandTooLong
            | Self::UnexpectedMessage
            | Self::MalformedData
            | Self::RefusedDataTooLong => 0,
        }
    }
}
