//! Keeps issuers' keys, on the control thread.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use policy::token::KeySet;
use tokio::task::spawn_local;

use super::cache;
use super::issuer::{Issuer, read_keys};
use crate::config::TokenSource;
use crate::metrics::Metrics;
use crate::revocation::{pause_after, unix_seconds};
use crate::snapshot::Snapshots;

/// How often files are looked at and fetches begin.
const PERIOD: Duration = Duration::from_millis(250);

/// Follows files, fetches keys, and puts what changed in force, for ever.
pub async fn keep(snapshots: Arc<Snapshots>, metrics: Metrics) -> Infallible {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = unix_seconds();
        for issuer in &snapshots.load().token_issuers {
            match &issuer.config.source {
                TokenSource::File(path) => {
                    if issuer.file_settled() {
                        follow(issuer, read_keys(path), now);
                    }
                }
                TokenSource::Fetched { .. } => begin(issuer, &metrics),
                TokenSource::Introspection(_) => {}
            }
        }
    }
}

fn follow(issuer: &Issuer, read: Result<KeySet, String>, now: i64) {
    match read {
        Ok(set) => issuer.take(set, now),
        Err(error) => {
            tracing::error!(issuer = %issuer.config.rules.name, %error, "the keys that were in force before stay so");
        }
    }
}

/// Begins a fetch if one is due.
fn begin(issuer: &Arc<Issuer>, metrics: &Metrics) {
    let is_wanted = issuer.wanted.load(Ordering::Relaxed) && issuer.may_refetch();
    if issuer.under_way.load(Ordering::Relaxed) || !(is_wanted || issuer.is_due()) {
        return;
    }
    issuer.begins_fetch();
    let (issuer, metrics) = (Arc::clone(issuer), metrics.clone());
    spawn_local(async move {
        let fetched = fetch(&issuer).await;
        let name = &issuer.config.rules.name;
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        metrics.token_fetches.with_label_values(&[&**name, outcome]).inc();
        let pause = match fetched {
            Ok(refresh) => {
                issuer.failures.store(0, Ordering::Relaxed);
                i64::try_from(refresh.as_secs()).unwrap_or(i64::MAX)
            }
            Err(error) => {
                let failures = issuer.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(issuer = %name, %error, failures = failures + 1, "an issuer's keys cannot be fetched");
                pause_after(failures)
            }
        };
        issuer.ends_fetch(pause);
    });
}

/// Fetches the keys and puts them in force. Gives the time until the next fetch.
async fn fetch(issuer: &Issuer) -> Result<Duration, String> {
    let TokenSource::Fetched { url, refresh, cache, .. } = &issuer.config.source else {
        return Err("its keys are not fetched".to_owned());
    };
    let client = issuer.client.as_ref().ok_or("there is no client")?;
    let target = url.parse::<http::Uri>().map_err(|error| error.to_string())?;
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")))
        .body(Full::<Bytes>::default());
    let answer = client.exchange(request.map_err(|error| error.to_string())?).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("`{}` answers {}", url.escape_debug(), answer.status().as_u16()));
    }
    let set = KeySet::parse(answer.body()).map_err(|error| format!("`{}`: {error}", url.escape_debug()))?;
    let now = unix_seconds();
    issuer.take(set, now);
    if let Err(error) = cache::write(cache, url, answer.body(), now) {
        tracing::warn!(file = %cache.display(), %error, "fetched keys cannot be kept for the next start");
    }
    Ok(*refresh)
}
