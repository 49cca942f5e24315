//! Bounds on what an HTTP/2 peer may make the gateway do (row C10).
//!
//! The library bounds what reaches a stream; frames that cost a peer nine bytes and never become a request (resets,
//! pings, settings, empty data) are counted here, on the bytes themselves, and a connection that floods is told to
//! calm down (RFC 9113 section 7, `ENHANCE_YOUR_CALM`) and ended. So is one whose header section does not end in time:
//! nothing else can be read before its end (section 4.3).
//!
//! What the library answers or resets by itself is seen on the bytes that it writes, so that it can be recorded.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::super::budget::Budget;
use super::super::deadline::Deadline;
use super::super::h1::Stream;

/// `PRI * HTTP/2.0` and what follows it.
const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes written to the peer that earn it one frame, such as the window update that answers them.
const BYTES_PER_CONTROL: f64 = 512.0;

/// `GOAWAY`, last stream 2^31-1 since nobody knows which was the last, `ENHANCE_YOUR_CALM`.
const GOAWAY_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// Walks over frames without looking into them.
#[derive(Debug)]
struct Walker {
    skip: usize,
    header: [u8; 9],
    filled: usize,
    /// The error code of a frame that carries one, while it is being read.
    code: Option<Code>,
}

#[derive(Debug, Clone, Copy)]
struct Code {
    /// Payload bytes before the code.
    before: usize,
    missing: u8,
    value: u32,
}

/// What a frame's header, or the error code in a frame, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Frame(Head),
    /// A stream, or the connection (0), ends for this reason (RFC 9113 section 7).
    Error {
        stream: u32,
        code: u32,
    },
}

/// A frame's header (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    length: usize,
    stream: u32,
}

