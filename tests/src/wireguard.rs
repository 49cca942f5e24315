//! Real WireGuard clients: `wireguard-go` in network namespaces of a test's own.
//!
//! A site's namespace is a machine of its own behind a cable (veth) whose other end is here. Names carry this process's id, so
//! that tests run side by side; what a killed test left over is removed by the next.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::clinic::Prepared;
use crate::wait::until;

/// Names of namespaces begin so.
const PREFIX: &str = "sekisho-";

/// Runs a command of the system.
///
/// # Panics
/// If it cannot be started or fails.
pub fn run(command: &[&str]) -> String {
    let output = try_run(command);
    assert!(
        output.status.success(),
        "{}: {}{}",
        command.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn try_run(command: &[&str]) -> Output {
    let (program, arguments) = command.split_first().expect("a program");
    Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the program is installed")
}

/// A pair of WireGuard keys, in Base64.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The private one.
    pub private: String,
    /// The public one.
    pub public: String,
    /// What is shared with the gateway beside, if anything.
    pub shared: Option<String>,
}

impl Keys {
    /// New ones, made by `wg`.
    ///
    /// # Panics
    /// If `wg` fails.
    #[must_use]
    pub fn new() -> Self {
        let private = run(&["wg", "genkey"]).trim().to_owned();
        Self { public: public_of(&private), private, shared: None }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

/// The public key of a private one.
///
/// # Panics
/// If `wg` takes it for none.
#[must_use]
pub fn public_of(private: &str) -> String {
    use std::io::Write as _;
    let mut child =
        Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("wg is installed");
    child.stdin.take().expect("a pipe").write_all(private.as_bytes()).expect("wg reads");
    let output = child.wait_with_output().expect("wg ends");
    assert!(output.status.success(), "wg takes `{private}` for no key");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A machine of a clinic, with a WireGuard client.
pub struct Machine {
    namespace: String,
    /// The cable's end here.
    cable: String,
    interface: String,
    /// Where it is, outside the tunnel.
    pub outside: Ipv4Addr,
    /// The address of this end of its cable: where it finds the gateway.
    pub gateway: Ipv4Addr,
    /// Its address inside the tunnel.
    pub inside: IpAddr,
    /// Its keys.
    pub keys: Keys,
    client: Option<Child>,
    folder: PathBuf,
}

impl Machine {
    /// A machine with a cable, and a client that is not up yet.
    ///
    /// # Panics
    /// Where namespaces cannot be made: that takes root.
    #[must_use]
    pub fn new(prepared: &Prepared, inside: &str, keys: Keys) -> Self {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        remove_stale();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let [gateway, outside] = free_addresses(process.wrapping_mul(8) + u32::from(number));
        // An interface's name has 15 characters at most, and a client's socket lies in a folder that all share.
        let name = |letter: &str| format!("sk{letter}{process}x{number}");
        let machine = Self {
            namespace: format!("{PREFIX}{process}-{number}"),
            cable: name("c"),
            interface: name("w"),
            outside,
            gateway,
            inside: inside.parse().expect("an address"),
            keys,
            client: None,
            folder: prepared.path(&format!("machine-{number}")),
        };
        std::fs::create_dir(&machine.folder).expect("a folder");
        let Self { namespace, cable, .. } = &machine;
        run(&["ip", "netns", "add", namespace]);
        run(&["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
        run(&["ip", "addr", "add", &format!("{gateway}/29"), "dev", cable]);
        run(&["ip", "link", "set", cable, "up"]);
        machine.ip(&["addr", "add", &format!("{outside}/29"), "dev", "eth0"]);
        machine.ip(&["link", "set", "eth0", "up"]);
        machine.ip(&["link", "set", "lo", "up"]);
        machine
    }

    /// `ip` in its namespace.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run(&[&["ip", "-n", &self.namespace], arguments].concat())
    }

    /// The MTU of its cable, both ends.
    pub fn set_cable_mtu(&self, mtu: u16) {
        self.ip(&["link", "set", "eth0", "mtu", &mtu.to_string()]);
        run(&["ip", "link", "set", &self.cable, "mtu", &mtu.to_string()]);
    }

    /// Starts the client: a tunnel to the gateway's key at this port of its end of the cable, for these ranges.
    ///
    /// # Panics
    /// If `wireguard-go` or `wg` fails.
    pub fn connect(&mut self, gateway_key: &str, port: u16, ranges: &[&str], mtu: u16) {
        let log = File::create(self.folder.join("wireguard.log")).expect("a log");
        let client = self
            .command(&["wireguard-go", "-f", &self.interface])
            .env("LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("wireguard-go is installed");
        self.client = Some(client);
        let socket = PathBuf::from(format!("/var/run/wireguard/{}.sock", self.interface));
        until("the client's interface", || socket.exists().then_some(()));
        let endpoint = SocketAddr::from((self.gateway, port)).to_string();
        self.set_keys(gateway_key);
        self.wg(&["set", &self.interface, "peer", gateway_key, "endpoint", &endpoint]);
        // Whoever only receives, and moves, says so by this alone.
        self.wg(&["set", &self.interface, "peer", gateway_key, "persistent-keepalive", "1"]);
        self.wg(&["set", &self.interface, "peer", gateway_key, "allowed-ips", &ranges.join(",")]);
        let inside = self.inside.to_string();
        self.ip(&["addr", "add", &inside, "dev", &self.interface]);
        self.ip(&["link", "set", &self.interface, "mtu", &mtu.to_string(), "up"]);
        for range in ranges {
            self.ip(&["route", "add", range, "dev", &self.interface]);
        }
    }

    /// Gives the client other keys.
    ///
    /// # Panics
    /// If `wg` fails.
    pub fn take_keys(&mut self, keys: Keys, gateway_key: &str) {
        self.keys = keys;
        self.set_keys(gateway_key);
    }

    fn set_keys(&self, gateway_key: &str) {
        let file = |name: &str, content: &str| {
            let path = self.folder.join(name);
            std::fs::write(&path, content).expect("a file");
            path.to_str().expect("an UTF-8 path").to_owned()
        };
        let private = file("private.key", &self.keys.private);
        self.wg(&["set", &self.interface, "private-key", &private]);
        // An empty file takes what is shared away.
        let shared = file("shared.key", self.keys.shared.as_deref().unwrap_or_default());
        self.wg(&["set", &self.interface, "peer", gateway_key, "preshared-key", &shared]);
    }

    /// `wg` in its namespace.
    ///
    /// # Panics
    /// If it fails.
    pub fn wg(&self, arguments: &[&str]) -> String {
        run(&[&["ip", "netns", "exec", &self.namespace, "wg"], arguments].concat())
    }

    /// The name of the client's interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// A command that runs on it.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> Command {
        let mut all = Command::new("ip");
        all.args(["netns", "exec", &self.namespace]).args(command).stdin(Stdio::null());
        all
    }

    /// Runs a command on it to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn output(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("the program is installed")
    }

    /// `curl` on it, with these arguments: its exit code and what it wrote. It gives up after a minute.
    #[must_use]
    pub fn curl(&self, arguments: &[&str]) -> (i32, String) {
        let fixed = ["curl", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*"];
        let output = self.output(&[&fixed, arguments].concat());
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(client) = &mut self.client {
            let _ = client.kill();
            let _ = client.wait();
            let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.interface));
        }
        // The cable goes with it, once nobody runs there.
        drop(try_run(&["ip", "netns", "del", &self.namespace]));
        drop(try_run(&["ip", "link", "del", &self.cable]));
    }
}

/// Two addresses of a /29 of 198.18.0.0/15, which is for benchmarks (RFC 2544), that no cable here has.
fn free_addresses(wanted: u32) -> [Ipv4Addr; 2] {
    let all = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let places = (0..16_384).map(|next| all + wanted.wrapping_add(next * 8) % 16_384 * 8);
    let mut free = places.map(|place| [place + 1, place + 2].map(Ipv4Addr::from));
    let is_free = |gateway: Ipv4Addr| run(&["ip", "-o", "addr", "show", "to", &format!("{gateway}/29")]).is_empty();
    free.find(|[gateway, _]| is_free(*gateway)).expect("a free network")
}

/// Removes what tests that were killed left over.
fn remove_stale() {
    let names = String::from_utf8_lossy(&try_run(&["ip", "netns", "list"]).stdout).into_owned();
    for name in names.lines().filter_map(|line| line.split_whitespace().next()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let process = process.and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !PathBuf::from(format!("/proc/{process}")).exists()) {
            drop(try_run(&["ip", "netns", "del", name]));
        }
    }
}
