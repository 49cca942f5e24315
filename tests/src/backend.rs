//! A clinical backend that writes down every byte it gets, and answers as it is told.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One request as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Number of the connection it came over, from 0.
    pub connection: usize,
    /// Request line and header section, to the empty line.
    pub head: Vec<u8>,
    /// The body, without its chunks' frames.
    pub body: Vec<u8>,
    /// The trailer section's lines.
    pub trailers: Vec<String>,
}

impl Seen {
    /// The request line's parts.
    fn part(&self, place: usize) -> String {
        let text = String::from_utf8_lossy(&self.head);
        text.lines().next().and_then(|line| line.split(' ').nth(place)).unwrap_or_default().to_owned()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> String {
        self.part(0)
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> String {
        self.part(1)
    }

    /// Names and values of the header section, as they were written.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        text.split("\r\n").skip(1).filter_map(field).collect()
    }

    /// Every value of a field; the name in any case.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<String> {
        self.fields().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// What the backend writes.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The bytes, head included.
    pub bytes: Vec<u8>,
    /// Closes the connection then.
    pub close: bool,
    /// Waits so long first.
    pub after: Duration,
}

impl Reply {
    /// An answer with this status and body, on a connection that stays.
    #[must_use]
    pub fn new(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Any\r\ncontent-type: application/fhir+json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    /// These bytes.
    #[must_use]
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), close: false, after: Duration::ZERO }
    }

    /// … and closes.
    #[must_use]
    pub fn then_close(mut self) -> Self {
        self.close = true;
        self
    }

    /// … after a while.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }
}

type Script = Arc<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    broken: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    early: Mutex<Option<Script>>,
    script: Mutex<Option<Script>>,
    over: AtomicBool,
}

/// The backend. Serves until it is dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Backend {
    /// Starts on a free port of the loopback. Answers 200 until told otherwise.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// As [`start`](Self::start), on a socket that is open already.
    ///
    /// # Panics
    /// If it has no address.
    #[must_use]
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.over.load(Ordering::Relaxed) {
                    return;
                }
                let number = served.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&served);
                std::thread::spawn(move || drop(serve(&shared, &stream, number)));
            }
        });
        Self { address, shared }
    }

    /// The script: answers each whole request.
    pub fn answers(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Some(Arc::new(move |seen| Some(script(seen))));
    }

    /// Answers as soon as the head is there, before the body is read; `None` reads on.
    pub fn answers_early(&self, script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        *lock(&self.shared.early) = Some(Arc::new(script));
    }

    /// Whole requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The last whole request.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn last(&self) -> Seen {
        lock(&self.shared.seen).last().cloned().expect("the backend has seen a request")
    }

    /// Requests that broke off in head or body.
    #[must_use]
    pub fn broken(&self) -> Vec<Seen> {
        lock(&self.shared.broken).clone()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(shared: &Shared, stream: &TcpStream, connection: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut seen = Seen { connection, ..Seen::default() };
        match read_head(&mut reader, &mut seen) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return break_off(shared, seen, error),
        }
        let early = lock(&shared.early).clone().and_then(|script| script(&seen));
        let is_early = early.is_some();
        if let Some(reply) = early
            && send(stream, &reply)?
        {
            lock(&shared.seen).push(seen);
            return Ok(());
        }
        if let Err(error) = read_body(&mut reader, &mut seen) {
            return break_off(shared, seen, error);
        }
        let script = lock(&shared.script).clone();
        lock(&shared.seen).push(seen.clone());
        if is_early {
            continue;
        }
        let reply = script.and_then(|script| script(&seen)).unwrap_or_else(|| Reply::new(200, "{\"ok\":true}"));
        if send(stream, &reply)? {
            return Ok(());
        }
    }
}

fn break_off(shared: &Shared, seen: Seen, error: io::Error) -> io::Result<()> {
    lock(&shared.broken).push(seen);
    Err(error)
}

/// True if the connection is over.
fn send(mut stream: &TcpStream, reply: &Reply) -> io::Result<bool> {
    std::thread::sleep(reply.after);
    stream.write_all(&reply.bytes)?;
    if reply.close {
        stream.shutdown(std::net::Shutdown::Both)?;
    }
    Ok(reply.close)
}

/// False at a clean end.
fn read_head(reader: &mut BufReader<&TcpStream>, seen: &mut Seen) -> io::Result<bool> {
    while !seen.head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut seen.head)? == 0 {
            return if seen.head.is_empty() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    Ok(true)
}

fn read_body(reader: &mut BufReader<&TcpStream>, seen: &mut Seen) -> io::Result<()> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if let Some(length) = seen.values("content-length").first() {
        let mut left: usize = length.parse().map_err(|_| bad("content-length"))?;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let take = left.min(buffer.len());
            let read = reader.read(&mut buffer[..take])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            seen.body.extend_from_slice(&buffer[..read]);
            left -= read;
        }
        return Ok(());
    }
    if seen.values("transfer-encoding").is_empty() {
        return Ok(());
    }
    loop {
        let line = read_line(reader)?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| bad("chunk size"))?;
        if size == 0 {
            break;
        }
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk)?;
        seen.body.extend_from_slice(&chunk);
        if !read_line(reader)?.is_empty() {
            return Err(bad("chunk end"));
        }
    }
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(());
        }
        seen.trailers.push(line);
    }
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches("\r\n").to_owned())
}
