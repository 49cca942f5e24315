//! HTTP/1.1 by hand: bytes out, answers in.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::door::{Socket, is_closed};

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names, in lower case, and values of its header section.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Statuses of the interim answers (1xx) before it.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The first value of a field; empty if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The refusal's label, of an answer that is a problem (RFC 9457) with a request id and nothing cacheable.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn problem(&self) -> String {
        assert_eq!(self.field("content-type"), "application/problem+json", "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["instance"], format!("urn:sekisho:request:{}", self.field("x-request-id")), "{problem}");
        let label = problem["type"].as_str().and_then(|text| text.strip_prefix("urn:sekisho:refusal:"));
        label.unwrap_or_else(|| panic!("a problem's type: {problem}")).to_owned()
    }
}

/// How a connection ended where an answer was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// In order: TLS said goodbye.
    Closed,
    /// Torn down: without a goodbye, or with these bytes of an unfinished answer.
    Torn(Vec<u8>),
    /// There was silence instead.
    Silent,
}

/// A connection over TLS, to write any bytes to.
#[derive(Debug)]
pub struct Wire {
    stream: StreamOwned<ClientConnection, Socket>,
    local: SocketAddr,
    port: u16,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: StreamOwned<ClientConnection, Socket>, local: SocketAddr, port: u16) -> Self {
        Self { stream, local, port, read: Vec::new() }
    }

    /// This side's address, as `connection.source` in records.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The `Host` of the listener.
    #[must_use]
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The TLS connection.
    #[must_use]
    pub const fn tls(&self) -> &ClientConnection {
        &self.stream.conn
    }

    /// How long reads wait.
    ///
    /// # Panics
    /// If the socket is gone.
    pub fn set_patience(&self, limit: Duration) {
        self.stream.sock.tcp.set_read_timeout(Some(limit)).expect("a timeout");
    }

    /// Writes bytes. That the gateway has closed already is no error here: its answer may still be read.
    ///
    /// # Panics
    /// If the socket fails in another way.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()) {
            Err(error) if !is_closed(&error) => panic!("cannot write: {error}"),
            Ok(()) | Err(_) => {}
        }
    }

    /// Says that nothing more will be written, in TLS and TCP, and goes on reading.
    pub fn half_close(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        let _ = self.stream.sock.tcp.shutdown(Shutdown::Write);
    }

    /// Ends the connection by RST: neither a goodbye nor an end of stream.
    ///
    /// # Panics
    /// If the socket is gone.
    pub fn reset(self) {
        let limit = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream.sock.tcp, limit).expect("an option");
    }

    /// A GET and its answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// A request and its answer. A body gets a `Content-Length`.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send_request(method, target, fields, body);
        let answered = if method == "HEAD" { self.read_answer(true) } else { self.try_answer() };
        answered.unwrap_or_else(|ended| panic!("no answer to {method} {target}: {ended:?}"))
    }

    /// As [`Wire::request`], without waiting for the answer.
    pub fn send_request(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host()).into_bytes();
        for (name, value) in fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// The next answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|ended| panic!("no answer: {ended:?}"))
    }

    /// The next answer.
    ///
    /// # Errors
    /// [`Ended`] if there is none, or only a part of it.
    pub fn try_answer(&mut self) -> Result<Answer, Ended> {
        self.read_answer(false)
    }

    /// Expects the gateway to close, and nothing more to come before.
    ///
    /// # Panics
    /// If it does not close, or sends more.
    pub fn closes(&mut self) -> Ended {
        assert!(self.read.is_empty(), "more came: {}", String::from_utf8_lossy(&self.read));
        match self.fill() {
            Ok(()) => panic!("more came: {}", String::from_utf8_lossy(&self.read)),
            Err(Ended::Silent) => panic!("the connection stays open"),
            Err(ended) => ended,
        }
    }

    /// Reads until these bytes have come, which it takes with all before them. False if they do not come.
    pub fn reads_until(&mut self, bytes: &[u8]) -> bool {
        loop {
            if let Some(at) = self.read.windows(bytes.len()).position(|window| window == bytes) {
                self.read.drain(..at + bytes.len());
                return true;
            }
            if self.fill().is_err() {
                return false;
            }
        }
    }

    /// Reads the next frame of MLLP into `payload`. False if it does not come.
    pub fn reads_frame(&mut self, payload: &mut Vec<u8>) -> bool {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\x1c\r") {
                payload.extend(self.read.drain(..end + 2).skip(1).take(end - 1));
                return true;
            }
            if self.fill().is_err() {
                return false;
            }
        }
    }

    pub(crate) fn read_some(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Bytes read and not yet taken.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.read
    }

    pub(crate) fn fill(&mut self) -> Result<(), Ended> {
        match self.read_some() {
            Ok(0) => Err(Ended::Closed),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(Ended::Silent)
            }
            Err(_) => Err(Ended::Torn(std::mem::take(&mut self.read))),
        }
    }

    fn read_answer(&mut self, to_head: bool) -> Result<Answer, Ended> {
        let mut interim = Vec::new();
        loop {
            let mut answer = self.read_head()?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            if !to_head && !matches!(answer.status, 101 | 204 | 304) {
                answer.body = self.read_body(&answer)?;
            }
            return Ok(answer);
        }
    }

    fn read_head(&mut self) -> Result<Answer, Ended> {
        let head = self.take_through(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let field = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        let status = status.unwrap_or_else(|| panic!("not an answer: {head}"));
        Ok(Answer { status, fields: lines.filter_map(field).collect(), ..Answer::default() })
    }

    fn read_body(&mut self, answer: &Answer) -> Result<Vec<u8>, Ended> {
        if answer.field("transfer-encoding") == "chunked" {
            let mut body = Vec::new();
            loop {
                let line = self.take_through(b"\r\n")?;
                let size = String::from_utf8_lossy(&line).trim().to_owned();
                let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("not a chunk: {size}"));
                if size == 0 {
                    // The trailer section, if any, and the empty line.
                    while self.take_through(b"\r\n")? != b"\r\n" {}
                    return Ok(body);
                }
                body.extend(self.take(size)?);
                self.take(2)?;
            }
        }
        if let Ok(length) = answer.field("content-length").parse() {
            return self.take(length);
        }
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(Ended::Closed) => return Ok(std::mem::take(&mut self.read)),
                Err(ended) => return Err(ended),
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Ended> {
        while self.read.len() < length {
            self.fill().map_err(|ended| self.unfinished(ended))?;
        }
        let rest = self.read.split_off(length);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    fn take_through(&mut self, end: &[u8]) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            self.fill().map_err(|ended| self.unfinished(ended))?;
        }
    }

    /// An end in the middle of an answer is none in order.
    fn unfinished(&mut self, ended: Ended) -> Ended {
        if ended == Ended::Closed && !self.read.is_empty() {
            return Ended::Torn(std::mem::take(&mut self.read));
        }
        ended
    }
}
