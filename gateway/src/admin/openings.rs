//! Gives out wrapped data keys, and has the log say so before it does (R31).
//!
//! Whoever reads the key directory itself, as the operator's own Unix user can, is seen by nobody; without a reviewer's
//! private key it opens nothing.

use std::path::PathBuf;

use bytes::Bytes;
use gateway_audit::keyfile::{KeyFile, is_period};
use gateway_audit::record::Opening;
use gateway_audit::reviewer::is_name;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::page;
use crate::audit::ControlLane;
use crate::audit::retention::Keys;

/// Where they are asked for.
pub const PATH: &str = "/audit/keys";
/// Keys of one answer.
const MOST: usize = 50_000;
const TITLE: &str = "sekisho audit data key v1\n";

/// The data key files in an answer, one after the other.
pub fn parts(answer: &str) -> impl Iterator<Item = String> {
    answer.split(TITLE).skip(1).map(|rest| format!("{TITLE}{rest}"))
}

/// Where the keys lie, and where it is recorded.
#[derive(Debug)]
pub struct Openings {
    /// `audit.key_directory`.
    pub keys: PathBuf,
    /// The log.
    pub log: ControlLane,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// None: records of no site.
    site: Option<String>,
    from: String,
    to: String,
    reviewer: String,
}

impl Asked {
    fn parse(query: &str) -> Option<Self> {
        let (mut site, mut from, mut to, mut reviewer) = (None, None, None, None);
        for part in query.split('&') {
            let (key, value) = part.split_once('=')?;
            let place = match key {
                "site" => &mut site,
                "from" => &mut from,
                "to" => &mut to,
                "reviewer" => &mut reviewer,
                _ => return None,
            };
            if place.replace(value.to_owned()).is_some() {
                return None;
            }
        }
        let site = match site?.as_str() {
            "*" => None,
            name => Some(is_name(name).then(|| name.to_owned())?),
        };
        let day = |text: &String| is_period(text);
        Some(Self {
            site,
            from: from.filter(day)?,
            to: to.filter(day)?,
            reviewer: reviewer.filter(|name| is_name(name))?,
        })
    }

    /// The files as this reviewer needs them.
    fn choose(&self, keys: Keys) -> Vec<KeyFile> {
        let mut chosen = keys.live;
        chosen.retain_mut(|file| {
            let period = self.from <= file.period && file.period <= self.to;
            file.wrapped.retain(|(name, _)| *name == self.reviewer);
            period && file.site == self.site && !file.wrapped.is_empty()
        });
        chosen
    }
}

impl Openings {
    /// The answer to who asks.
    pub(super) async fn answer(&self, query: &str, by: &str) -> Response<Full<Bytes>> {
        let says = |status, text: &'static str| page(status, "text/plain; charset=utf-8", text);
        let Some(asked) = Asked::parse(query) else {
            return says(
                StatusCode::BAD_REQUEST,
                "site (or *), from and to (year-month-day) and reviewer are needed\n",
            );
        };
        let directory = self.keys.clone();
        let read = tokio::task::spawn_blocking(move || Keys::read(&directory)).await;
        let files = match read {
            Ok(Ok(keys)) => asked.choose(keys),
            Ok(Err(error)) => {
                tracing::error!(%error, "the key directory cannot be read");
                return says(StatusCode::INTERNAL_SERVER_ERROR, "the key directory cannot be read\n");
            }
            Err(_) => return says(StatusCode::INTERNAL_SERVER_ERROR, "the key directory cannot be read\n"),
        };
        if files.is_empty() {
            return says(StatusCode::NOT_FOUND, "no data key of these periods is wrapped to this reviewer\n");
        }
        if files.len() > MOST {
            return says(StatusCode::PAYLOAD_TOO_LARGE, "these are too many data keys: ask for fewer periods\n");
        }
        let mut classes: Vec<&str> = files.iter().filter_map(|file| file.class.as_deref()).collect();
        classes.sort_unstable();
        classes.dedup();
        let opening = Opening {
            by,
            site: asked.site.as_deref(),
            reviewer: &asked.reviewer,
            classes: &classes,
            from: &asked.from,
            to: &asked.to,
            count: u64::try_from(files.len()).unwrap_or(u64::MAX),
        };
        if let Err(refusal) = self.log.record(&opening).await {
            tracing::warn!(reason = refusal.label(), "data keys are not given out: it cannot be recorded");
            return says(StatusCode::SERVICE_UNAVAILABLE, "it cannot be recorded, and so is not given out\n");
        }
        let text: String = files.iter().map(ToString::to_string).collect();
        page(StatusCode::OK, "text/plain; charset=utf-8", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_whole_or_refused() {
        let good = "site=sakura-clinic&from=2026-01-01&to=2026-01-31&reviewer=auditor";
        let asked = Asked::parse(good).unwrap();
        assert_eq!((asked.site.as_deref(), asked.reviewer.as_str()), (Some("sakura-clinic"), "auditor"));
        assert_eq!(Asked::parse(&good.replace("sakura-clinic", "*")).unwrap().site, None);
        for (from, to) in [
            ("site=sakura-clinic&", ""),
            ("sakura-clinic", "a/b"),
            ("sakura-clinic", ""),
            ("2026-01-31", "2026-02-30"),
            ("auditor", ".."),
            ("reviewer=", "who="),
            ("auditor", "auditor&reviewer=other"),
            ("auditor", "auditor&more"),
        ] {
            assert_eq!(Asked::parse(&good.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(Asked::parse(""), None);
    }
}
