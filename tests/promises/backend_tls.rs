//! A backend over TLS is the one that the operator named, or gets nothing: judged by the same path validation as devices,
//! so that what HPKI's authorities certify is taken, and told by name where it is not (R12, R15).

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use gateway_tests::openssl::Ca;
use gateway_tests::{Clinic, DOCTOR, Identity, Prepared, own_address, until};

/// As a certificate of an organisation has it: policies that a validator must know.
const CRITICAL: &str = "certificatePolicies = critical, 1.2.392.100495.1.5.1.2.3.1\n";

/// A backend that openssl serves. Ended by its process id when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(prepared: &Prepared, name: &str, address: SocketAddr, identity: &Identity) -> Self {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        prepared.write(&certificate, &identity.certificate_pem);
        prepared.write(&key, &identity.key_pem);
        let child = Command::new("openssl")
            .args(["s_server", "-accept", &address.to_string(), "-www", "-quiet", "-cipher", "DEFAULT@SECLEVEL=0"])
            .arg("-cert")
            .arg(prepared.path(&certificate))
            .arg("-key")
            .arg(prepared.path(&key))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let server = Self { child, address };
        until("openssl's server", || std::net::TcpStream::connect(address).ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(ca: &Ca, names: &str, usage: &str, more: &str) -> Identity {
    ca.issue("backend", &extensions(names, usage, more), &[])
}

fn extensions(names: &str, usage: &str, more: &str) -> String {
    format!(
        "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = {usage}\n\
         subjectAltName = {names}\nauthorityKeyIdentifier = keyid\n{more}"
    )
}

/// A service and a route to it.
fn service(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nbackends = [\"https://{address}\"]\n\
         tls = {{ ca_file = \"tls/backends-ca.crt\"{more} }}\n\
         [[route]]\nname = \"{name}\"\npath = \"/{name}\"\nservice = \"{name}\"\nclass = \"clinical\"\nkind = \"generic\"\n\
         rules = [ {{ methods = [\"GET\"], path = \"/**\", action = \"read\", effect = \"read-only\" }} ]\n"
    )
}

#[test]
fn a_backend_is_who_the_operator_named_or_gets_nothing() {
    let mut prepared = Clinic::builder().prepare();
    let (ca, stranger) = (Ca::root("Backends"), Ca::root("Somebody else"));
    prepared.write("tls/backends-ca.crt", ca.certificate_pem());
    // All on the process's one address, which their certificates name.
    let ip = format!("IP:{}", own_address().ip());
    let good = server(&ca, &ip, "serverAuth", CRITICAL);
    let other = server(&ca, "DNS:other.internal", "serverAuth", "");
    let client = server(&ca, &ip, "clientAuth", "");
    let foreign = server(&stranger, &ip, "serverAuth", "");
    let revoked = server(&ca, &ip, "serverAuth", "");
    ca.revoke(&revoked.certificate_pem, "keyCompromise");
    prepared.write("backends.crl", ca.crl());
    let plain = extensions(&ip, "serverAuth", "");
    let weak = ca.issue_with("backend", &plain, &[], &["rsa:1024"], &[]);
    let past = ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"];
    let expired = ca.issue_with("backend", &plain, &[], &["rsa:2048"], &past);
    let lists = ", crl_files = [\"backends.crl\"]";
    let named = ", server_name = \"other.internal\"";
    let cases = [
        ("good", &good, lists, ""),
        ("named", &other, named, ""),
        ("name", &other, "", "it names `other.internal`"),
        ("purpose", &client, "", "certificate-purpose"),
        ("foreign", &foreign, "", "certificate-untrusted"),
        ("weak", &weak, "", "certificate-weak"),
        ("expired", &expired, "", "expired after 2021-01-01"),
        ("revoked", &revoked, lists, "keyCompromise"),
    ];
    let servers: Vec<_> =
        cases.iter().map(|(name, identity, ..)| Server::start(&prepared, name, own_address(), identity)).collect();
    prepared.reconfigure(|config| {
        for ((name, _, more, _), server) in cases.iter().zip(&servers) {
            config.append(&service(name, server.address, more));
        }
    });
    let clinic = prepared.start();
    let mut wire = clinic.wire(DOCTOR);
    for ((name, _, _, says), server) in cases.iter().zip(&servers) {
        let answer = wire.get(&format!("/{name}/x"));
        if says.is_empty() {
            assert_eq!(answer.status, 200, "{name}: {}", clinic.gateway.said());
            continue;
        }
        assert_eq!(answer.status, 503, "{name}: {}", clinic.gateway.said());
        // The diagnostics name the backend and the reason, in one line.
        let address = server.address.to_string();
        until(name, || {
            let said = clinic.gateway.said();
            said.lines().any(|line| line.contains(&address) && line.contains(says)).then_some(())
        });
    }
}

#[test]
fn the_gateways_own_certificate_may_have_critical_policies() {
    let prepared = Clinic::builder().prepare();
    let ca = Ca::root("Servers of an organisation");
    let own = server(&ca, "DNS:localhost,IP:127.0.0.1", "serverAuth", CRITICAL);
    prepared.write("tls/server.crt", &own.certificate_pem);
    prepared.write("tls/server.key", &own.key_pem);
    prepared.write("servers-ca.crt", ca.certificate_pem());
    let clinic = prepared.start();
    let to = clinic.door.address.to_string();
    let file = clinic.prepared.path("servers-ca.crt");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &to, "-servername", "localhost", "-brief", "-CAfile"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Verification: OK") && said.contains("CN = backend"), "{said}");
}
