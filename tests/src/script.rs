//! A Python program that is told what to do line by line, and says what came of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::clinic::{Clinic, repository};

/// The program. Ended when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    input: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Script {
    /// Starts a file below `tests/` with these arguments; its packages stand in tests/requirements.txt.
    ///
    /// # Panics
    /// If Python is missing.
    #[must_use]
    pub fn start(file: &str, arguments: &[&str]) -> Self {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(python);
        command.arg(repository().join("tests").join(file)).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python is installed");
        let (input, said) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Self { child, input, said: BufReader::new(said) }
    }

    /// Starts a client of a clinic's gateway as this device. Its arguments begin with `target` at that gateway, then the
    /// authority's file, the certificate's and the key's.
    ///
    /// # Panics
    /// If Python is missing.
    #[must_use]
    pub fn client(clinic: &Clinic, device: &str, file: &str, target: &str, arguments: &[&str]) -> Self {
        let files = clinic.identity_files(device);
        let address = target.replace("GATEWAY", &format!("localhost:{}", clinic.door.address.port()));
        let files = files.each_ref().map(|file| file.to_str().expect("an UTF-8 path"));
        Self::start(file, &[&[&*address], &files[..], arguments].concat())
    }

    /// The next line that it says; empty once it has ended.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("its output");
        line.trim_end().to_owned()
    }

    /// The next line, which is an address.
    ///
    /// # Panics
    /// If it is none.
    pub fn address(&mut self) -> SocketAddr {
        let line = self.line();
        line.parse().unwrap_or_else(|_| panic!("no address: {line}; see tests/requirements.txt"))
    }

    /// The next line, which is JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}; see tests/requirements.txt"))
    }

    /// Tells it a line.
    ///
    /// # Panics
    /// If it has ended.
    pub fn tell(&mut self, order: &Value) {
        writeln!(self.input, "{order}").expect("it runs");
    }

    /// Tells it a line, and reads what came of it.
    ///
    /// # Panics
    /// If it has ended, or says no JSON.
    pub fn does(&mut self, order: &Value) -> Value {
        self.tell(order);
        self.json()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
