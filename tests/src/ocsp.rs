//! An OCSP responder: `openssl ocsp` says what it knows of an authority's certificates, and the harness carries it over
//! HTTP, so that it may be late, wrong or absent.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::backend::{Backend, Reply};
use crate::openssl::Ca;

/// How questions are answered.
#[derive(Clone, Default)]
pub struct Manner {
    /// Who signs: certificate and key in PEM; the authority itself unless set.
    pub signer: Option<(String, String)>,
    /// Minutes until the next update; 60 unless set.
    pub minutes: Option<u32>,
    /// Answers are of so long ago, as libfaketime has it: `-1d`.
    pub time: Option<String>,
    /// The index of nobody: every certificate is unknown.
    pub knows_nobody: bool,
    /// Sent instead of any answer.
    pub instead: Option<Reply>,
    /// The bytes of the response, changed.
    pub changed: Option<fn(Vec<u8>) -> Vec<u8>>,
}

/// A responder on a port of its own.
pub struct Responder {
    server: Backend,
    manner: Arc<Mutex<Manner>>,
    last: Arc<Mutex<Vec<u8>>>,
}

impl Responder {
    /// Answers for this authority.
    #[must_use]
    pub fn of(ca: &Arc<Ca>) -> Self {
        let (server, manner) = (Backend::start(), Arc::new(Mutex::new(Manner::default())));
        let last: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (ca, known, kept) = (Arc::clone(ca), Arc::clone(&manner), Arc::clone(&last));
        server.answers(move |seen| {
            let manner = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(reply) = manner.instead {
                return reply;
            }
            let asks = |name: &str, value: &str| seen.values(name).iter().any(|found| found == value);
            if seen.method() != "POST" || !asks("content-type", "application/ocsp-request") {
                return Reply::new(415, "not a question");
            }
            let response = answer(&ca, &seen.body, &manner);
            let response = manner.changed.map_or(response.clone(), |change| change(response));
            kept.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&response);
            reply(&response)
        });
        Self { server, manner, last }
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/ocsp", self.server.address)
    }

    /// Answers like this from here on.
    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.server.seen().len()
    }

    /// The last response that it sent.
    #[must_use]
    pub fn last(&self) -> Vec<u8> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A whole answer over HTTP.
#[must_use]
pub fn reply(response: &[u8]) -> Reply {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/ocsp-response\r\ncontent-length: {}\r\n\r\n",
        response.len()
    );
    Reply::raw([head.as_bytes(), response].concat())
}

fn answer(ca: &Ca, request: &[u8], manner: &Manner) -> Vec<u8> {
    let folder = TempDir::with_prefix("ocsp-").expect("a folder");
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).expect("a file");
    let (certificate, key) = manner.signer.clone().unwrap_or_else(|| (ca.certificate_pem(), ca.key_pem()));
    write("request", request);
    let index = if manner.knows_nobody { String::new() } else { ca.index() };
    write("index.txt", index.as_bytes());
    write("index.txt.attr", b"unique_subject = no\n");
    write("ca.crt", ca.certificate_pem().as_bytes());
    write("signer.crt", certificate.as_bytes());
    write("signer.key", key.as_bytes());
    let minutes = manner.minutes.unwrap_or(60).to_string();
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-index", "index.txt", "-CA", "ca.crt", "-rsigner", "signer.crt", "-rkey", "signer.key"]);
    command.args(["-nmin", &minutes, "-reqin", "request", "-respout", "response"]).current_dir(folder.path());
    if let Some(time) = &manner.time {
        let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        assert!(std::path::Path::new(library).exists(), "this test needs libfaketime");
        command.env("LD_PRELOAD", library).env("FAKETIME", time);
    }
    let output = command.output().expect("`openssl` is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    std::fs::read(folder.path().join("response")).unwrap_or_else(|_| panic!("no response: {said}"))
}
