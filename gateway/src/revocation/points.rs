//! Distribution points that certificates have named, and when each is fetched from.

use std::collections::BTreeMap;

use crate::config::Revocation;

/// Points of one listener. A CA that splits its lists has some hundreds.
const MAX_POINTS: usize = 1024;
/// The longest pause after a failure, in seconds.
const MAX_PAUSE: i64 = 300;
/// The shortest time between two fetches that bring the list that is there already, in seconds.
const MIN_PAUSE: i64 = 30;

/// Names a point: the URL, and whose certificates name it.
pub(super) type Key = [u8; 32];

/// One point.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) url: String,
    /// The certificate of the CA that issued the certificates that name it.
    pub(super) issuer: Vec<u8>,
    /// When it is fetched from next, seconds since 1970.
    due: i64,
    failures: u32,
}

/// All of a listener's.
#[derive(Debug, Clone, Default)]
pub(super) struct Points(BTreeMap<Key, Point>);

impl Points {
    pub(super) fn key(url: &str, issuer: &[u8]) -> Key {
        certs::fingerprint(&[&certs::fingerprint(url.as_bytes())[..], &certs::fingerprint(issuer)[..]].concat())
    }

    /// Takes a point that was not known; due at once.
    pub(super) fn want(&mut self, url: &str, issuer: &[u8]) {
        if self.0.len() < MAX_POINTS {
            let point = || Point { url: url.to_owned(), issuer: issuer.to_vec(), due: i64::MIN, failures: 0 };
            self.0.entry(Self::key(url, issuer)).or_insert_with(point);
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Point> {
        self.0.get(key)
    }

    pub(super) fn url_of(&self, is: impl Fn(&Key) -> bool) -> Option<&str> {
        self.0.iter().find(|(key, _)| is(key)).map(|(_, point)| point.url.as_str())
    }

    pub(super) fn due(&self, now: i64) -> impl Iterator<Item = (&Key, &Point)> {
        self.0.iter().filter(move |(_, point)| point.due <= now)
    }

    /// The next fetch after one that brought a list that is good until `next_update`: after the configured interval, or
    /// half-way to the next update where that is sooner.
    pub(super) fn fetched(&mut self, key: &Key, next_update: i64, config: &Revocation, now: i64) {
        if let Some(point) = self.0.get_mut(key) {
            let interval = i64::try_from(config.fetch_interval.as_secs()).unwrap_or(i64::MAX);
            let half = (next_update.saturating_sub(now) / 2).max(MIN_PAUSE);
            point.failures = 0;
            point.due = now.saturating_add(interval.min(half));
        }
    }

    /// The next attempt after one that failed.
    pub(super) fn failed(&mut self, key: &Key, now: i64) {
        if let Some(point) = self.0.get_mut(key) {
            point.due = now.saturating_add(pause_after(point.failures));
            point.failures = point.failures.saturating_add(1);
        }
    }
}

/// Until the next attempt, in seconds, after so many failures before this one: 1, 2, 4 … 300.
pub(crate) fn pause_after(failures: u32) -> i64 {
    1_i64.checked_shl(failures.min(16)).unwrap_or(MAX_PAUSE).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(interval: u64) -> Revocation {
        Revocation { fetch_interval: std::time::Duration::from_secs(interval), ..Revocation::off() }
    }

    #[test]
    fn a_point_is_due_at_once_then_by_its_list_and_later_after_failures() {
        let mut points = Points::default();
        points.want("http://ca.example/a.crl", b"issuer");
        points.want("http://ca.example/a.crl", b"issuer");
        let key = Points::key("http://ca.example/a.crl", b"issuer");
        assert_ne!(key, Points::key("http://ca.example/a.crl", b"other"));
        let due = |points: &Points, now| points.due(now).count();
        assert_eq!(due(&points, 0), 1);
        points.fetched(&key, 100_000, &config(3_600), 0);
        assert_eq!((due(&points, 3_599), due(&points, 3_600)), (0, 1));
        points.fetched(&key, 4_000, &config(3_600), 2_000);
        assert_eq!((due(&points, 2_999), due(&points, 3_000)), (0, 1));
        points.fetched(&key, 10, &config(3_600), 5_000);
        assert_eq!((due(&points, 5_029), due(&points, 5_030)), (0, 1));
        let mut now = 10_000;
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            points.failed(&key, now);
            assert_eq!((due(&points, now + pause - 1), due(&points, now + pause)), (0, 1), "{pause}");
            now += pause;
        }
    }

    #[test]
    fn points_are_bounded() {
        let mut points = Points::default();
        for number in 0..2 * MAX_POINTS {
            points.want(&format!("http://ca.example/{number}"), b"issuer");
        }
        assert_eq!(points.due(0).count(), MAX_POINTS);
    }
}
