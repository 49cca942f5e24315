//! An identity provider: tokens by a foreign implementation, its keys, and its word about opaque tokens.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::pki::Identity;

/// `iss` of its tokens.
pub const ISSUER: &str = "https://idp.test/clinic";

/// A running provider. Ended when dropped.
pub struct Idp {
    child: Child,
    orders: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// Its port on the loopback address.
    pub port: u16,
}

/// Seconds since 1970.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a near date")
}

impl Idp {
    /// Starts one that speaks plain HTTP, and publishes the key `k1`.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one behind TLS; the files are its certificate and its key.
    ///
    /// # Panics
    /// If a path is not UTF-8.
    #[must_use]
    pub fn with_tls(certificate: &Path, key: &Path) -> Self {
        Self::with(&[certificate.to_str().expect("UTF-8"), key.to_str().expect("UTF-8")])
    }

    /// The same, and whoever asks shows a certificate of the authority in that file.
    ///
    /// # Panics
    /// If a path is not UTF-8.
    #[must_use]
    pub fn with_clients(certificate: &Path, key: &Path, ca: &Path) -> Self {
        let [certificate, key, ca] = [certificate, key, ca].map(|path| path.to_str().expect("UTF-8"));
        Self::with(&[certificate, key, ca])
    }

    fn with(arguments: &[&str]) -> Self {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut child = Command::new(python)
            .arg(crate::repository().join("tests/backends/idp.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is installed");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its port");
        let port = line.trim().parse().expect("PyJWT is installed: tests/run.sh installs it");
        let orders = RefCell::new((child.stdin.take().expect("piped"), said));
        let idp = Self { child, orders, port };
        idp.obey(&json!({"publish": ["k1"]}));
        idp
    }

    /// Ends it at once: nobody answers there any more.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(&self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::KILL)
            .expect("it runs");
    }

    /// Gives an order and returns its answer.
    ///
    /// # Panics
    /// If it is not obeyed.
    pub fn obey(&self, order: &Value) -> Value {
        let (input, output) = &mut *self.orders.borrow_mut();
        writeln!(input, "{order}").expect("the provider runs");
        let mut line = String::new();
        output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the provider does not obey {order}: {error}"))
    }

    /// A token of these claims by the key `k1`.
    ///
    /// # Panics
    /// If none is made.
    #[must_use]
    pub fn mint(&self, claims: &Value) -> String {
        self.mint_by(claims, "k1", "ES256", &json!({}))
    }

    /// A token of these claims by that key, with more in its header.
    ///
    /// # Panics
    /// If none is made.
    #[must_use]
    pub fn mint_by(&self, claims: &Value, key: &str, algorithm: &str, headers: &Value) -> String {
        let token = self.obey(&json!({"mint": claims, "key": key, "alg": algorithm, "headers": headers}));
        token.as_str().expect("a token").to_owned()
    }

    /// How often it was asked for its keys, and about tokens.
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn asked(&self) -> (u64, u64) {
        let count = self.obey(&json!({"count": true}));
        (count[0].as_u64().expect("a count"), count[1].as_u64().expect("a count"))
    }

    /// Its `[[token_issuer]]` by keys, without bounds on whose: more lines may follow.
    #[must_use]
    pub fn by_keys(&self) -> String {
        format!(
            "[[token_issuer]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudiences = [\"sekisho\"]\nsites = [\"*\"]\n\
             algorithms = [\"ES256\", \"RS256\", \"EdDSA\"]\njwks_uri = \"http://127.0.0.1:{}/jwks?v=1\"\n",
            self.port
        )
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `x5t#S256` of a certificate (RFC 8705 3.1).
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn thumbprint(identity: &Identity) -> String {
    use base64::Engine as _;
    let chain = identity.chain();
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, chain.first().expect("a leaf")))
}

/// Claims of a good token of that user, bound to that certificate.
#[must_use]
pub fn claims(user: &str, identity: &Identity) -> Value {
    json!({
        "iss": ISSUER, "aud": "sekisho", "sub": user, "client_id": "ehr", "jti": "1",
        "iat": now(), "exp": now() + 600, "cnf": {"x5t#S256": thumbprint(identity)},
    })
}
