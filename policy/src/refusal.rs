//! The closed list of refusals. The answer to the client, the metric's label, the log's field and the runbook all
//! use [`Refusal::label`]: a search for a label finds all four.

use std::fmt;

/// Whose doing a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer sent something wrong, or may not do what it asked.
    Peer,
    /// The operator's policy or registry says no.
    Operator,
    /// The gateway or a backend cannot serve at the moment.
    Service,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $label:literal, $blame:ident;)*) => {
        /// Why the gateway said no. Every refusal anywhere is one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name: the last part of the problem's `type`, the metric's label, the record's `reason`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Whose doing it is.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)* }
            }
        }
    };
}

refusals! {
    /// Too many connections from one source address.
    TooManyConnections = "too-many-connections", Peer;
    /// Too many handshakes under way, in all or from one source address.
    TooManyHandshakes = "too-many-handshakes", Service;
    /// The header of the PROXY protocol from a listed network is missing, malformed, too long or late; or what is no TLS comes from a
    /// network that is not listed.
    ProxyHeader = "proxy-header", Peer;
    /// The handshake did not end in time.
    HandshakeTimeout = "handshake-timeout", Peer;
    /// The peer does not speak TLS as the listener's profile wants it.
    HandshakeFailed = "handshake-failed", Peer;
    /// The peer speaks TLS 1.2, and its site is none of those that may at this listener (R21).
    ProtocolTooOld = "protocol-too-old", Peer;
    /// The peer asked for a server name that is not the listener's (C7).
    ServerNameUnknown = "server-name-unknown", Peer;
    /// The peer presented no certificate (R1).
    CertificateMissing = "certificate-missing", Peer;
    /// The certificate's bytes cannot be read, or its chain breaks the rules.
    CertificateMalformed = "certificate-malformed", Peer;
    /// No trust anchor of the listener issued the certificate.
    CertificateUntrusted = "certificate-untrusted", Peer;
    /// The certificate, or one above it, is not valid any more.
    CertificateExpired = "certificate-expired", Peer;
    /// The certificate, or one above it, is not valid yet.
    CertificateNotYetValid = "certificate-not-yet-valid", Peer;
    /// The certificate was revoked by its issuer.
    CertificateRevoked = "certificate-revoked", Peer;
    /// Nobody can say whether the certificate was revoked, and the listener wants to know.
    RevocationUnknown = "revocation-unknown", Operator;
    /// The certificate has a name that its issuers may not certify.
    CertificateName = "certificate-name", Peer;
    /// The certificate's policies are not those that the listener accepts.
    CertificatePolicy = "certificate-policy", Peer;
    /// The certificate, or one above it, has a weak key or a signature that is not accepted.
    CertificateWeak = "certificate-weak", Peer;
    /// The certificates are larger, more or deeper than the bounds, or a path costs too much work to find.
    CertificateTooLarge = "certificate-too-large", Peer;
    /// The certificate may not be used by a client, or stands for a purpose that is not the listener's.
    CertificatePurpose = "certificate-purpose", Peer;
    /// The certificate names nobody in the way that the listener reads: no device by exactly one SPIFFE ID of the trust
    /// domain, no user by HPKI, no patient.
    CertificateIdentity = "certificate-identity", Peer;
    /// The site is not in the registry.
    SiteUnregistered = "site-unregistered", Operator;
    /// The site is suspended.
    SiteSuspended = "site-suspended", Operator;
    /// The device is not in the registry (R3).
    DeviceUnregistered = "device-unregistered", Operator;
    /// The device is suspended (R3).
    DeviceSuspended = "device-suspended", Operator;
    /// No user is registered for the holder of the certificate: it proves a qualification, not a place of work.
    UserUnregistered = "user-unregistered", Operator;
    /// The user, or the user assigned to the device, is suspended or gone (R27).
    UserSuspended = "user-suspended", Operator;
    /// The key of the tunnel is not, or no longer, a registered device's (R3, R27).
    TunnelKeyUnknown = "tunnel-key-unknown", Operator;
    /// Inside a tunnel a certificate was presented that is another device's than the tunnel's key (R1).
    TunnelIdentity = "tunnel-identity", Peer;
    /// The request's head is not well-formed HTTP.
    RequestMalformed = "request-malformed", Peer;
    /// The request can be read in two ways: its framing, its host or its target is ambiguous.
    RequestAmbiguous = "request-ambiguous", Peer;
    /// What listed proxies wrote of where a request comes from cannot be read.
    ForwardedMalformed = "forwarded-malformed", Peer;
    /// The target cannot be brought into its one normal form.
    TargetNotNormal = "target-not-normal", Peer;
    /// The target is longer than the listener takes.
    TargetTooLong = "target-too-long", Peer;
    /// The header section has more fields or bytes than the listener takes.
    HeaderTooLarge = "header-too-large", Peer;
    /// The body is longer than `body_bytes` of the listener.
    BodyTooLarge = "body-too-large", Peer;
    /// The request did not arrive in time.
    RequestTimeout = "request-timeout", Peer;
    /// The request's authority is not one that this connection was opened for.
    Misdirected = "misdirected", Peer;
    /// CONNECT, TRACE or a method that no route knows.
    MethodNotAllowed = "method-not-allowed", Peer;
    /// The request asks to change the protocol (RFC 9110 7.8, RFC 8441), and its route does not allow that.
    UpgradeRefused = "upgrade-refused", Peer;
    /// The request opens a WebSocket in a way that RFC 6455 or RFC 8441 does not know.
    WebsocketMalformed = "websocket-malformed", Peer;
    /// A page of another origin than the gateway's, or those that the route lists, opens a WebSocket.
    OriginRefused = "origin-refused", Peer;
    /// The request expects something other than `100-continue`.
    ExpectationFailed = "expectation-failed", Peer;
    /// The peer's frames break the bounds on HTTP/2.
    ProtocolAbuse = "protocol-abuse", Peer;
    /// The peer asks for more than it may, or its refused requests have used up their part of the log.
    RateLimited = "rate-limited", Peer;
    /// A site or a device has made more requests in a time than its quota has.
    QuotaRequests = "quota-requests", Peer;
    /// The bodies of a site or a device had more bytes in a time than its quota has.
    QuotaBytes = "quota-bytes", Peer;
    /// A site or a device has as many requests under way as its quota has.
    QuotaConcurrency = "quota-concurrency", Peer;
    /// No route takes the target.
    RouteUnknown = "route-unknown", Peer;
    /// No policy permits the action.
    PolicyNoPermit = "policy-no-permit", Operator;
    /// A policy forbids the action.
    PolicyForbid = "policy-forbid", Operator;
    /// No policy permits the action as things are; one would, were the user known more strongly or proved more recently (R9).
    StepUpRequired = "step-up-required", Operator;
    /// A policy could not be evaluated, which denies.
    PolicyError = "policy-error", Operator;
    /// The audit log cannot be written.
    AuditUnavailable = "audit-unavailable", Service;
    /// The audit log's queue is full.
    AuditBusy = "audit-busy", Service;
    /// The clock's error is beyond its bound, or nobody knows it (R7).
    ClockUnsynchronised = "clock-unsynchronised", Service;
    /// The gateway is shutting down.
    Draining = "draining", Service;
    /// No backend of the service can be reached.
    BackendUnavailable = "backend-unavailable", Service;
    /// The backend did not answer in time.
    BackendTimeout = "backend-timeout", Service;
    /// The backend's answer is not well-formed HTTP, or ended early.
    BackendMalformed = "backend-malformed", Service;
    /// Whoever wants a certificate has no valid enrolment code for a registered, active device.
    EnrolmentCode = "enrolment-code", Peer;
    /// The certification request cannot be read, has no proof of possession, or a key that nobody certifies.
    EnrolmentRequest = "enrolment-request", Peer;
    /// The certificate may not be renewed: not ours, not valid, too early, or renewed before for another key.
    EnrolmentRenewal = "enrolment-renewal", Peer;
    /// The authority cannot issue at the moment: its store, its key or its files.
    EnrolmentUnavailable = "enrolment-unavailable", Service;
    /// A login request names its account twice, holds several passwords, or knocks at a second door of its backend.
    LoginAmbiguous = "login-ambiguous", Peer;
    /// A login request's body is not in the one encoding that its route reads.
    LoginEncoding = "login-encoding", Peer;
    /// A login request names no account, or its body cannot be read.
    LoginMalformed = "login-malformed", Peer;
    /// The account failed at this device a moment ago, or is being tried there now (R8).
    LoginPaused = "login-paused", Peer;
    /// A lockout of the account, the device, the site or the address is in force (R8). Whoever asks is told
    /// [`LoginPaused`](Self::LoginPaused).
    LoginLocked = "login-locked", Peer;
    /// The guard has no room for another account, or cannot put the attempt on stable storage.
    LoginUnavailable = "login-unavailable", Service;
    /// Account and password, or the code of the second factor, are not right; or the account may not be used (R8, R9).
    LoginFailed = "login-failed", Peer;
    /// A form of the gateway's own pages did not come from there: its token, its `Origin` or its age is wrong.
    LoginForm = "login-form", Peer;
    /// A browser comes back from an identity provider with an answer to no login that it began at this device: the state, the
    /// issuer or the browser is another, it was answered before, or its time is over (C14).
    LoginCallback = "login-callback", Peer;
    /// An identity provider cannot be asked, or does not answer in a way that can be read: nobody can log in there.
    ProviderUnavailable = "provider-unavailable", Service;
    /// The route wants a token of an identity provider, and the request has none (R1).
    TokenMissing = "token-missing", Peer;
    /// The token is none that an issuer of the route made for this gateway, its time has not come, or it stands in the query.
    TokenInvalid = "token-invalid", Peer;
    /// The token's time is over.
    TokenExpired = "token-expired", Peer;
    /// The token is bound to another certificate, or to none where it must be (RFC 8705).
    TokenNotBound = "token-not-bound", Peer;
    /// Nobody can say whether the token is good: its issuer's keys are not there or too old, or the issuer does not answer.
    TokenUnavailable = "token-unavailable", Service;
    /// A session's cookie or token is presented by another device than the one it was given to (C14).
    SessionStolen = "session-stolen", Peer;
    /// The route is for users who have logged in, and no session of this device is presented.
    SessionRequired = "session-required", Peer;
    /// The session ended while the request was under way: by an operator, by its bounds, or since its user may no more (R10, R27).
    SessionEnded = "session-ended", Operator;
    /// The request carries a session's cookie that can be read in two ways (C14).
    SessionAmbiguous = "session-ambiguous", Peer;
    /// The user may not act for somebody, or not any longer: nobody gave leave, it was taken back or is over, or one of the two may do
    /// nothing any more (R23, R27).
    ActingNotGranted = "acting-not-granted", Operator;
    /// There is no room for another session.
    SessionUnavailable = "session-unavailable", Service;
    /// The gateway failed in a way nobody planned for.
    InternalError = "internal-error", Service;
}

impl Refusal {
    /// What the peer is told: the refusal itself, but for one that would tell a guesser how the guessing goes.
    #[must_use]
    pub const fn told(self) -> Self {
        if matches!(self, Self::LoginLocked) { Self::LoginPaused } else { self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_and_fit_a_metric_label() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for label in labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{label}");
        }
    }
}
