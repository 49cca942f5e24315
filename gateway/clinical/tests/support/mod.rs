//! What tests with real peers share: permits, a pump over sockets, and processes that are ended.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "../../src/testing.rs"]
mod testing;

pub(crate) use testing::permit;

/// A machine that the pump drives. Side 0 is the clinic's, side 1 the backend's.
pub(crate) trait Machine {
    fn wants(&self, from: usize) -> bool;
    fn handle(&mut self, from: usize, bytes: &[u8]) -> usize;
    fn output(&self, to: usize) -> &[u8];
    fn sent(&mut self, to: usize, count: usize);
    fn hang_up(&mut self, side: usize);
    fn closed(&self) -> bool;
    /// Answers what is asked.
    fn answer(&mut self);
}

struct End {
    socket: TcpStream,
    /// Bytes that came and were not taken.
    held: Vec<u8>,
}

/// Carries bytes between a client, the machine and a server until the machine is done. Ports and pieces are odd on purpose.
pub(crate) fn pump(client: TcpStream, server: TcpStream, machine: &mut dyn Machine) {
    let end = |socket: TcpStream| {
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        socket.set_nodelay(true).unwrap();
        End { socket, held: Vec::new() }
    };
    let mut ends = [end(client), end(server)];
    let due = Instant::now() + Duration::from_secs(100);
    let mut buffer = vec![0; 3_001];
    while Instant::now() < due {
        for side in 0..2 {
            if ends[side].held.is_empty() && machine.wants(side) {
                match ends[side].socket.read(&mut buffer) {
                    Ok(0) => machine.hang_up(side),
                    Ok(count) => ends[side].held.extend_from_slice(&buffer[..count]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => machine.hang_up(side),
                }
            }
            let taken = machine.handle(side, &ends[side].held);
            ends[side].held.drain(..taken);
            machine.answer();
            for (to, end) in ends.iter_mut().enumerate() {
                while !machine.output(to).is_empty() {
                    let Ok(count) = end.socket.write(machine.output(to)) else { break };
                    machine.sent(to, count);
                }
            }
        }
        if machine.closed() {
            return;
        }
    }
    panic!("the pump did not end in time");
}

/// A process that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Connects as soon as somebody listens.
pub(crate) fn connect(port: u16) -> TcpStream {
    let due = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < due, "nobody listens at {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Both of a process's outputs.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
