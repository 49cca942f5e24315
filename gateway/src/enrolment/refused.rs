//! Who gets no certificate, and why: the answer, the metric, the diagnostics and the record have one label.

use std::net::SocketAddr;
use std::sync::Arc;

use certs::PeerRefused;
use certs::issue::RequestError;
use gateway_audit::record::{Refused as Record, Stage};
use http::StatusCode;
use policy::{DeviceId, Refusal};
use rustls::pki_types::UnixTime;

use crate::audit::ControlLane;
use crate::authority::CaError;
use crate::clock::Clock;
use crate::listen::Strangers;
use crate::metrics::Metrics;
use crate::store::StoreError;

/// The name that records and metrics have for where devices enrol.
pub(super) const LISTENER: &str = "enrolment";

/// Why somebody gets no certificate.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is nothing here, or not by this method.
    Http(StatusCode, &'static str),
    /// No code, or not a valid one. Which it is, nobody is told.
    Code(&'static str),
    /// The request itself: status and reason.
    Request(StatusCode, String),
    /// The certificate may not be renewed.
    Renewal(&'static str),
    /// Our own fault.
    Unavailable(CaError),
}

impl Refused {
    /// The refusal of the closed list; none where nothing was asked for that could be refused.
    pub(super) const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Http(..) => None,
            Self::Code(_) => Some(Refusal::EnrolmentCode),
            Self::Request(..) => Some(Refusal::EnrolmentRequest),
            Self::Renewal(_) => Some(Refusal::EnrolmentRenewal),
            Self::Unavailable(_) => Some(Refusal::EnrolmentUnavailable),
        }
    }

    /// What the record says of it.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Http(_, text) => (*text).to_owned(),
            Self::Code(why) | Self::Renewal(why) => (*why).to_owned(),
            Self::Request(_, why) => why.clone(),
            Self::Unavailable(error) => error.to_string().escape_debug().to_string(),
        }
    }
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self::Request(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<CaError> for Refused {
    fn from(error: CaError) -> Self {
        Self::Unavailable(error)
    }
}

/// What the store says to whoever comes with a code.
pub(super) fn by_code(error: StoreError) -> Refused {
    // A device that is not there and a code that is wrong look the same to the peer, not to the record.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all else is the store's own trouble")]
    match error {
        StoreError::Code => Refused::Code("the code is wrong, used or expired"),
        StoreError::NotFound { .. } => Refused::Code("the device is not registered"),
        StoreError::NotActive(_) => Refused::Code("the device or its site is suspended"),
        other => Refused::Unavailable(other.into()),
    }
}

/// What the store says to whoever comes with a certificate.
pub(super) fn by_certificate(error: StoreError) -> Refused {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all else is the store's own trouble")]
    match error {
        StoreError::Renewal => Refused::Renewal("the certificate is not valid"),
        StoreError::Renewed => Refused::Renewal("the certificate was renewed before, for another key"),
        StoreError::NotFound { .. } | StoreError::NotActive(_) => Refused::Renewal("the device is not active"),
        other => Refused::Unavailable(other.into()),
    }
}

/// Tells of refusals.
#[derive(Clone)]
pub struct RefusalLog {
    /// The way into the audit log.
    pub lane: ControlLane,
    /// What strangers may write there: one budget with the other listeners.
    pub strangers: Arc<Strangers>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Metrics,
}

impl RefusalLog {
    /// The time.
    pub(super) fn now(&self) -> UnixTime {
        let since = std::time::Duration::from_nanos(u64::try_from(self.clock.now().unix_ns).unwrap_or(0));
        UnixTime::since_unix_epoch(since)
    }

    /// Counts and records a peer that was refused before it could ask for anything.
    pub(super) fn refuse_peer(&self, source: SocketAddr, refused: &PeerRefused, stage: Stage) {
        let PeerRefused { refusal, detail, device } = refused;
        self.metrics.handshake(LISTENER, refusal.label());
        tracing::debug!(%source, reason = refusal.label(), %detail, "refused where devices enrol");
        self.record(source, *refusal, detail, device.as_ref(), stage);
    }

    /// Records a refusal within the strangers' budget. `claimed` is the device that somebody says that he is.
    pub(super) fn record(
        &self,
        source: SocketAddr,
        refusal: Refusal,
        detail: &str,
        claimed: Option<&DeviceId>,
        stage: Stage,
    ) {
        let (summaries, admitted) = self.strangers.take(&self.clock.now(), refusal, source.ip());
        for summary in summaries {
            self.metrics.refusal_summaries.inc();
            summary.with_record(|record| self.lane.append_unwaited(record));
        }
        if admitted {
            self.lane.append_unwaited(&Record {
                listener: LISTENER,
                source: &source.to_string(),
                stage,
                reason: refusal.label(),
                detail: (!detail.is_empty()).then_some(detail.as_bytes()),
                sni: None,
                certificate: None,
                site: claimed.map(|device| device.site.as_str()),
                device: claimed.map(|device| device.device.as_str()),
                user: None,
                patient: None,
            });
        }
    }
}
