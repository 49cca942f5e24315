//! What stands behind the gateway in the simulation.

use std::collections::HashMap;
use std::time::Instant;

use crate::Tunnels;
use crate::event::{Event, StreamId};
use crate::stack::StreamError;

/// What the server does with a new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Habit {
    /// Sends back what comes, and ends when it ends.
    #[default]
    Echo,
    /// Takes no notice.
    Ignore,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) habit: Habit,
    pub(super) opened: Vec<StreamId>,
    pub(super) cut: Vec<StreamId>,
    /// What came and is still to be sent back.
    pending: HashMap<StreamId, (Vec<u8>, bool)>,
}

impl Server {
    pub(super) fn handle(&mut self, now: Instant, tunnels: &mut Tunnels, event: &Event) {
        match event {
            Event::Opened { stream, .. } => {
                self.opened.push(*stream);
                self.pending.insert(*stream, (Vec::new(), false));
                self.echo(now, tunnels, *stream);
            }
            Event::Readable(stream) | Event::Writable(stream) => self.echo(now, tunnels, *stream),
            Event::Closed { stream, .. } => {
                self.cut.push(*stream);
                self.pending.remove(stream);
                tunnels.release(now, *stream);
            }
            Event::SessionUp { .. } | Event::SessionDown { .. } | Event::HandOver { .. } | Event::Dropped { .. } => {}
        }
    }

    fn echo(&mut self, now: Instant, tunnels: &mut Tunnels, stream: StreamId) {
        if self.habit == Habit::Ignore {
            return;
        }
        let Some((pending, ended)) = self.pending.get_mut(&stream) else { return };
        let mut buffer = [0; 10_000];
        loop {
            while !*ended && pending.len() < 100_000 {
                match tunnels.read(now, stream, &mut buffer) {
                    Ok(0) => *ended = true,
                    Ok(length) => pending.extend_from_slice(&buffer[..length]),
                    Err(StreamError::Blocked) => break,
                    Err(_) => return,
                }
            }
            if pending.is_empty() {
                break;
            }
            match tunnels.write(now, stream, pending) {
                Ok(length) => drop(pending.drain(..length)),
                Err(_) => return,
            }
        }
        if *ended && pending.is_empty() {
            tunnels.finish(now, stream).unwrap();
            tunnels.release(now, stream);
            self.pending.remove(&stream);
        }
    }
}
