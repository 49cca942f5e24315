//! One witness, asked over HTTP.

use std::time::Duration;

use bytes::Bytes;
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::merkle;
use gateway_audit::note::VerifierKey;
use gateway_audit::witness::{AddCheckpoint, Answer, AnswerError, AskError, MAX_ANSWER, accept, read_answer};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::WitnessPlace;
use crate::http_client::Client;
use crate::ship::growing::Growing;
use crate::ship::{Fault, Lane};

/// A witness and the way to it.
#[derive(Debug)]
pub(super) struct Witness {
    key: VerifierKey,
    client: Client,
    path: String,
    /// The size that it signed last, by lane, as far as it is known.
    signed: Vec<(String, u64)>,
}

impl Witness {
    pub(super) fn new(place: &WitnessPlace, timeout: Duration) -> Result<Self, String> {
        let key = place.key()?;
        let url: Uri = place.url.parse().map_err(|_| format!("`{}` is no URL", place.url.escape_debug()))?;
        if url.query().is_some() {
            return Err(format!("`{}` has a query", place.url.escape_debug()));
        }
        let client = Client::new(&url, place.ca_file.as_deref(), timeout, MAX_ANSWER)?;
        let path = format!("{}/add-checkpoint", url.path().trim_end_matches('/'));
        Ok(Self { key, client, path, signed: Vec::new() })
    }

    pub(super) const fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Has a lane's checkpoint cosigned: gives the note with the witness's signature added. `known` is what was cosigned
    /// before.
    ///
    /// # Errors
    /// [`Fault::Alarm`] if the witness knows another history of the log, or a longer one.
    pub(super) async fn cosign(
        &mut self,
        lane: &Lane,
        note: &str,
        known: Option<&Checkpoint>,
        now: u64,
        skew: Duration,
    ) -> Result<String, Fault> {
        let mut old = self.remembered(lane).or_else(|| known.map(|known| known.size)).unwrap_or(0);
        let mut told = None;
        let lines = loop {
            match self.ask(lane, note, old, known).await? {
                Answer::Lines(lines) => break lines,
                Answer::Size(size) if told.is_none() => {
                    if size < old {
                        tracing::warn!(
                            witness = self.key.name(),
                            log = lane.checkpoint.origin,
                            signed = old,
                            remembers = size,
                            "the witness has forgotten what it signed: it was put back itself, or is another"
                        );
                    }
                    told = Some(size);
                    old = size;
                }
                Answer::Size(size) => {
                    let words = format!("answers 409 with the size {size} just after it gave {old}");
                    return Err(self.fault(&words));
                }
            }
        };
        let keys = std::slice::from_ref(&self.key);
        let (cosigned, _) = accept(note, &lane.key, keys, &lines, now, skew).map_err(|error| self.fault(&error))?;
        self.remember(lane);
        Ok(cosigned)
    }

    async fn ask(&self, lane: &Lane, note: &str, old: u64, known: Option<&Checkpoint>) -> Result<Answer, Fault> {
        let origin = &lane.checkpoint.origin;
        // Only the log's own signature: what other witnesses say is none of its business.
        let own = String::from_utf8_lossy(&lane.note);
        debug_assert!(note.starts_with(&*own), "the note is the lane's with more signatures");
        let mut tiles = Growing::new(lane.directory.clone());
        let asked = match AddCheckpoint::create(&mut tiles, &own, &lane.key, old) {
            Ok(asked) => asked,
            Err(error @ AskError::Behind { .. }) => {
                return Err(Fault::Alarm(format!("`{}`: witness `{}`: {error}", origin, self.key.name())));
            }
            Err(error @ (AskError::Checkpoint(_) | AskError::Tile(_))) => {
                return Err(Fault::Log(format!("`{}`: {error}", lane.name)));
            }
        };
        if let Some(known) = known.filter(|known| known.size == old)
            && !merkle::consistent(old, &known.root, lane.checkpoint.size, &lane.checkpoint.root, &asked.proof)
        {
            return Err(Fault::Alarm(format!(
                "`{origin}` does not continue the {old} entries that `{}` cosigned: the log was forked, or rolled back \
                 and continued",
                self.key.name()
            )));
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.path.as_str())
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(asked.to_string())))
            .map_err(|error| self.fault(&error))?;
        let answer = self.client.exchange(request).await.map_err(|error| self.fault(&error))?;
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        read_answer(answer.status().as_u16(), kind, answer.body()).map_err(|error| match error {
            error if error.is_conflict() => Fault::Alarm(format!("`{origin}`: witness `{}`: {error}", self.key.name())),
            AnswerError::Inconsistent
            | AnswerError::Forbidden
            | AnswerError::UnknownLog
            | AnswerError::NoSize
            | AnswerError::Garbage
            | AnswerError::Status(_) => self.fault(&error),
        })
    }

    fn remembered(&self, lane: &Lane) -> Option<u64> {
        self.signed.iter().find(|(name, _)| *name == lane.name).map(|(_, size)| *size)
    }

    fn remember(&mut self, lane: &Lane) {
        self.signed.retain(|(name, _)| *name != lane.name);
        self.signed.push((lane.name.clone(), lane.checkpoint.size));
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> Fault {
        Fault::Receiver(format!("witness `{}`: {error}", self.key.name()))
    }
}