impl Head {
    const fn of([a, b, c, kind, flags, stream @ ..]: [u8; 9]) -> Self {
        let length = (a as usize) << 16 | (b as usize) << 8 | c as usize;
        // The first bit is reserved.
        Self { kind, flags, length, stream: u32::from_be_bytes(stream) << 1 >> 1 }
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Walker {
    fn new(skip: usize) -> Self {
        Self { skip, header: [0; 9], filled: 0, code: None }
    }

    /// Calls `seen` for every frame header, and for every error code, that `bytes` complete.
    fn walk(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            if let Some(code) = &mut self.code
                && code.read(bytes.get(..skipped).unwrap_or_default())
            {
                seen(Seen::Error { stream: Head::of(self.header).stream, code: code.value });
                self.code = None;
            }
            bytes = bytes.get(skipped..).unwrap_or_default();
            let missing = self.header.get_mut(self.filled..).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            for (to, from) in missing.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.filled += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.filled == self.header.len() {
                let head = Head::of(self.header);
                seen(Seen::Frame(head));
                self.skip = head.length;
                self.filled = 0;
                self.code = match head.kind {
                    RST_STREAM if head.length >= 4 => Some(Code { before: 0, missing: 4, value: 0 }),
                    GOAWAY if head.length >= 8 => Some(Code { before: 4, missing: 4, value: 0 }),
                    _ => None,
                };
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    fn is_inside_a_frame(&self) -> bool {
        self.skip > 0
    }
}

impl Code {
    /// Takes payload bytes; true once the code is whole.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let passed = self.before.min(bytes.len());
        self.before -= passed;
        for byte in bytes.iter().skip(passed).take(usize::from(self.missing)) {
            self.value = self.value << 8 | u32::from(*byte);
            self.missing -= 1;
        }
        self.missing == 0
    }
}

/// What a frame costs the peer, or earns it.
fn spend(budget: &mut Budget, kind: u8, length: usize) {
    match (kind, length) {
        (HEADERS, _) => budget.request(),
        (DATA, 1..) => {}
        (RST_STREAM, _) => budget.reset(),
        _ => budget.idle_frames(1.0),
    }
}

/// What the watch has seen that the connection's loop records.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The peer has broken its bounds: ours, or the library's.
    pub(super) abuse: Cell<bool>,
    /// Streams, or the connection, that the library ended for the peer's breach of protocol (C4): requests that never
    /// reach us, or bodies that contradict their heads.
    pub(super) malformed: Cell<u32>,
    /// Requests whose header list was so long that the library answered them by itself.
    pub(super) oversized: Cell<u32>,
    /// A header section did not end in time.
    pub(super) late: Cell<bool>,
}

fn count(finding: &Cell<u32>) {
    finding.set(finding.get().saturating_add(1));
}

/// Errors by which the library says that the peer broke the protocol: PROTOCOL_ERROR, FLOW_CONTROL_ERROR,
/// STREAM_CLOSED, FRAME_SIZE_ERROR and COMPRESSION_ERROR.
const BREACHES: [u32; 5] = [1, 3, 5, 6, 9];
/// By which it says that the peer makes it work too much.
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// An answer of the gateway has a request id of 32 digits in its head, so that a shorter one is the library's own.
const SHORTEST_ANSWER: usize = 32;

/// What the library has said on each stream, as far as needed to tell its own answers from the gateway's.
#[derive(Debug, Default)]
struct Answers {
    /// Streams with an answer under way. A header section on one of them is its trailers.
    begun: Vec<u32>,
    /// The stream that the library answered last by itself; the reset that follows says nothing new.
    own: Option<u32>,
}

impl Answers {
    fn saw(&mut self, seen: Seen, findings: &Findings) {
        match seen {
            Seen::Frame(head) if head.kind == HEADERS && !self.begun.contains(&head.stream) => {
                if !head.has(END_STREAM) {
                    self.begun.push(head.stream);
                } else if head.length < SHORTEST_ANSWER {
                    self.own = Some(head.stream);
                    count(&findings.oversized);
                }
            }
            Seen::Frame(head) => {
                if head.kind == RST_STREAM || matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM) {
                    self.begun.retain(|stream| *stream != head.stream);
                }
            }
            Seen::Error { code: ENHANCE_YOUR_CALM, .. } => findings.abuse.set(true),
            Seen::Error { stream, .. } if self.own == Some(stream) => {}
            Seen::Error { code, .. } if BREACHES.contains(&code) => count(&findings.malformed),
            Seen::Error { .. } => {}
        }
    }
}

/// Where the peer stands in a header section: HEADERS and its CONTINUATIONs (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// In none.
    Outside,
    /// Further frames belong to it.
    Open,
    /// The frame that ends it is being read.
    Ending,
}

/// The time that a header section may take, from the header of its first frame on.
#[derive(Debug)]
struct SectionTimer {
    section: Section,
    limit: Duration,
    /// Runs only for a section that was not whole when it was read first.
    deadline: Option<Deadline>,
    running: bool,
}

impl SectionTimer {
    const fn new(limit: Duration) -> Self {
        Self { section: Section::Outside, limit, deadline: None, running: false }
    }

    fn saw(&mut self, head: Head) {
        if head.kind == HEADERS {
            self.running = false;
        }
        self.section = match (head.kind, self.section) {
            (HEADERS, _) | (CONTINUATION, Section::Open) if head.has(END_HEADERS) => Section::Ending,
            (HEADERS, _) | (_, Section::Open) => Section::Open,
            (_, Section::Ending | Section::Outside) => Section::Outside,
        };
    }

    /// Everything that was read has been seen.
    fn pause(&mut self, inside_a_frame: bool) {
        if self.section == Section::Ending && !inside_a_frame {
            self.section = Section::Outside;
        }
        if self.section == Section::Outside {
            self.running = false;
        } else if !std::mem::replace(&mut self.running, true) {
            self.deadline.get_or_insert_default().set(self.limit);
        }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.deadline {
            Some(deadline) if self.running => deadline.poll_expired(cx),
            Some(_) | None => Poll::Pending,
        }
    }
}

/// A stream whose frames are counted.
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    inbound: Walker,
    outbound: Walker,
    budget: Budget,
    section: SectionTimer,
    answers: Answers,
    findings: Rc<Findings>,
}

