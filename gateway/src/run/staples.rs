//! Keeps fresh the OCSP responses that are stapled to the gateway's own certificates, where the configuration asks for
//! it (`ocsp_fetch`): each is fetched from the responder that its certificate names, proved, and put in place of the file
//! that the listener follows. So a restart staples at once, and whatever else looks at the file sees the same.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::path::OcspTarget;
use certs::{ServerIdentity, Staple, staple_question};
use rustls::pki_types::UnixTime;
use tokio::task::spawn_blocking;

use super::identities::unix_time;
use crate::clock::Clock as _;
use crate::replace::replace;
use crate::revocation::{Place, Wanted, fetch, pause_after};
use crate::worker::Shared;

/// How often it is looked whether any is due.
const LOOK: Duration = Duration::from_secs(1);
/// From a question's beginning to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest and the longest time from one response to the next question, in seconds.
const PAUSE: (u64, u64) = (60, 12 * 3_600);

/// One response, as it is asked for.
struct Turn {
    /// SHA-256 of the certificate: another one is asked about at once.
    certificate: [u8; 32],
    /// Seconds since 1970.
    due: u64,
    failures: u32,
    told: String,
}

/// Fetches what is due, one after another, for ever.
pub(super) async fn keep(shared: Shared) -> Infallible {
    let mut turns: BTreeMap<PathBuf, Turn> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let wanted: Vec<_> = {
            let snapshot = shared.snapshots.load();
            snapshot.doors.iter().flat_map(|door| door.tls.identities().to_be_fetched()).collect()
        };
        turns.retain(|file, _| wanted.iter().any(|(known, ..)| known == file));
        for (file, identity, stapled_until) in wanted {
            let now = unix_time(shared.clock.now().unix_ns);
            let certificate = identity.chain().first().map(|leaf| certs::fingerprint(leaf)).unwrap_or_default();
            let turn = turns.entry(file.clone()).or_insert_with(|| {
                let due = stapled_until.map_or(0, |until| next(now, until));
                Turn { certificate, due, failures: 0, told: String::new() }
            });
            if turn.certificate != certificate {
                *turn = Turn { certificate, due: 0, failures: 0, told: String::new() };
            }
            if turn.due > now.as_secs() {
                continue;
            }
            match renew(&file, &identity, turn.failures, now).await {
                Ok(staple) => {
                    tracing::info!(file = %file.display(), "fetched an OCSP response");
                    *turn = Turn { due: next(now, staple.next_update()), failures: 0, told: String::new(), ..*turn };
                }
                Err(why) => {
                    if turn.told != why {
                        tracing::error!(file = %file.display(), %why, "no OCSP response to be stapled");
                    }
                    let pause = u64::try_from(pause_after(turn.failures)).unwrap_or_default();
                    turn.due = now.as_secs().saturating_add(pause);
                    turn.failures = turn.failures.saturating_add(1);
                    turn.told = why;
                }
            }
        }
    }
}

/// Half-way to the response's end.
fn next(now: UnixTime, until: UnixTime) -> u64 {
    let (least, most) = PAUSE;
    now.as_secs() + (until.as_secs().saturating_sub(now.as_secs()) / 2).clamp(least, most)
}

async fn renew(file: &Path, identity: &ServerIdentity, attempt: u32, now: UnixTime) -> Result<Staple, String> {
    let (target, urls): (OcspTarget, _) = staple_question(identity)
        .ok_or("the certificate names no responder by `http`, or its issuer's certificate is not behind it")?;
    let turn = usize::try_from(attempt).unwrap_or_default().checked_rem(urls.len());
    let url = turn.and_then(|turn| urls.get(turn)).map(String::as_str).unwrap_or_default();
    // The certificate is the operator's own: whatever host it names.
    let place = Place::of(url, &[])?;
    let wanted = Wanted::Answer(target.request().into());
    let told = |why: &dyn std::fmt::Display| format!("`{}`: {why}", url.escape_debug());
    let response = fetch(&place, &wanted, TIMEOUT).await.map_err(|why| told(&why))?;
    let staple = Staple::from_der(&response, identity).map_err(|error| told(&error))?;
    staple.check_time(now).map_err(|error| told(&error))?;
    let (path, bytes) = (file.to_owned(), response.to_vec());
    match spawn_blocking(move || replace(&path, &bytes, 0o644)).await {
        Ok(Ok(())) => Ok(staple),
        Ok(Err(error)) => Err(format!("`{}` cannot be written: {error}", file.display())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_renewed_half_way_and_at_least_twice_a_day() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(next(at(1_000), at(1_000 + 7_200)), 1_000 + 3_600);
        assert_eq!(next(at(1_000), at(1_010)), 1_060);
        assert_eq!(next(at(1_000), at(900)), 1_060);
        assert_eq!(next(at(1_000), at(1_000 + 7 * 86_400)), 1_000 + 12 * 3_600);
    }
}
