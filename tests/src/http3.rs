//! A client of HTTP/3 that another wrote (aioquic), told what to do line by line.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clinic::{Clinic, repository};
use crate::copies::python;
use crate::pki::Identity;

/// What a client of the clinic needs on disk: the servers' authority, and its own certificate.
pub struct Files {
    folder: TempDir,
    has_identity: bool,
}

impl Files {
    /// Writes them.
    ///
    /// # Panics
    /// If there is no room.
    #[must_use]
    pub fn new(clinic: &Clinic, identity: Option<&Identity>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("ca.pem", clinic.pki().servers_ca_pem());
        if let Some(identity) = identity {
            write("own.pem", &identity.certificate_pem);
            write("own.key", &identity.key_pem);
        }
        Self { folder, has_identity: identity.is_some() }
    }

    /// Paths: the authority, and certificate and key where there are some.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let names: &[&str] = if self.has_identity { &["ca.pem", "own.pem", "own.key"] } else { &["ca.pem"] };
        names.iter().map(|name| self.folder.path().join(name)).collect()
    }
}

/// A client. Killed when dropped.
pub struct Http3 {
    child: Child,
    orders: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    _files: Files,
}

impl Http3 {
    /// A client of the clinic's listener, not yet connected.
    ///
    /// # Panics
    /// If Python is not there.
    #[must_use]
    pub fn new(clinic: &Clinic, identity: Option<&Identity>) -> Self {
        let files = Files::new(clinic, identity);
        let address = clinic.door.address;
        let mut child = python()
            .arg(repository().join("tests/http3.py"))
            .args([address.ip().to_string(), address.port().to_string()])
            .args(files.paths())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is installed");
        let orders =
            RefCell::new((child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped"))));
        Self { child, orders, _files: files }
    }

    /// A client that is a device of the clinic, connected.
    ///
    /// # Panics
    /// If it is not let in.
    #[must_use]
    pub fn open(clinic: &Clinic, device: &str) -> Self {
        let client = Self::new(clinic, Some(&clinic.identity(device)));
        let opened = client.obey(&json!({"do": "open"}));
        assert_eq!(opened["ok"], true, "{opened}\n{}", clinic.gateway.said());
        client
    }

    /// Gives an order, and returns once it is obeyed.
    ///
    /// # Panics
    /// If it is not.
    pub fn obey(&self, order: &Value) -> Value {
        self.send(order);
        self.obeyed(order)
    }

    /// Gives an order that takes its time; [`obeyed`](Self::obeyed) waits for it.
    ///
    /// # Panics
    /// If the client has ended.
    pub fn send(&self, order: &Value) {
        writeln!(self.orders.borrow_mut().0, "{order}").expect("the client runs");
    }

    /// The answer to an order that was given.
    ///
    /// # Panics
    /// If there is none.
    pub fn obeyed(&self, order: &Value) -> Value {
        let mut line = String::new();
        self.orders.borrow_mut().1.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the client does not obey {order}: {error}"))
    }

    /// GETs a target.
    pub fn get(&self, target: &str) -> Value {
        self.obey(&json!({"do": "get", "path": target}))
    }

    /// Sends bytes on a stream of its own, and what became of it.
    pub fn raw(&self, hex: &str, more: &Value) -> Value {
        let mut order = json!({"do": "raw", "hex": hex});
        if let (Some(order), Some(more)) = (order.as_object_mut(), more.as_object()) {
            order.extend(more.clone());
        }
        self.obey(&order)
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the clinic twice as a device by another foreign client, of that name.
///
/// # Panics
/// If it does not end well.
#[must_use]
pub fn foreign(client: &str, clinic: &Clinic, device: &str, target: &str) -> Value {
    let files = Files::new(clinic, Some(&clinic.identity(device)));
    let url = format!("https://localhost:{}{target}", clinic.door.address.port());
    let mut command: Command = python();
    command.arg(repository().join("tests/http3_foreign.py")).arg(client).arg(url).args(files.paths());
    let output = command.output().expect("Python is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{client}: {error}\n{said}\n{}\n{}", String::from_utf8_lossy(&output.stderr), clinic.gateway.said())
    })
}