impl Watched {
    /// Watches `stream`; the peer may reset `resets` streams in a burst, refilled over ten seconds, and a header section
    /// may take `header_timeout`.
    pub(super) fn new(stream: Box<dyn Stream>, resets: u32, header_timeout: Duration, findings: Rc<Findings>) -> Self {
        Self {
            stream,
            inbound: Walker::new(PREFACE_BYTES),
            outbound: Walker::new(0),
            budget: Budget::new(resets, Instant::now()),
            section: SectionTimer::new(header_timeout),
            answers: Answers::default(),
            findings,
        }
    }

    fn count(&mut self, read: &[u8]) -> io::Result<()> {
        let (budget, section) = (&mut self.budget, &mut self.section);
        self.inbound.walk(read, |seen| match seen {
            Seen::Frame(head) => {
                spend(budget, head.kind, head.length);
                section.saw(head);
            }
            Seen::Error { .. } => {}
        });
        section.pause(self.inbound.is_inside_a_frame());
        if budget.is_spent() {
            budget.refill(Instant::now());
        }
        if budget.is_spent() {
            self.findings.abuse.set(true);
            return Err(io::Error::other("the peer's frames break the bounds on HTTP/2"));
        }
        Ok(())
    }

    fn sent(&mut self, bytes: &[u8]) {
        let (answers, findings) = (&mut self.answers, &self.findings);
        self.outbound.walk(bytes, |seen| answers.saw(seen, findings));
        #[expect(clippy::cast_precision_loss, reason = "an allowance, not an account")]
        self.budget.earn(bytes.len() as f64 / BYTES_PER_CONTROL);
    }

    /// The last word is sent if it fits into the socket at once; the peer has earned no waiting.
    fn say_calm(&mut self, cx: &mut Context<'_>) {
        if self.outbound.is_between_frames() {
            let _ = Pin::new(&mut self.stream).poll_write(cx, &GOAWAY_CALM);
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            ready!(this.section.poll_expired(cx));
            this.findings.late.set(true);
            this.say_calm(cx);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Err(abuse) = this.count(read) {
            this.say_calm(cx);
            return Poll::Ready(Err(abuse));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.sent(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut left = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices))?;
        let written = left;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            this.sent(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        flagged(kind, 0, length, 1)
    }

    fn flagged(kind: u8, flags: u8, length: usize, stream: u8) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0x80, 0, 0, stream];
        frame.resize(9 + length, 0);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(
            frames in prop::collection::vec((0u8..10, 0usize..40), 0..20),
            cut in 1usize..17,
        ) {
            let mut bytes = vec![b'P'; PREFACE_BYTES];
            frames.iter().for_each(|&(kind, length)| bytes.extend(frame(kind, length)));
            let (mut walker, mut seen) = (Walker::new(PREFACE_BYTES), Vec::new());
            for part in bytes.chunks(cut) {
                walker.walk(part, |found| {
                    if let Seen::Frame(head) = found {
                        assert_eq!((head.flags, head.stream), (0, 1));
                        seen.push((head.kind, head.length));
                    }
                });
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(walker.is_between_frames());
        }
    }

    #[test]
    fn error_codes_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        bytes.extend(frame(DATA, 5));
        bytes.extend([0, 0, 10, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0xb, b'h', b'i']);
        for cut in 1..bytes.len() {
            let (mut walker, mut codes) = (Walker::new(0), Vec::new());
            for part in bytes.chunks(cut) {
                walker.walk(part, |found| {
                    if let Seen::Error { stream, code } = found {
                        codes.push((stream, code));
                    }
                });
            }
            assert_eq!(codes, [(1, 1), (0, 0xb)], "cut at {cut}");
            assert!(walker.is_between_frames());
        }
    }

