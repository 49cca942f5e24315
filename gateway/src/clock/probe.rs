//! Asking chronyd and servers, on the control runtime.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::chrony::{self, ChronyError, Tracking};
use super::estimate::Word;
use super::kernel::{monotonic_ns, unix_ns};
use super::ntp::{self, Answer, Flight, Measured, NtpError};
use super::servers::{Asking, Server};

/// An answer that takes longer bounds nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one question to chronyd to the next.
const CHRONY_PERIOD: Duration = Duration::from_secs(2);
/// The same server is asked again so soon where its answer was slow, and so often.
const AGAIN: (usize, Duration) = (3, Duration::from_secs(2));
/// An answer this good is not asked for again.
const GOOD_NS: u64 = 25_000_000;
/// Room for the longest answer, and a byte to know a longer one.
const DATAGRAM: usize = 512;

/// Whom a word is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Chrony,
    Server(usize),
}

/// Why there is no word.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A name that stands for no address.
    #[error("no address: {0}")]
    Lookup(io::Error),
    /// The network.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Silence.
    #[error("no answer within 2 s")]
    Timeout,
    /// An answer that is none.
    #[error("{0}")]
    Ntp(#[from] NtpError),
    /// The same of chronyd.
    #[error("{0}")]
    Chrony(#[from] ChronyError),
    /// No random number for the question.
    #[error("no random numbers")]
    Random,
}

/// Asks chronyd once.
pub(super) async fn ask_chrony(address: SocketAddr) -> Result<Word, ProbeError> {
    let sequence = u32::from_ne_bytes(random()?);
    let socket = connect(address).await?;
    socket.send(&chrony::request(sequence)).await?;
    let tracking = receive(&socket, |datagram| Tracking::read(datagram, sequence)).await?;
    Ok(match tracking {
        Tracking::Synchronised { error_ns, leap } => {
            Word::Claim { offset_ns: 0, error_ns, at_ns: monotonic_ns(), leap }
        }
        Tracking::Unsynchronised => Word::Unsynchronised,
    })
}

/// Asks a server, up to three times where the way is slow; the best answer counts.
pub(super) async fn ask_server(server: &Server) -> Result<Word, ProbeError> {
    let mut best: Option<(u64, Word)> = None;
    let (times, pause) = AGAIN;
    for round in 0..times {
        if round > 0 {
            sleep(pause).await;
        }
        match ask_server_once(server).await {
            Ok(word @ Word::Claim { error_ns, .. }) => {
                if best.as_ref().is_none_or(|(error, _)| error_ns < *error) {
                    best = Some((error_ns, word));
                }
                if error_ns <= GOOD_NS {
                    break;
                }
            }
            Ok(word) => return Ok(word),
            Err(error) if best.is_none() => return Err(error),
            Err(_) => break,
        }
    }
    best.map(|(_, word)| word).ok_or(ProbeError::Timeout)
}

async fn ask_server_once(server: &Server) -> Result<Word, ProbeError> {
    let address = lookup_host(server.address.as_str()).await.map_err(ProbeError::Lookup)?.next();
    let address = address.ok_or_else(|| ProbeError::Lookup(io::Error::from(io::ErrorKind::NotFound)))?;
    let cookie = u64::from_ne_bytes(random()?);
    let request = ntp::request(cookie, server.key.as_ref());
    let socket = connect(address).await?;
    let (at_ns, sent_unix_ns) = (monotonic_ns(), unix_ns());
    socket.send(&request).await?;
    let answered = receive(&socket, |datagram| {
        let took_ns = monotonic_ns().saturating_sub(at_ns);
        let answer = Answer::read(datagram, cookie, server.key.as_ref())?;
        Ok::<_, NtpError>((answer, answer.measure(Flight { sent_unix_ns, took_ns })?))
    });
    match answered.await {
        Ok((answer, Measured { offset_ns, error_ns })) => {
            Ok(Word::Claim { offset_ns, error_ns, at_ns, leap: answer.leap })
        }
        Err(ProbeError::Ntp(NtpError::Unsynchronised)) => Ok(Word::Unsynchronised),
        Err(error) => Err(error),
    }
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// The first datagram that is an answer to our question. Others are passed over: anybody can send some, and must not be
/// able to keep the answer away. If none comes, the last one's error is told.
async fn receive<T, E: Into<ProbeError>>(
    socket: &UdpSocket,
    mut read: impl FnMut(&[u8]) -> Result<T, E>,
) -> Result<T, ProbeError> {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; DATAGRAM];
    let mut last = None;
    loop {
        let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await else {
            return Err(last.unwrap_or(ProbeError::Timeout));
        };
        match read(buffer.get(..received?).unwrap_or_default()).map_err(Into::into) {
            Ok(answer) => return Ok(answer),
            // Who refuses, or says that it does not know, has answered our question.
            Err(
                error @ (ProbeError::Ntp(NtpError::Refused(_) | NtpError::Unsynchronised)
                | ProbeError::Chrony(ChronyError::Refused(_))),
            ) => {
                return Err(error);
            }
            Err(error) => last = Some(error),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], ProbeError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ProbeError::Random)?;
    Ok(bytes)
}

/// Asks chronyd for ever. Where nobody listens, it may be that there is none: that is told once.
pub(super) async fn keep_asking_chrony(address: SocketAddr, heard: mpsc::UnboundedSender<(Origin, Word)>) {
    let mut failing = false;
    loop {
        let word = match ask_chrony(address).await {
            Ok(word) => {
                failing = false;
                Some(word)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::info!(%address, %error, "chronyd does not answer");
                }
                matches!(error, ProbeError::Io(_)).then_some(Word::Silent)
            }
        };
        if word.is_some_and(|word| heard.send((Origin::Chrony, word)).is_err()) {
            return;
        }
        sleep(CHRONY_PERIOD).await;
    }
}

/// Asks a server for ever.
pub(super) async fn keep_asking_server(number: usize, asking: Asking, heard: mpsc::UnboundedSender<(Origin, Word)>) {
    let Some(server) = asking.servers.get(number) else { return };
    let mut failing = false;
    loop {
        let mut pause = asking.interval;
        match ask_server(server).await {
            Ok(word) => {
                if std::mem::replace(&mut failing, false) {
                    tracing::info!(server = %server.address, "the time server answers again");
                }
                if heard.send((Origin::Server(number), word)).is_err() {
                    return;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(server = %server.address, %error, "the time server does not answer");
                }
                if matches!(error, ProbeError::Ntp(NtpError::Refused(_))) {
                    // It is asked for less (RFC 5905 section 7.4).
                    pause = pause.saturating_mul(4);
                }
            }
        }
        // Many gateways must not ask in step.
        let eighth = pause / 8;
        let jitter = random::<1>().map_or(Duration::ZERO, |[byte]| eighth * u32::from(byte) / 255);
        sleep(pause - eighth + jitter).await;
    }
}
