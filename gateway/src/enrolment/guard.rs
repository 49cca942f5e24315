//! The pace of wrong enrolment codes (RFC 7030 3.2.3).
//!
//! A code has 100 random bits and is of one device, so no bound on guesses keeps anybody out: with a thousand codes open
//! for one device, somebody who tries a thousand a second for a hundred years hits one with a chance of
//! 1000 · 3.2·10⁹ · 1000 / 2¹⁰⁰ ≈ 2.5·10⁻¹⁵. What has to be kept from being worn out is the store, the diagnostics and the
//! log. So after a few failures an address waits before anybody looks at its next code, and waits only: whoever has the
//! right code gets in, whatever others at the same address, at the same device or in the whole network have tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::refusals::Network;
use crate::listen::network_of;

/// Failures are forgotten after this.
const WINDOW: Duration = Duration::from_secs(600);
/// Failures of one source within the window that nobody waits for.
pub(super) const FREE: u32 = 10;
/// So long does a code of a source beyond that wait. A source has [`Slots`](super::slots::Slots) for 64
/// connections, each with one request at a time: it tries 64 codes a second at most.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// Addresses, and networks, that are remembered at once: about a megabyte.
const REMEMBERED: usize = 8_192;
/// How often somebody looks for what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Whose failures are counted together: where there is no room for another address its network counts, and where there
/// is none for that either, all who are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// An address; of IPv6 a /64.
    Address(IpAddr),
    /// A /24 or a /56.
    Network(Network),
    /// Whoever else.
    Others,
}

/// Who failed how often.
#[derive(Debug, Default)]
pub(super) struct Guard {
    failures: HashMap<Source, (u32, Instant)>,
    addresses: usize,
    networks: usize,
    swept: Option<Instant>,
}

/// An attempt that counts as failed until it is given back.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt {
    source: Source,
    /// How long it has to wait.
    pub(super) pause: Duration,
}

impl Guard {
    /// Counts an attempt as failed, before it is made: many at once are no faster than one after another. Give it back
    /// by [`Guard::succeeded`].
    pub(super) fn attempt(&mut self, source: IpAddr, now: Instant) -> Attempt {
        let source = self.source(source, now);
        if let std::collections::hash_map::Entry::Vacant(free) = self.failures.entry(source) {
            free.insert((0, now));
            match source {
                Source::Address(_) => self.addresses += 1,
                Source::Network(_) => self.networks += 1,
                Source::Others => {}
            }
        }
        let Some((failures, since)) = self.failures.get_mut(&source) else { return Attempt { source, pause: PAUSE } };
        if now.duration_since(*since) >= WINDOW {
            (*failures, *since) = (0, now);
        }
        let pause = if *failures < FREE { Duration::ZERO } else { PAUSE };
        *failures = failures.saturating_add(1);
        Attempt { source, pause }
    }

    /// The attempt did not fail.
    pub(super) fn succeeded(&mut self, attempt: &Attempt) {
        if let Some((failures, _)) = self.failures.get_mut(&attempt.source) {
            *failures = failures.saturating_sub(1);
        }
    }

    /// The narrowest source that is known or finds room.
    fn source(&mut self, address: IpAddr, now: Instant) -> Source {
        let own = Source::Address(network_of(address));
        if self.failures.contains_key(&own) {
            return own;
        }
        self.sweep(now);
        if self.addresses < REMEMBERED {
            return own;
        }
        let network = Source::Network(Network::of(address));
        if self.networks < REMEMBERED || self.failures.contains_key(&network) { network } else { Source::Others }
    }

    fn sweep(&mut self, now: Instant) {
        let full = self.addresses >= REMEMBERED || self.networks >= REMEMBERED;
        if !full || self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.failures.retain(|_, (failures, since)| *failures > 0 && now.duration_since(*since) < WINDOW);
        let count = |wanted: fn(&Source) -> bool| self.failures.keys().filter(|source| wanted(source)).count();
        self.addresses = count(|source| matches!(source, Source::Address(_)));
        self.networks = count(|source| matches!(source, Source::Network(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_often_waits_and_nobody_else_does() {
        let mut guard = Guard::default();
        let now = Instant::now();
        for _ in 0..FREE {
            assert_eq!(guard.attempt(address(1), now).pause, Duration::ZERO);
        }
        assert_eq!(guard.attempt(address(1), now).pause, PAUSE);
        assert_eq!(guard.attempt("::ffff:192.0.2.1".parse().unwrap(), now).pause, PAUSE, "the same address");
        assert_eq!(guard.attempt(address(2), now).pause, Duration::ZERO);
        assert_eq!(guard.attempt(address(1), now + WINDOW).pause, Duration::ZERO, "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn success_costs_nothing() {
        let mut guard = Guard::default();
        for _ in 0..100 {
            let attempt = guard.attempt(address(1), Instant::now());
            assert_eq!(attempt.pause, Duration::ZERO);
            guard.succeeded(&attempt);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_neither_fill_the_memory_nor_shut_anybody_out() {
        let mut guard = Guard::default();
        let now = Instant::now();
        // Every /24 of 10.0.0.0/8 and more, each with two addresses.
        for number in 0..2 * REMEMBERED as u32 {
            let [_, a, b, c] = (number << 7).to_be_bytes();
            let _ = guard.attempt(IpAddr::from([10, a, b, c]), now);
        }
        assert_eq!(guard.addresses, REMEMBERED);
        // A newcomer is counted with its network, and with everybody once networks are full, too; it waits at the most.
        let newcomer = guard.attempt(address(1), now);
        assert!(matches!(newcomer.source, Source::Network(_)), "{newcomer:?}");
        for number in 0..2 * REMEMBERED as u32 {
            let [_, a, b, c] = (number << 8).to_be_bytes();
            let _ = guard.attempt(IpAddr::from([100 + a, b, c, 1]), now);
        }
        assert!(guard.failures.len() <= 2 * REMEMBERED + 1, "{}", guard.failures.len());
        let newcomer = guard.attempt(IpAddr::from([250, 0, 0, 1]), now);
        assert_eq!((newcomer.source, newcomer.pause), (Source::Others, PAUSE));
        // What is known stays known, and what is over makes room.
        assert!(matches!(guard.attempt(IpAddr::from([10, 0, 0, 0]), now).source, Source::Address(_)));
        let later = guard.attempt(IpAddr::from([250, 0, 0, 1]), now + WINDOW);
        assert!(matches!(later.source, Source::Address(_)), "{later:?}");
        assert!(guard.failures.len() <= 2);
    }
}