    #[test]
    fn an_answer_of_the_librarys_own_is_told_from_ours() {
        let (mut answers, mut walker, findings) = (Answers::default(), Walker::new(0), Findings::default());
        let mut sent = |bytes: Vec<u8>| {
            walker.walk(&bytes, |seen| answers.saw(seen, &findings));
            (findings.oversized.take(), findings.malformed.take(), answers.begun.len())
        };
        let last = END_HEADERS | END_STREAM;
        // Ours: without content, with content and trailers, and with content.
        assert_eq!(sent(flagged(HEADERS, last, 60, 1)), (0, 0, 0));
        assert_eq!(sent(flagged(HEADERS, END_HEADERS, 60, 3)), (0, 0, 1));
        assert_eq!(sent(flagged(HEADERS, END_HEADERS, 60, 5)), (0, 0, 2));
        assert_eq!(sent(flagged(HEADERS, last, 1, 3)), (0, 0, 1), "trailers may be short");
        assert_eq!(sent(flagged(DATA, END_STREAM, 9, 5)), (0, 0, 0));
        // The library's, alone and with its reset.
        assert_eq!(sent(flagged(HEADERS, last, 4, 7)), (1, 0, 0));
        assert_eq!(sent(flagged(HEADERS, last, 1, 9)), (1, 0, 0));
        assert_eq!(sent(vec![0, 0, 4, RST_STREAM, 0, 0, 0, 0, 9, 0, 0, 0, 1]), (0, 0, 0));
        assert_eq!(sent(vec![0, 0, 4, RST_STREAM, 0, 0, 0, 0, 11, 0, 0, 0, 1]), (0, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_section_has_so_much_time_however_it_is_cut() {
        let limit = Duration::from_secs(10);
        let mut bytes = flagged(HEADERS, 0, 20, 1);
        bytes.extend(flagged(CONTINUATION, 0, 5, 1));
        bytes.extend(flagged(CONTINUATION, END_HEADERS, 5, 1));
        bytes.extend(flagged(DATA, 0, 50, 1));
        let end_of_section = bytes.len() - 59;
        for step in [1, 2, 7, 30] {
            let (mut timer, mut walker) = (SectionTimer::new(limit), Walker::new(0));
            let mut read = 0;
            for part in bytes.chunks(step) {
                walker.walk(part, |seen| {
                    if let Seen::Frame(head) = seen {
                        timer.saw(head);
                    }
                });
                timer.pause(walker.is_inside_a_frame());
                read += part.len();
                assert_eq!(timer.running, (9..end_of_section).contains(&read), "{read} bytes by {step}");
            }
        }
        let mut timer = SectionTimer::new(limit);
        let begun = Instant::now();
        timer.saw(Head { kind: HEADERS, flags: 0, length: 20, stream: 1 });
        timer.pause(true);
        tokio::time::advance(Duration::from_secs(6)).await;
        timer.saw(Head { kind: CONTINUATION, flags: 0, length: 1, stream: 1 });
        timer.pause(true);
        std::future::poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 10, "a frame now and then buys no time");
    }

    #[tokio::test(start_paused = true)]
    async fn resets_are_bounded_and_come_back_with_time() {
        let mut budget = Budget::new(100, Instant::now());
        (0..100).for_each(|_| spend(&mut budget, RST_STREAM, 4));
        assert!(!budget.is_spent());
        spend(&mut budget, RST_STREAM, 4);
        assert!(budget.is_spent());
        tokio::time::advance(Duration::from_secs(10)).await;
        budget.refill(Instant::now());
        assert!(!budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_data_pay_for_themselves_and_floods_do_not() {
        let mut budget = Budget::new(100, Instant::now());
        for _ in 0..100_000 {
            spend(&mut budget, HEADERS, 30);
            spend(&mut budget, DATA, 100);
            (0..4).for_each(|_| spend(&mut budget, 8, 4));
        }
        assert!(!budget.is_spent());
        for kind in [DATA, 2, 4, 6, 9] {
            let mut budget = Budget::new(100, Instant::now());
            (0..2_001).for_each(|_| spend(&mut budget, kind, 0));
            assert!(budget.is_spent(), "frames of type {kind}");
        }
    }
}
