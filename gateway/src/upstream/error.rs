//! Why a request got no answer from a backend.

use std::sync::Arc;
use std::time::Duration;

use policy::Refusal;

use crate::body::BodyError;

/// A request that was not answered, and by which backend.
#[derive(Debug, Clone, thiserror::Error)]
#[error("backend `{}`: {failure}", backend.as_deref().unwrap_or("none"))]
pub struct UpstreamError {
    /// Host and port of the backend that was tried last; none where the request never got that far.
    pub backend: Option<Arc<str>>,
    /// What went wrong.
    pub failure: Failure,
    /// A backend may have seen some of the request.
    pub sent: bool,
    /// After how long the client is told to come again, where no server takes its request.
    pub retry_after: Option<Duration>,
}

impl UpstreamError {
    /// What to tell the client.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.failure.refusal()
    }
}

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident $(($field:ty))? = $label:literal, $text:literal;)*) => {
        /// What went wrong between the gateway and a backend.
        #[derive(Debug, Clone, thiserror::Error)]
        pub enum Failure {
            $($(#[$doc])* #[error($text)] $variant $(($field))?,)*
        }

        impl Failure {
            /// Every label, in the order of [`Failure::index`].
            pub const LABELS: &'static [&'static str] = &[$($label,)*];

            /// The label `reason` of `backend_errors`.
            #[must_use]
            pub const fn label(&self) -> &'static str {
                match self { $(failures!(@pattern $variant $(($field))?) => $label,)* }
            }
        }
    };
    (@pattern $variant:ident ($field:ty)) => { Self::$variant(_) };
    (@pattern $variant:ident) => { Self::$variant };
}

failures! {
    /// No service has that name: the routes and the services come from different snapshots.
    ServiceUnknown = "service-unknown", "the service is unknown";
    /// No server of the service takes part: all are drained, or their health checks fail.
    NoServer = "no-server", "no server of the service takes requests";
    /// Every server has as many requests as it may have, and as many wait as may.
    Overloaded = "overloaded", "every server of the service has as many requests as it may have";
    /// The connection could not be opened.
    Connect(String) = "connect", "cannot connect: {0}";
    /// The connection was not open in time, TLS included.
    ConnectTimeout = "connect-timeout", "connecting took too long";
    /// The backend did not prove to be itself, or does not speak the protocol configured.
    Tls(String) = "tls", "the TLS handshake failed: {0}";
    /// The connection ended before the answer's head was whole.
    Closed(String) = "closed", "the connection ended before the answer: {0}";
    /// The answer's head did not come in time.
    HeadTimeout = "head-timeout", "no answer in time";
    /// The answer's head did not come within the deadline of the route.
    Deadline = "deadline", "no answer within the route's deadline";
    /// The backend stopped reading the request's body.
    BodyTimeout = "body-timeout", "the request's body was not read in time";
    /// The answer is not well-formed, or can be read in two ways.
    Malformed(String) = "malformed", "the answer is malformed: {0}";
    /// The backend switched protocols although nobody asked (RFC 9110 15.2.2).
    UpgradeUnasked = "upgrade-unasked", "the backend switched protocols unasked";
    /// The backend was asked for a WebSocket and answered with success, or with another protocol than that (row C3).
    UpgradeAnswer(&'static str) = "upgrade-answer", "the backend did not open the WebSocket: {0}";
    /// The client stopped sending its body.
    RequestStalled = "request-stalled", "the request's body stopped coming";
    /// The request's framing contradicts its body, so that it cannot be forwarded (C4).
    RequestFraming(&'static str) = "request-framing", "the request cannot be framed: {0}";
    /// The request's body turned bad while it was streaming; the connection was dropped (C1).
    RequestBody(BodyError) = "request-body", "{0}";
}

impl Failure {
    /// What to tell the client.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::ServiceUnknown => Refusal::InternalError,
            Self::Connect(_) | Self::Tls(_) | Self::NoServer | Self::Overloaded => Refusal::BackendUnavailable,
            Self::ConnectTimeout | Self::HeadTimeout | Self::BodyTimeout | Self::Deadline => Refusal::BackendTimeout,
            Self::Closed(_) | Self::Malformed(_) | Self::UpgradeUnasked | Self::UpgradeAnswer(_) => {
                Refusal::BackendMalformed
            }
            Self::RequestStalled => Refusal::RequestTimeout,
            Self::RequestFraming(_) => Refusal::RequestAmbiguous,
            Self::RequestBody(BodyError::Refused(refusal)) => *refusal,
            Self::RequestBody(BodyError::Broken(_) | BodyError::Idle) => Refusal::RequestMalformed,
        }
    }

    /// Whether the backend, rather than the client or the gateway, is at fault.
    #[must_use]
    pub const fn blames_backend(&self) -> bool {
        !matches!(
            self,
            Self::ServiceUnknown
                | Self::NoServer
                | Self::Overloaded
                | Self::RequestStalled
                | Self::RequestFraming(_)
                | Self::RequestBody(_)
        )
    }

    /// Position of the label in [`Failure::LABELS`].
    #[must_use]
    pub fn index(&self) -> usize {
        let label = self.label();
        Self::LABELS.iter().position(|other| *other == label).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_under_its_label_and_told_as_a_refusal() {
        for (failure, label, refusal) in [
            (Failure::Connect("refused".into()), "connect", Refusal::BackendUnavailable),
            (Failure::HeadTimeout, "head-timeout", Refusal::BackendTimeout),
            (Failure::UpgradeUnasked, "upgrade-unasked", Refusal::BackendMalformed),
            (Failure::RequestBody(BodyError::Refused(Refusal::BodyTooLarge)), "request-body", Refusal::BodyTooLarge),
        ] {
            assert_eq!(failure.label(), label);
            assert_eq!(Failure::LABELS[failure.index()], label);
            assert_eq!(failure.refusal(), refusal);
        }
    }
}
