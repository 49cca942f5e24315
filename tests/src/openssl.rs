//! Authorities whose certificates and CRLs OpenSSL makes: what the gateway meets from CAs that are not ours.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::pki::{Identity, spiffe_id};

/// An authority in a folder of its own.
pub struct Ca {
    folder: TempDir,
    /// The certificates of the CAs from this one up, the root left out.
    chain: String,
}

/// What a CRL says beside its entries.
#[derive(Debug, Clone, Default)]
pub struct CrlOptions {
    /// The next update, as `YYYYMMDDHHMMSSZ`; in 30 days unless set.
    pub next_update: Option<String>,
    /// This update; at once unless set.
    pub this_update: Option<String>,
    /// More lines of the extensions' section of OpenSSL's configuration, and sections after them.
    pub extensions: String,
}

const CONFIG: &str = "
[ca]
default_ca = own
[own]
database = index.txt
crlnumber = crlnumber
serial = serial
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_crl_days = 30
default_days = 30
unique_subject = no
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
";

impl Ca {
    /// A self-signed authority.
    #[must_use]
    pub fn root(name: &str) -> Self {
        let ca = Self::folder(name);
        ca.run(&["req", "-x509", "-key", "ca.key", "-subj", &format!("/CN={name}"), "-days", "365", "-out", "ca.crt",
            "-config", "ca.cnf", "-extensions", "authority"]);
        ca
    }

    /// An authority below this one; `urls` are where this one's CRL is fetched.
    #[must_use]
    pub fn below(&self, name: &str, urls: &[&str]) -> Self {
        let mut ca = Self::folder(name);
        ca.run(&["req", "-new", "-key", "ca.key", "-subj", &format!("/CN={name}"), "-out", "ca.csr", "-config", "ca.cnf"]);
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
                          subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";
        ca.write("ca.crt", self.sign(&ca.read("ca.csr"), extensions, urls));
        ca.chain = ca.certificate_pem() + &self.chain;
        ca
    }

    fn folder(name: &str) -> Self {
        let ca = Self { folder: TempDir::with_prefix("openssl-").expect("a folder"), chain: String::new() };
        ca.write("ca.cnf", format!("{CONFIG}[req]\ndistinguished_name = dn\n[dn]\n# {name}\n"));
        ca.write("index.txt", "");
        ca.write("crlnumber", "01\n");
        ca.write("serial", "01\n");
        ca.run(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ca.key"]);
        ca
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.read("ca.crt")
    }

    /// Its key, PKCS#8.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.read("ca.key")
    }

    /// The certificate of a device, `site/device`, with the CAs between it and the root; its CRL is fetched from `urls`.
    #[must_use]
    pub fn device(&self, device: &str, urls: &[&str]) -> Identity {
        let folder = TempDir::with_prefix("device-").expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        self.run(&["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            &path("key"), "-subj", &format!("/CN={}", device.replace('/', "-")), "-out", &path("csr"), "-config", "ca.cnf"]);
        let csr = std::fs::read_to_string(path("csr")).expect("a request");
        let extensions = format!(
            "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\n\
             subjectAltName = URI:{}\nauthorityKeyIdentifier = keyid\n",
            spiffe_id(device)
        );
        let certificate = self.sign(&csr, &extensions, urls);
        let key_pem = std::fs::read_to_string(path("key")).expect("a key");
        Identity { certificate_pem: certificate + &self.chain, key_pem }
    }

    fn sign(&self, csr: &str, extensions: &str, urls: &[&str]) -> String {
        self.write("sign.csr", csr);
        let urls: Vec<_> = urls.iter().map(|url| format!("URI:{url}")).collect();
        let points =
            if urls.is_empty() { String::new() } else { format!("crlDistributionPoints = {}\n", urls.join(",")) };
        self.write("sign.ext", format!("[e]\n{extensions}{points}"));
        self.run(&["ca", "-config", "ca.cnf", "-batch", "-notext", "-in", "sign.csr", "-out", "signed.crt", "-extfile",
            "sign.ext", "-extensions", "e", "-rand_serial"]);
        self.read("signed.crt")
    }

    /// Revokes a certificate, the first of the PEM; the next CRL says so.
    pub fn revoke(&self, certificate_pem: &str, reason: &str) {
        self.write("revoked.crt", certificate_pem);
        self.run(&["ca", "-config", "ca.cnf", "-revoke", "revoked.crt", "-crl_reason", reason]);
    }

    /// A CRL of today, good for 30 days, PEM. Each has the next number.
    #[must_use]
    pub fn crl(&self) -> String {
        self.crl_with(&CrlOptions::default())
    }

    /// A CRL with something particular about it.
    #[must_use]
    pub fn crl_with(&self, options: &CrlOptions) -> String {
        let config = self.read("ca.cnf");
        let more = format!("{config}[crl]\nauthorityKeyIdentifier = keyid\n{}\n", options.extensions);
        self.write("crl.cnf", more);
        let mut arguments = vec!["ca", "-config", "crl.cnf", "-gencrl", "-crlexts", "crl", "-out", "ca.crl"];
        for (option, value) in [("-crl_lastupdate", &options.this_update), ("-crl_nextupdate", &options.next_update)] {
            if let Some(value) = value {
                arguments.extend([option, value]);
            }
        }
        self.run(&arguments);
        self.read("ca.crl")
    }

    /// A PEM file's content as DER.
    #[must_use]
    pub fn crl_der(pem: &str) -> Vec<u8> {
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
        let output = output.expect("OpenSSL is installed");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
