//! What the client of a refused request is told.

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response};
use policy::Refusal;

use super::{ResponseBody, Trail, forget};
use crate::accounts::page::Language;
use crate::answer::{problem, without_content};
use crate::exchange::{grpc, unavailable};

impl Trail {
    /// A refused request may come again after so long, nanoseconds.
    pub(in crate::exchange) fn retry_after(&mut self, ns: u64) {
        self.retry_after_s = Some(ns.div_ceil(1_000_000_000).max(1));
    }

    /// Whoever reads the answer in a browser, and in which language.
    pub(in crate::exchange) const fn read_by(&mut self, reader: Option<Language>) {
        self.reader = reader;
    }

    /// Whether it is a call of gRPC.
    pub(in crate::exchange) const fn calls_grpc(&mut self, calls: bool) {
        self.grpc = calls;
    }

    /// See [`calls_grpc`](Self::calls_grpc).
    pub(in crate::exchange) const fn is_grpc(&self) -> bool {
        self.grpc
    }

    pub(super) fn answer(&self, refusal: Refusal) -> Response<ResponseBody> {
        let mut answer = problem(refusal, self.id());
        if let Some(language) = self.reader
            && let Some(page) = unavailable::page(refusal, language, self.id())
        {
            answer = unavailable::instead(answer, page, language);
        }
        if let Some(seconds) = self.retry_after_s {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.forgets_cookies {
            forget(answer.headers_mut());
        }
        let answer = if self.grpc {
            grpc::instead(answer, refusal)
        } else if self.method[..] == *b"HEAD" {
            without_content(answer)
        } else {
            answer
        };
        answer.map(ResponseBody::own)
    }
}
