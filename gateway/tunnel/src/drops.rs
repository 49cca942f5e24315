//! What was dropped and why: a closed list of reasons, a counter for each, and one report for each site and interval.

use std::time::{Duration, Instant};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a datagram, or the packet in it, was dropped. The labels are those of metrics and records.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason as a word that never changes.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// Not a WireGuard message: type, reserved bytes or length.
    NotWireGuard = "not-wireguard",
    /// Longer than any packet a tunnel carries.
    Oversized = "oversized",
    /// mac1 of a handshake message is wrong: its sender does not know the gateway's key.
    Mac1 = "mac1",
    /// Under load; a cookie was sent, to be shown with the next try.
    CookieSent = "cookie-sent",
    /// Over the limit of handshakes, of its source or of all.
    HandshakeRate = "handshake-rate",
    /// An initiation by a key that nobody registered.
    UnknownKey = "unknown-key",
    /// An initiation that does not prove the key that it claims, or a response that proves nothing.
    Forged = "forged",
    /// An initiation that is not newer than the last one of its key.
    ReplayedInitiation = "replayed-initiation",
    /// Over the limit of handshakes of one peer.
    PeerRate = "peer-rate",
    /// For a session that does not exist, or no longer.
    UnknownSession = "unknown-session",
    /// A transport message that was altered, or made without the session's key.
    Unauthentic = "unauthentic",
    /// A transport message that came before, or so late that nobody can tell.
    Replayed = "replayed",
    /// A transport message whose counter is past what a session may count to (2^64 - 2^13 - 1).
    Counter = "counter",
    /// Inside: not an IP packet, or one that contradicts itself.
    Malformed = "malformed",
    /// Inside: from an address that belongs to another peer, or to nobody.
    SpoofedSource = "spoofed-source",
    /// Inside: a fragment.
    Fragment = "fragment",
    /// Inside: to many: multicast or broadcast.
    Multicast = "multicast",
    /// Inside: to a device of another site (R14).
    OtherSite = "other-site",
    /// Inside: to another device of the same site.
    OtherDevice = "other-device",
    /// Inside: to an address that is neither the gateway's nor any device's.
    OtherAddress = "other-address",
    /// Inside: neither TCP nor an ICMP echo request, nor DNS where a site asked for it.
    Protocol = "protocol",
    /// Inside: to a port where nothing listens.
    Port = "port",
    /// Inside: a TCP segment of a connection that is not there.
    NoConnection = "no-connection",
    /// Inside: a connection too many of its peer or site.
    TooManyStreams = "too-many-streams",
    /// Inside: a connection for which there is no memory left.
    Memory = "memory",
    /// Inside: a half-open connection that gave way to a newer one, or was never completed.
    HalfOpen = "half-open",
    /// A packet to a peer that could not be sent: no session, and none could be had.
    Unsent = "unsent",
}

/// A number for each [`DropReason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl Default for DropCounts {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounts {
    /// How many were dropped for this reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many were dropped, whatever the reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons for which something was dropped, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| (*reason, self.get(*reason))).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}

/// Drops of one site, or of strangers, between reports. The first drop after a silence is reported at once, what follows
/// at the end of the interval, all in one.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    pending: DropCounts,
    /// When the next report may go out.
    due: Option<Instant>,
}

impl Reporter {
    /// Counts. `Some` is a report to make now.
    pub(crate) fn add(&mut self, now: Instant, interval: Duration, reason: DropReason) -> Option<DropCounts> {
        self.pending.add(reason);
        self.take(now, interval)
    }

    /// The report that is due, if there is one.
    pub(crate) fn take(&mut self, now: Instant, interval: Duration) -> Option<DropCounts> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        if self.pending.total() == 0 {
            self.due = None;
            return None;
        }
        self.due = now.checked_add(interval);
        Some(std::mem::take(&mut self.pending))
    }

    /// What is still to be reported, due or not.
    pub(crate) fn rest(&mut self) -> Option<DropCounts> {
        (self.pending.total() > 0).then(|| std::mem::take(&mut self.pending))
    }

    /// When [`take`](Self::take) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_of_the_common_form() {
        let labels: std::collections::HashSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(
            labels.iter().all(|label| label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
    }

    #[test]
    fn one_report_for_each_interval_and_nothing_lost() {
        let start = Instant::now();
        let interval = Duration::from_secs(60);
        let mut reporter = Reporter::default();
        let first = reporter.add(start, interval, DropReason::Port).unwrap();
        assert_eq!(first.get(DropReason::Port), 1);
        for second in 1..60 {
            assert!(reporter.add(start + Duration::from_secs(second), interval, DropReason::Fragment).is_none());
        }
        let second = reporter.take(start + interval, interval).unwrap();
        assert_eq!(second.iter().collect::<Vec<_>>(), [(DropReason::Fragment, 59)]);
        assert!(reporter.take(start + 2 * interval, interval).is_none());
        assert_eq!(reporter.due(), None, "silence ends the interval");
    }
}
