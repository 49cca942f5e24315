//! Bounds on guessing at enrolment codes (RFC 7030 3.2.3): so many failures from one address, and so many at one device,
//! within a time. A code has 100 random bits; the bounds keep the store and the diagnostics from being worn out, too.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use policy::DeviceId;
use tokio::time::Instant;

use crate::listen::network_of;

/// Failures are forgotten after this.
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// Failures from one address (IPv6: one /64) within the window.
pub(super) const PER_ADDRESS: u32 = 10;
/// Failures at one device within the window, from wherever.
pub(super) const PER_DEVICE: u32 = 30;
/// Addresses, and devices, that are remembered at once. When there are more, nobody new may try: an attacker with so
/// many addresses must not make the guard forget.
const REMEMBERED: usize = 8_192;

/// Who failed how often.
#[derive(Debug, Default)]
pub(super) struct Guard {
    addresses: Failures<IpAddr>,
    devices: Failures<DeviceId>,
}

impl Guard {
    /// Counts an attempt as failed, before it is made: many at once are no more than one after another. Give it back by
    /// [`Guard::succeeded`].
    ///
    /// `None`: too many failures; nobody looks at the attempt.
    pub(super) fn attempt(&mut self, source: IpAddr, device: &DeviceId, now: Instant) -> Option<()> {
        let source = network_of(source);
        if !self.addresses.has_room(&source, PER_ADDRESS, now) || !self.devices.has_room(device, PER_DEVICE, now) {
            return None;
        }
        self.addresses.add(source, now);
        self.devices.add(device.clone(), now);
        Some(())
    }

    /// The attempt that was counted did not fail.
    pub(super) fn succeeded(&mut self, source: IpAddr, device: &DeviceId) {
        self.addresses.take(&network_of(source));
        self.devices.take(device);
    }
}

#[derive(Debug)]
struct Failures<K>(HashMap<K, (u32, Instant)>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Failures<K> {
    fn has_room(&mut self, key: &K, most: u32, now: Instant) -> bool {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        match self.0.get(key) {
            Some((failures, since)) => *failures < most || now.duration_since(*since) >= WINDOW,
            None => self.0.len() < REMEMBERED,
        }
    }

    fn add(&mut self, key: K, now: Instant) {
        let (failures, since) = self.0.entry(key).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*failures, *since) = (0, now);
        }
        *failures = failures.saturating_add(1);
    }

    fn take(&mut self, key: &K) {
        if let Some((failures, _)) = self.0.get_mut(key) {
            *failures = failures.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId { site: "s".parse().unwrap(), device: name.parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_bounded_by_address_and_by_device() {
        let mut guard = Guard::default();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let now = Instant::now();
        for _ in 0..PER_ADDRESS {
            guard.attempt(address(1), &device("a"), now).unwrap();
        }
        assert!(guard.attempt(address(1), &device("b"), now).is_none());
        for _ in PER_ADDRESS..PER_DEVICE {
            let from = if guard.attempt(address(2), &device("a"), now).is_some() { 2 } else { 3 };
            if from == 3 {
                guard.attempt(address(3), &device("a"), now).unwrap();
            }
        }
        assert!(guard.attempt(address(9), &device("a"), now).is_none(), "the device has had enough");
        assert!(guard.attempt(address(9), &device("b"), now).is_some());
        guard.succeeded(address(9), &device("b"));
        let later = now + WINDOW;
        assert!(guard.attempt(address(1), &device("a"), later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn success_costs_nothing() {
        let mut guard = Guard::default();
        let (address, device) = (IpAddr::from([192, 0, 2, 1]), device("a"));
        for _ in 0..100 {
            guard.attempt(address, &device, Instant::now()).unwrap();
            guard.succeeded(address, &device);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_make_it_forget_nobody() {
        let mut guard = Guard::default();
        let now = Instant::now();
        for number in 0..u32::try_from(REMEMBERED).unwrap() {
            let _ = guard.attempt(IpAddr::from(number.to_be_bytes()), &device(&number.to_string()), now);
        }
        assert!(guard.attempt(IpAddr::from([250, 0, 0, 1]), &device("a"), now).is_none());
        assert!(guard.addresses.0.len() <= REMEMBERED && guard.devices.0.len() <= REMEMBERED);
        assert!(guard.attempt(IpAddr::from([250, 0, 0, 1]), &device("a"), now + WINDOW).is_some());
    }
}
