//! A real OpenID provider: oidc-provider of npm, on a port of its own (tests/oidc).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A running provider. Ended when dropped.
pub struct OidcProvider {
    child: Child,
    orders: (ChildStdin, BufReader<ChildStdout>),
    /// Its port on the loopback address.
    pub port: u16,
}

/// Where its packages are: tests/run.sh puts them beside what is built.
fn modules() -> PathBuf {
    match std::env::var_os("OIDC_MODULES") {
        Some(folder) => folder.into(),
        None => crate::repository().join("target/oidc/node_modules"),
    }
}

impl OidcProvider {
    /// Starts one that knows no client.
    ///
    /// # Panics
    /// If Node or the packages are missing.
    #[must_use]
    pub fn start() -> Self {
        let mut child = Command::new("node")
            .arg(crate::repository().join("tests/oidc/provider.mjs"))
            .arg(modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node is installed");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its port");
        let port = line.trim().parse().expect("its packages are there: tests/run.sh installs them");
        Self { orders: (child.stdin.take().expect("piped"), said), child, port }
    }

    /// Its `iss`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes it know these clients, and serve.
    ///
    /// # Panics
    /// If it does not take them.
    pub fn configure(&mut self, clients: &Value) {
        let (input, output) = &mut self.orders;
        writeln!(input, "{}", json!({"configure": {"clients": clients}})).expect("the provider runs");
        let mut line = String::new();
        output.read_line(&mut line).expect("an answer");
        assert_eq!(line.trim(), format!("\"http://127.0.0.1:{}\"", self.port));
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
