//! `sekisho audit ship`, and receivers of it that are written elsewhere: a witness in Python, OpenStack Swift for S3.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::clinic::repository;
use crate::process::binary;
use crate::wait::within;

/// Pauses after failures, and other programs, take their time.
pub const SHIP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

/// The Python that `tests/run.sh` prepares.
#[must_use]
pub fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

/// A file of `tests/offline`.
#[must_use]
pub fn offline(name: &str) -> PathBuf {
    repository().join("tests/offline").join(name)
}

/// A running `sekisho audit ship`. Killed when dropped.
#[derive(Debug)]
pub struct Ship {
    child: Child,
    log: PathBuf,
    from: usize,
}

impl Ship {
    /// Starts it on a configuration; `environment` is added to its own.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        let log = config.with_extension("log");
        let from = std::fs::read(&log).map_or(0, |log| log.len());
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let mut command = Command::new(binary());
        command.args(["audit", "ship", "--config"]).arg(config).stdin(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CREDENTIALS_DIRECTORY"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).stdout(output.try_clone().expect("a handle")).stderr(output);
        Self { child: command.spawn().expect("it starts"), log, from }
    }

    /// What it said since this start.
    #[must_use]
    pub fn said(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said something.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn says(&self, words: &str) -> String {
        let heard = within(SHIP_PATIENCE, || Some(self.said()).filter(|said| said.contains(words)));
        heard.unwrap_or_else(|| panic!("waited in vain for `{words}` in: {}", self.said()))
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub fn stop(mut self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Ends it in the middle of things.
    ///
    /// # Panics
    /// If it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A witness, in a process of its own.
#[derive(Debug)]
pub struct Witness {
    child: Child,
    state: PathBuf,
    /// Its verifier key.
    pub key: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Witness {
    /// Starts one in a folder, for the logs with these verifier keys. One that has been there before remembers; `address`
    /// is where it listened then.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path, name: &str, logs: &Path, address: Option<SocketAddr>) -> Self {
        let state = folder.join(format!("{name}.json"));
        let seed = name.bytes().fold(7_u8, u8::wrapping_add);
        let mut command = python();
        command.arg(offline("witness.py")).arg("--state").arg(&state).arg("--logs").arg(logs);
        command.args(["--name", &format!("{name}.example"), "--seed", &format!("{seed:02x}").repeat(32)]);
        command.args(["--listen", &address.map_or("127.0.0.1:0".to_owned(), |address| address.to_string())]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("Python runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut after = |word: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            line.strip_prefix(word).unwrap_or_else(|| panic!("`{line}` is not `{word}…`")).to_owned()
        };
        let key = after("key ");
        let port: u16 = after("listening ").parse().expect("a port");
        Self { child, state, key, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Makes it misbehave, or behave again.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn mode(&self, mode: &str) {
        let mut path = self.state.clone().into_os_string();
        path.push(".mode");
        std::fs::write(path, mode).expect("written");
    }

    /// Entries that it has signed of a log.
    #[must_use]
    pub fn signed(&self, origin: &str) -> u64 {
        let state = std::fs::read(&self.state).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
        state[origin]["size"].as_u64().unwrap_or(0)
    }

    /// Its newest cosigned checkpoint of a log, as its monitors get it.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn checkpoint(&self, origin: &str) -> Vec<u8> {
        let script = "import hashlib, sys, urllib.request\n\
            name = hashlib.sha256(sys.argv[2].encode()).hexdigest()\n\
            answer = urllib.request.urlopen(f'http://{sys.argv[1]}/{name}/checkpoint', timeout=60)\n\
            sys.stdout.buffer.write(answer.read())\n";
        let output = python().args(["-c", script, &self.address.to_string(), origin]).output().expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Ends it.
    ///
    /// # Panics
    /// If it is gone.
    pub fn stop(mut self) -> SocketAddr {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.address
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// OpenStack Swift with its S3 interface, one node.
#[derive(Debug)]
pub struct Swift {
    child: Child,
    output: ChildStdout,
    folder: PathBuf,
    address: SocketAddr,
    tls: Option<(PathBuf, PathBuf)>,
}

impl Swift {
    /// The access key, and its secret.
    pub const CREDENTIALS: (&'static str, &'static str) = ("test:tester", "testing");

    /// An address for one, with some ports behind it, that nobody else uses: the process id is in it, and how many there
    /// were in this process.
    #[must_use]
    pub fn own_address() -> SocketAddr {
        static CALLS: AtomicU8 = AtomicU8::new(0);
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let call = CALLS.fetch_add(1, Ordering::Relaxed) % 32;
        SocketAddr::from(([127, 128 + a % 4 * 32 + call, b, c], 20_000))
    }

    /// Starts it in a folder, at [`Swift::own_address`], with a certificate and its key for TLS.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path, address: SocketAddr, tls: Option<(PathBuf, PathBuf)>) -> Self {
        let (child, output) = Self::spawn(folder, address, tls.as_ref());
        Self { child, output, folder: folder.to_owned(), address, tls }
    }

    fn spawn(folder: &Path, address: SocketAddr, tls: Option<&(PathBuf, PathBuf)>) -> (Child, ChildStdout) {
        std::fs::create_dir_all(folder).expect("a folder");
        // Debian's own Python has Debian's packages.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(offline("s3_server.py")).arg(folder).arg(address.ip().to_string()).arg(address.port().to_string());
        if let Some((certificate, key)) = tls {
            command.arg(certificate).arg(key);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python runs");
        let mut output = child.stdout.take().expect("its output");
        let mut ready = [0; 6];
        output.read_exact(&mut ready).expect("Debian's `swift` packages and `memcached` are installed");
        assert_eq!(&ready, b"ready\n");
        (child, output)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// A command of `tests/offline/s3.py`.
    ///
    /// # Panics
    /// If it fails.
    pub fn s3(&self, ca: Option<&Path>, arguments: &[&str]) -> String {
        let (access, secret) = Self::CREDENTIALS;
        let mut command = python();
        command.arg(offline("s3.py"));
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let output = command.args([&self.url(), access, secret]).args(arguments).output().expect("Python runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends all of it at once. What it acknowledged stays.
    ///
    /// # Panics
    /// If it is gone.
    pub fn down(&mut self) {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        let _ = self.output.read_to_end(&mut rest);
        self.child.wait().expect("it ends");
    }

    /// Starts it again at the same place.
    ///
    /// # Panics
    /// If it does not start.
    pub fn up(&mut self) {
        (self.child, self.output) = Self::spawn(&self.folder, self.address, self.tls.as_ref());
    }
}

impl Drop for Swift {
    fn drop(&mut self) {
        // It kills its servers itself, once its input ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
