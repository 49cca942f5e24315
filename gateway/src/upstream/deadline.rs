//! Deadlines while a backend has not answered.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::body::Progress;
use super::error::Failure;
use super::watch::Watch;
use crate::config::Service;

/// The head's deadline runs from the request's last byte; while its body streams, each silence is bounded.
pub(super) struct Deadline<'a> {
    progress: Option<&'a Progress>,
    service: &'a Service,
    start: Instant,
    /// Whether the body was still streaming when the deadline was last set; `None` before that.
    streaming: Option<bool>,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(progress: Option<&'a Progress>, service: &'a Service, start: Instant) -> Self {
        Self { progress, service, start, streaming: None }
    }

    pub(super) fn poll(&mut self, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<Failure> {
        match self.progress {
            None if self.streaming.is_none() => {
                watch.set(self.start + self.service.response_timeout);
                self.streaming = Some(false);
            }
            Some(progress) if !progress.ended.get() => {
                if progress.moved.take() || self.streaming.is_none() {
                    watch.set(Instant::now() + self.service.idle_timeout);
                    self.streaming = Some(true);
                }
            }
            Some(_) if self.streaming != Some(false) => {
                watch.set(Instant::now() + self.service.response_timeout);
                self.streaming = Some(false);
            }
            None | Some(_) => {}
        }
        watch.poll(cx).map(|()| match self.progress {
            Some(progress) if self.streaming == Some(true) => {
                if progress.starved.get() {
                    Failure::RequestStalled
                } else {
                    Failure::BodyTimeout
                }
            }
            None | Some(_) => Failure::HeadTimeout,
        })
    }
}
