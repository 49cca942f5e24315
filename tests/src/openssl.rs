//! Authorities whose certificates and CRLs OpenSSL makes: what the gateway meets from CAs that are not ours.

use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
countryName = optional
organizationName = optional
commonName = supplied
serialNumber = optional
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
        ca.run(&[
            "req",
            "-x509",
            "-key",
            "ca.key",
            "-subj",
            &format!("/CN={name}"),
            "-days",
            "365",
            "-out",
            "ca.crt",
            "-config",
            "ca.cnf",
            "-extensions",
            "authority",
        ]);
        ca
    }

    /// An authority below this one; `urls` are where this one's CRL is fetched.
    #[must_use]
    pub fn below(&self, name: &str, urls: &[&str]) -> Self {
        self.below_with(name, urls, "")
    }

    /// As [`Ca::below`], with more lines of the extensions' section of OpenSSL's configuration.
    #[must_use]
    pub fn below_with(&self, name: &str, urls: &[&str], more: &str) -> Self {
        let mut ca = Self::folder(name);
        ca.run(&[
            "req",
            "-new",
            "-key",
            "ca.key",
            "-subj",
            &format!("/CN={name}"),
            "-out",
            "ca.csr",
            "-config",
            "ca.cnf",
        ]);
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
                          subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";
        ca.write("ca.crt", self.sign(&ca.read("ca.csr"), &format!("{extensions}{more}\n"), urls, &[]));
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
        self.device_with(device, urls, "")
    }

    /// As [`Ca::device`], with more lines of the extensions' section of OpenSSL's configuration.
    #[must_use]
    pub fn device_with(&self, device: &str, urls: &[&str], more: &str) -> Identity {
        let extensions = format!(
            "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\n\
             subjectAltName = URI:{}\nauthorityKeyIdentifier = keyid\n{more}\n",
            spiffe_id(device)
        );
        self.issue(&device.replace('/', "-"), &extensions, urls)
    }

    /// The certificate of whoever else: a common name and the extensions' section of OpenSSL's configuration.
    #[must_use]
    pub fn issue(&self, name: &str, extensions: &str, urls: &[&str]) -> Identity {
        self.issue_with(name, extensions, urls, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], &[])
    }

    /// As [`Ca::issue`], for another kind of key, and with more arguments of `openssl ca`, such as dates.
    #[must_use]
    pub fn issue_with(&self, name: &str, extensions: &str, urls: &[&str], key: &[&str], more: &[&str]) -> Identity {
        self.leaf(&format!("/CN={name}"), extensions, urls, key, more)
    }

    /// The card of a person, with an RSA key as real ones have: subject (`/C=JP/CN=…`), and the extensions' section of
    /// OpenSSL's configuration with sections after it.
    #[must_use]
    pub fn card(&self, subject: &str, extensions: &str) -> Identity {
        self.leaf(subject, extensions, &[], &["rsa:2048"], &[])
    }

    fn leaf(&self, subject: &str, extensions: &str, urls: &[&str], key: &[&str], more: &[&str]) -> Identity {
        let folder = TempDir::with_prefix("leaf-").expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let (key_file, csr_file) = (path("key"), path("csr"));
        let files = ["-nodes", "-keyout", &key_file, "-subj", subject, "-out", &csr_file, "-config", "ca.cnf", "-utf8"];
        self.run(&[&["req", "-new", "-newkey"], key, &files[..]].concat());
        let csr = std::fs::read_to_string(csr_file).expect("a request");
        let certificate = self.sign(&csr, extensions, urls, more);
        let key_pem = std::fs::read_to_string(key_file).expect("a key");
        Identity { certificate_pem: certificate + &self.chain, key_pem }
    }

    fn sign(&self, csr: &str, extensions: &str, urls: &[&str], more: &[&str]) -> String {
        self.write("sign.csr", csr);
        let urls: Vec<_> = urls.iter().map(|url| format!("URI:{url}")).collect();
        let points =
            if urls.is_empty() { String::new() } else { format!("crlDistributionPoints = {}\n", urls.join(",")) };
        self.write("sign.ext", format!("[e]\n{points}{extensions}"));
        let files =
            ["-in", "sign.csr", "-out", "signed.crt", "-extfile", "sign.ext", "-extensions", "e", "-rand_serial"];
        self.run(&[&["ca", "-config", "ca.cnf", "-batch", "-notext"], &files[..], more].concat());
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

    /// A CRL with this many entries, DER, made by hand: OpenSSL would take minutes. The first entry names
    /// `certificate`, the rest nobody.
    ///
    /// # Panics
    /// If there are none or more than 16 million.
    #[must_use]
    pub fn long_crl(&self, entries: u32, certificate: &CertificateDer<'_>) -> Vec<u8> {
        use x509_cert::der::{Decode as _, Encode as _};
        let own = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes()).expect("a certificate");
        let own = x509_cert::Certificate::from_der(&own).expect("a certificate");
        let revoked = x509_cert::Certificate::from_der(certificate).expect("a certificate");
        let ecdsa_sha256 = [0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let at = |text: &[u8]| tlv(0x17, text);
        let entry = |serial: &[u8]| tlv(0x30, &[&tlv(2, serial)[..], &at(b"250101000000Z")].concat());
        let mut list = entry(revoked.tbs_certificate().serial_number().as_bytes());
        for number in 1..entries {
            let serial = [&[0x40; 15][..], &number.to_be_bytes()].concat();
            list.extend(entry(&serial));
        }
        let number = tlv(0x30, &[&tlv(6, &[0x55, 0x1d, 20])[..], &tlv(4, &[2, 2, 0x40, 0])].concat());
        let tbs = [
            &[2, 1, 1][..],
            &ecdsa_sha256,
            &own.tbs_certificate().subject().to_der().expect("DER"),
            &at(b"250101000000Z"),
            &at(b"491231000000Z"),
            &tlv(0x30, &list),
            &tlv(0xa0, &tlv(0x30, &number)),
        ]
        .concat();
        let tbs = tlv(0x30, &tbs);
        let key = PrivateKeyDer::from_pem_slice(self.key_pem().as_bytes()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der()).expect("a P-256 key");
        let signature = pair.sign(&SystemRandom::new(), &tbs).expect("a signature");
        let signature = tlv(3, &[&[0], signature.as_ref()].concat());
        tlv(0x30, &[&tbs[..], &ecdsa_sha256, &signature].concat())
    }

    /// A PEM file's content as DER.
    #[must_use]
    pub fn crl_der(pem: &str) -> Vec<u8> {
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64")
    }

    /// OpenSSL's list of what was issued and revoked.
    #[must_use]
    pub fn index(&self) -> String {
        self.read("index.txt")
    }

    /// A file in the authority's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate with these extensions, lines of OpenSSL's configuration, and its key. It is in the index, and so can
    /// be revoked.
    #[must_use]
    pub fn certify(&self, extensions: &str) -> (String, String) {
        let curve = "ec_paramgen_curve:P-256";
        self.run(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", "certify.key"]);
        let request = ["-key", "certify.key", "-subj", "/CN=Somebody", "-config", "ca.cnf", "-out", "certify.csr"];
        self.run(&[&["req", "-new"], &request[..]].concat());
        (self.sign(&self.read("certify.csr"), extensions, &[], &[]), self.read("certify.key"))
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

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("a short element").to_be_bytes();
    let header = match value.len() {
        0..=0x7f => vec![tag, length[3]],
        0x80..=0xffff => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83 + u8::from(length[0] > 0)],
    };
    let rest =
        if value.len() > 0xffff { length.iter().copied().skip_while(|byte| *byte == 0).collect() } else { vec![] };
    let header = match header[..] {
        // DER has the shortest form.
        [tag, 0x82, 0, low] => vec![tag, 0x81, low],
        _ => header,
    };
    [&header[..], &rest, value].concat()
}
