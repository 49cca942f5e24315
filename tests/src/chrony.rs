//! Real time servers: `chronyd` on loopback, which leaves the machine's clock alone.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::wait::until;

/// A line of the key file of every server here, for the gateway's `key_file`.
pub const KEY: &str = "7 AES128 HEX:000102030405060708090a0b0c0d0e0f";

/// Debian's libfaketime.
pub const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A running `chronyd`.
#[derive(Debug)]
pub struct Chronyd {
    child: Child,
    /// Where it serves time, or tells of its own.
    pub address: SocketAddr,
}

impl Chronyd {
    /// A server that says what this machine's clock says, `offset` (such as `+5s`) away from it.
    ///
    /// # Panics
    /// If it does not serve.
    #[must_use]
    pub fn server(folder: &Path, offset: Option<&str>) -> Self {
        let address = free_port();
        let port = address.port();
        let text = format!("port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\nlocal stratum 1\ncmdport 0\n");
        Self::start(folder, &text, offset, address)
    }

    /// A client that follows `server`, and lets itself be asked.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn client(folder: &Path, server: SocketAddr) -> Self {
        let address = free_port();
        let (port, of) = (address.port(), server.port());
        let text = format!(
            "port 0\ncmdport {port}\nbindcmdaddress 127.0.0.1\n\
             server 127.0.0.1 port {of} iburst minpoll -2 maxpoll -2 key 7 trust\n"
        );
        Self::start(folder, &text, None, address)
    }

    fn start(folder: &Path, text: &str, offset: Option<&str>, address: SocketAddr) -> Self {
        let folder = folder.join(format!("chrony-{}", address.port()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (configuration, keys) = (folder.join("chrony.conf"), folder.join("chrony.keys"));
        std::fs::write(&keys, format!("{KEY}\n")).expect("a file");
        let (pid, keys) = (folder.join("pid"), keys.display());
        let text = format!("{text}bindcmdaddress /\npidfile {}\nkeyfile {keys}\n", pid.display());
        std::fs::write(&configuration, text).expect("a file");
        let mut command = Command::new("chronyd");
        if let Some(offset) = offset {
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        // -x: the machine's clock is left alone; -d: in the foreground.
        command.args(["-x", "-d", "-U", "-u", "root", "-f"]).arg(configuration);
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).spawn();
        let chronyd = Self { child: child.expect("Debian's `chrony` is installed"), address };
        until("chronyd", || chronyd.is_bound().then_some(()));
        chronyd
    }

    /// Looked up, not tried: whoever tries a port has it at that moment, and it could not be had then.
    fn is_bound(&self) -> bool {
        let sockets = std::fs::read_to_string("/proc/net/udp").expect("Linux");
        let local = format!("0100007F:{:04X}", self.address.port());
        sockets.lines().any(|line| line.split_whitespace().nth(1) == Some(&local))
    }

    /// Ends it.
    ///
    /// # Panics
    /// If it cannot be ended.
    pub fn stop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago; nobody else on this machine asks for it by number.
fn free_port() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("an address")
}
