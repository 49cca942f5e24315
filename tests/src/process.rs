//! The real binary, started and stopped by process id.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::wait::{PATIENCE, within};

/// What a command of `sekisho` came to.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A gateway that ended instead of serving.
#[derive(Debug)]
pub struct Failure {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub message: String,
}

/// The binary that lies next to the tests.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let folder = test.ancestors().find(|folder| folder.join("sekisho").is_file());
    match folder {
        Some(folder) => folder.join("sekisho"),
        None => panic!("there is no `sekisho` above `{}`: run `cargo build` first", test.display()),
    }
}

/// A command of the binary, in an environment without anything of a service manager.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command of the binary to its end.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn sekisho(arguments: &[&str]) -> Output {
    let output = command(arguments).output().expect("`sekisho` starts");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command of the binary that still runs, and asks things on its standard input.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn sekisho_asking(arguments: &[&str]) -> Child {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("`sekisho` starts")
}

/// An address of the loopback that no other process uses, for programs that cannot choose a free port themselves: the
/// process id is in the address, and in the port as well, since some programs listen on all addresses. Another port each
/// time, below those that the kernel hands out itself (from 32768 on).
#[must_use]
pub fn own_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    let [_, a, b, c] = process.to_be_bytes();
    // Neighbours in time have neighbouring ids.
    let port = 20_000 + (process % 3_000 * 4 + CALLS.fetch_add(1, Ordering::Relaxed)) % 12_000;
    SocketAddr::from(([127, 64 + a, b, c], u16::try_from(port).expect("below 32000")))
}

/// A running gateway. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: PathBuf,
}

impl Gateway {
    /// Starts `sekisho run --config CONFIG`; its standard error goes to a file beside the configuration. `wrapper` is
    /// a command that runs it, such as `strace` with its options; empty for none.
    ///
    /// # Panics
    /// If it cannot be started at all.
    #[must_use]
    pub fn spawn(config: &Path, wrapper: &[&str]) -> Self {
        let log = config.with_extension("log");
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let config = config.to_str().expect("an UTF-8 path");
        let mut command = match wrapper {
            [] => command(&["run", "--config", config]),
            [program, options @ ..] => {
                let mut wrapped = Command::new(program);
                wrapped.args(options).arg(binary()).args(["run", "--config", config]).stdin(Stdio::null());
                wrapped
            }
        };
        let copy = output.try_clone().expect("a second handle");
        let child = command.stdout(copy).stderr(output).spawn().expect("`sekisho run` starts");
        Self { child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.rustix_pid(), signal).expect("the gateway runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_for(PATIENCE).unwrap_or_else(|| panic!("the gateway did not end; it said: {}", self.said()))
    }

    /// Waits for its end, but not for longer than this.
    pub fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.ended())
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("not 0")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
