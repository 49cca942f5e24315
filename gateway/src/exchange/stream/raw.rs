//! Bytes both ways, of which nothing is known.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gateway_audit::record::End;
use policy::judge::Permit;
use policy::patients::Patients;
use policy::{Action, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Wish, open};
use crate::config::Stream;
use crate::exchange::asked::Target;
use crate::exchange::trail::Trail;
use crate::listen::{ByteStream, Connection, Deadline};
use crate::metrics::Metrics;
use crate::upstream::Opened;

/// Bytes that wait in each direction, at most; one TLS record.
const BUFFER: usize = 16 * 1024;

/// What the connection is called where HTTP has a method.
pub(super) const CONNECT: &[u8] = b"CONNECT";

/// Serves a connection to its end.
pub(super) async fn serve(client: Box<dyn ByteStream>, connection: &Rc<Connection>, rules: &Stream) -> Option<Refusal> {
    let mut trail = Trail::begin(connection, CONNECT, Target::Raw(Bytes::new()));
    if !connection.may_ask() {
        drop(trail.limit());
        return Some(Refusal::RateLimited);
    }
    let wish = Wish { action: Action::Connect, operation: None, resource_type: None, patients: Patients::default() };
    let opened = connection.control.run(pin!(open(connection, rules, wish, &mut trail))).await;
    let (permit, server) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(refusal)) => {
            drop(trail.refuse(refusal).await);
            return Some(refusal);
        }
        Err(cut) => return Some(cut),
    };
    let traffic = Traffic::of(&connection.worker.metrics, &connection.listener.name);
    let relayed = relay(permit, client, server, rules.idle_timeout, &traffic);
    let relayed = connection.control.run(pin!(relayed)).await;
    let (end, cause) = match relayed {
        Ok(Ended::Whole) => (End::Complete, None),
        Ok(Ended::Client) => (End::Aborted, None),
        Ok(Ended::Server) => (End::BackendFailed, Some(Refusal::BackendMalformed)),
        Ok(Ended::Idle) => (End::Timeout, Some(Refusal::StreamIdle)),
        Err(cut) => (End::Revoked, Some(cut)),
    };
    trail.over(end, traffic.received.get(), traffic.sent.get());
    cause
}

/// Bytes that passed.
pub(super) struct Traffic {
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
    from_clients: prometheus::IntCounter,
    to_clients: prometheus::IntCounter,
}

impl Traffic {
    pub(super) fn of(metrics: &Metrics, listener: &str) -> Self {
        let counter = |direction| metrics.stream_bytes.with_label_values(&[listener, direction]);
        Self {
            received: Cell::new(0),
            sent: Cell::new(0),
            from_clients: counter("from-clients"),
            to_clients: counter("to-clients"),
        }
    }

    /// So many came from the client.
    pub(super) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.from_clients.inc_by(bytes as u64);
    }

    /// So many went to the client.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.to_clients.inc_by(bytes as u64);
    }
}

/// How it ended.
enum Ended {
    /// Both sides said that they were done.
    Whole,
    /// The client was gone.
    Client,
    /// The server was gone.
    Server,
    /// Nothing passed for too long.
    Idle,
}

/// Passes bytes on until both sides are done. A side that is done is told to the other, which may go on.
async fn relay(
    permit: Permit,
    mut client: Box<dyn ByteStream>,
    mut server: Opened,
    idle: Duration,
    traffic: &Traffic,
) -> Ended {
    // One permit, one connection.
    drop(permit);
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut deadline = Deadline::default();
    deadline.set(idle);
    let ended = poll_fn(|cx| {
        let mut moved = false;
        let sent = up.poll(cx, &mut client, &mut server, &mut |bytes| {
            moved = true;
            traffic.received(bytes);
        });
        let sent = match sent {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::Client),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::Server),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        let came = down.poll(cx, &mut server, &mut client, &mut |bytes| {
            moved = true;
            traffic.sent(bytes);
        });
        let came = match came {
            Poll::Ready(Err(Broken::From)) => return Poll::Ready(Ended::Server),
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Ended::Client),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        if sent && came {
            return Poll::Ready(Ended::Whole);
        }
        if moved {
            deadline.set(idle);
        }
        deadline.poll_expired(cx).map(|()| Ended::Idle)
    })
    .await;
    if matches!(ended, Ended::Server) {
        server.failed("stream-broken");
    }
    ended
}

/// Which end broke.
enum Broken {
    From,
    To,
}

/// One direction.
struct Way {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    /// What was written is not all on its way.
    unflushed: bool,
    /// The end that reads is told that nothing more comes.
    ended: bool,
    told: bool,
}

impl Default for Way {
    fn default() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { buffer, from: 0, to: 0, unflushed: false, ended: false, told: false }
    }
}

impl Way {
    /// Moves what there is. Ready once the end of what comes was told.
    fn poll<F: AsyncRead + Unpin, T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.told {
                return Poll::Ready(Ok(()));
            }
            let waiting = self.buffer.get(self.from..self.to).unwrap_or_default();
            if !waiting.is_empty() {
                let written = match ready!(Pin::new(&mut *to).poll_write(cx, waiting)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::To)),
                    Ok(written) => written,
                };
                self.from += written;
                self.unflushed = true;
                moved(written);
                continue;
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Broken::To)?;
                self.told = true;
                continue;
            }
            match self.read(cx, from) {
                Poll::Ready(Ok(read)) => self.ended = read == 0,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Broken::To)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn read<F: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut F) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut room))?;
        (self.from, self.to) = (0, room.filled().len());
        Poll::Ready(Ok(self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn a_side_that_is_done_is_told_and_the_other_goes_on() {
        let (mut near, mut from) = duplex(64);
        let (mut to, mut far) = duplex(64);
        let mut way = Way::default();
        let mut count = 0;
        let passing =
            async { poll_fn(|cx| way.poll(cx, &mut from, &mut to, &mut |bytes| count += bytes)).await.is_ok() };
        let talking = async {
            near.write_all(&[7; 1_000]).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let listening = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            far.write_all(b"still here").await.unwrap();
            all.len()
        };
        let (passed, (), read) = tokio::join!(passing, talking, listening);
        assert!(passed);
        assert_eq!((read, count), (1_000, 1_000));
    }
}
