//! The authority's keys in a PKCS#11 token, with a real one (SoftHSM2): made there and never taken off, used by every
//! command that signs, missed by name when they are away, and found again (R3, R22, R27).

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use gateway_tests::{Clinic, DOCTOR, Output, Prepared, binary, until};
use serde_json::Value;

const PIN: &str = "70218854";
const PASSPHRASE: &str = "correct horse battery staple";

/// Tries to take keys off the token in every way that PKCS#11 has.
const THIEF: &str = r#"
import sys
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

module, pin, *labels = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label="clinic").open(user_pin=pin, rw=True) as session:
    wrapping = session.generate_key(KeyType.AES, 256, template={Attribute.WRAP: True})
    for label in labels:
        key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label)
        outcomes = []
        for attempt in (
            lambda: key[Attribute.VALUE],
            lambda: wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP_PAD),
            lambda: key.__setitem__(Attribute.EXTRACTABLE, True),
            lambda: key.copy({Attribute.EXTRACTABLE: True}),
        ):
            try:
                attempt()
                outcomes.append("taken")
            except pkcs11.exceptions.PKCS11Error as error:
                outcomes.append(type(error).__name__)
        print(label, *outcomes)
"#;

/// The one that tests/run.sh gave its packages.
fn python() -> String {
    if let Ok(python) = std::env::var("PYTHON") {
        return python;
    }
    let test = std::env::current_exe().expect("a test has a file");
    let here = gateway_tests::repository().join("target");
    let mut found = test.ancestors().chain([&*here]).map(|folder| folder.join("venv/bin/python"));
    let found =
        found.find(|python| python.exists()).expect("`venv/bin/python` beside the build: run tests/run.sh once");
    found.display().to_string()
}

/// A token of its own, in a folder.
struct Token {
    folder: PathBuf,
    /// `SOFTHSM2_CONF=…`, for whoever is to see it.
    setting: String,
}

/// Where Debian's packages of any architecture put it.
fn module() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let known = "/usr/lib/softhsm/libsofthsm2.so";
        assert!(Path::new(known).is_file(), "no `{known}`; tests/run.sh installs softhsm2");
        known.to_owned()
    })
}

fn run(program: &str, setting: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env_remove("SEKISHO_TOKEN_PIN");
    if let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) {
        command.env(name, value);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}; tests/run.sh installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn good(program: &str, setting: Option<&str>, arguments: &[&str]) -> String {
    let output = run(program, setting, arguments);
    assert_eq!(output.code, Some(0), "{program} {arguments:?}: {}{}", output.stderr, output.stdout);
    output.stdout
}

impl Token {
    fn new(folder: &Path) -> Self {
        let tokens = folder.join("tokens");
        fs::create_dir_all(&tokens).expect("a folder");
        let conf = folder.join("softhsm2.conf");
        let text =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        fs::write(&conf, text).expect("a file");
        let setting = format!("SOFTHSM2_CONF={}", conf.display());
        let token = Self { folder: folder.to_owned(), setting };
        let init = ["--init-token", "--free", "--label", "clinic", "--so-pin", "12345678", "--pin", PIN];
        good("softhsm2-util", Some(&token.setting), &init);
        token.private("pin", PIN);
        token.private("passphrase", PASSPHRASE);
        token
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn private(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::write(&path, format!("{text}\n")).expect("a file");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode");
    }

    fn uri(&self, object: &str) -> String {
        format!("pkcs11:token=clinic;object={object}?module-path={}&pin-source=file:{}", module(), self.path("pin"))
    }

    /// `sekisho`, which sees the token; whatever it says, it never says the PIN.
    fn sekisho(&self, arguments: &[&str]) -> Output {
        let binary = binary();
        let output = run(binary.to_str().expect("UTF-8"), Some(&self.setting), arguments);
        assert!(!output.stdout.contains(PIN) && !output.stderr.contains(PIN), "{output:?}");
        output
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.sekisho(arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// What a command says that does not do what it was asked.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.sekisho(arguments);
        assert_eq!(output.code, Some(1), "{arguments:?}: {}", output.stdout);
        output.stderr
    }

    fn init(&self, ca: &str, more: &[&str]) -> Vec<String> {
        let arguments = [
            "ca",
            "init",
            "--dir",
            &self.path(ca),
            "--domain",
            "sekisho.example",
            "--passphrase-file",
            &self.path("passphrase"),
        ];
        arguments.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    fn make(&self, ca: &str, more: &[&str]) {
        let arguments = self.init(ca, more);
        self.good(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn make_refused(&self, ca: &str, more: &[&str]) -> String {
        let arguments = self.init(ca, more);
        let said = self.refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!Path::new(&self.path(ca)).exists(), "nothing is left of what failed");
        said
    }

    fn keys(&self) -> String {
        let login = ["--module", module(), "--token-label", "clinic", "--login", "--pin", PIN];
        good("pkcs11-tool", Some(&self.setting), &[&login[..], &["-O", "--type", "privkey"]].concat())
    }

    /// Takes the token away, or brings it back.
    fn take_away(&self) {
        fs::rename(self.folder.join("tokens"), self.folder.join("away")).expect("moved");
        fs::create_dir(self.folder.join("tokens")).expect("a folder");
    }

    fn bring_back(&self) {
        fs::remove_dir_all(self.folder.join("tokens")).expect("removed");
        fs::rename(self.folder.join("away"), self.folder.join("tokens")).expect("moved");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn keys_are_made_on_the_token_and_never_leave_it() {
    let folder = folder();
    let token = Token::new(folder.path());
    token.make("ca", &["--key", &token.uri("issuing")]);
    assert!(!Path::new(&token.path("ca/issuing.key")).exists());
    let settings = fs::read_to_string(token.path("ca/ca.toml")).expect("a file");
    assert!(settings.contains("issuing_key = \"pkcs11:") && !settings.contains(PIN), "{settings}");
    let keys = token.keys();
    assert!(keys.contains("label:      issuing") && keys.matches("Private Key Object").count() == 1, "{keys}");
    assert!(keys.contains("sensitive, always sensitive, never extractable, local"), "{keys}");
    // Not by asking for it, either; of a key that may leave, the same attempts get hold.
    let loose = ["--module", module(), "--token-label", "clinic", "--login", "--pin", PIN, "--keypairgen"];
    let kind = ["--key-type", "EC:prime256v1", "--label", "loose", "--extractable"];
    good("pkcs11-tool", Some(&token.setting), &[&loose[..], &kind].concat());
    let script = token.path("thief.py");
    fs::write(&script, THIEF).expect("a file");
    let stolen = good(&python(), Some(&token.setting), &[&script, module(), PIN, "issuing", "loose"]);
    let refused = "issuing AttributeSensitive KeyUnextractable AttributeReadOnly AttributeReadOnly";
    assert_eq!(stolen.trim(), format!("{refused}\nloose AttributeSensitive taken taken taken"));

    let verify = |ca: &str| {
        good(
            "openssl",
            None,
            &["verify", "-CAfile", &token.path(&format!("{ca}/root.crt")), &token.path(&format!("{ca}/issuing.crt"))],
        );
        for (list, by) in [("issuing", "issuing"), ("root", "root")] {
            let (list, by) = (token.path(&format!("{ca}/crl/{list}.crl")), token.path(&format!("{ca}/{by}.crt")));
            let said = run("openssl", None, &["crl", "-inform", "DER", "-in", &list, "-noout", "-CAfile", &by]);
            assert!(said.stderr.contains("verify OK"), "{said:?}");
        }
    };
    verify("ca");

    // The root on the token, too, on the other curve; a key that is there is taken only if that is said.
    token.make("both", &["--key", &token.uri("i2"), "--root-key", &token.uri("r2"), "--curve", "p384"]);
    assert!(!Path::new(&token.path("both/root.key")).exists());
    verify("both");
    let said = token.make_refused("again", &["--key", &token.uri("i2")]);
    assert!(said.contains("token `clinic` has a key `i2`") && said.contains("--existing-key"), "{said}");
    token.make("existing", &["--key", &token.uri("i2"), "--existing-key"]);
    verify("existing");

    // What the root signs later: its list, and the issuing CA for another while, with the same key.
    let key_of = |ca: &str| {
        good("openssl", None, &["x509", "-in", &token.path(&format!("{ca}/issuing.crt")), "-noout", "-pubkey"])
    };
    for (ca, more) in [("both", vec![]), ("ca", vec!["--passphrase-file".to_owned(), token.path("passphrase")])] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let before = (key_of(ca), fs::read(token.path(&format!("{ca}/issuing.crt"))).expect("a file"));
        token.good(&[&["ca", "crl", "--root", "--dir", &token.path(ca)], &more[..]].concat());
        token.good(&[&["ca", "renew", "--dir", &token.path(ca), "--years", "7"], &more[..]].concat());
        verify(ca);
        assert_eq!(key_of(ca), before.0);
        assert_ne!(fs::read(token.path(&format!("{ca}/issuing.crt"))).expect("a file"), before.1);
    }
}

#[test]
fn whatever_is_missing_is_named_and_no_pin_is_told() {
    let folder = folder();
    let token = Token::new(folder.path());
    let module = module();
    let said = token
        .make_refused("ca", &["--key", &format!("pkcs11:token=clinic;object=k?module-path={module}&pin-value={PIN}")]);
    assert!(said.contains("`pin-value` is not taken"), "{said}");
    let nothing = format!("pkcs11:token=clinic;object=k?module-path={module}");
    let said = token.make_refused("ca", &["--key", &nothing]);
    assert!(said.contains("no terminal to ask"), "{said}");
    let said = token.make_refused("ca", &["--key", &token.uri("k").replace("libsofthsm2", "libnothing")]);
    assert!(said.contains("PKCS#11 module `/usr/lib/softhsm/libnothing.so`: No such file"), "{said}");
    fs::write(token.path("text.so"), "no module").expect("a file");
    let other = token.uri("k").replace(module, &token.path("text.so"));
    let said = token.make_refused("ca", &["--key", &other]);
    assert!(said.contains("text.so`:"), "{said}");
    fs::set_permissions(token.path("text.so"), Permissions::from_mode(0o666)).expect("its mode");
    let said = token.make_refused("ca", &["--key", &other]);
    assert!(said.contains("others than its owner may write it"), "{said}");
    fs::set_permissions(token.path("text.so"), Permissions::from_mode(0o755)).expect("its mode");
    // Who is not root cannot give a file away, and then nobody can.
    if std::os::unix::fs::chown(token.path("text.so"), Some(65_534), None).is_ok() {
        let said = token.make_refused("ca", &["--key", &other]);
        assert!(said.contains("it belongs to neither root nor"), "{said}");
    }
    let said = token.make_refused("ca", &["--key", &token.uri("k").replace("token=clinic", "token=elsewhere")]);
    assert!(said.contains("has no token `elsewhere`"), "{said}");
    let said = token.make_refused("ca", &["--key", &token.uri("k"), "--existing-key"]);
    assert!(said.contains("token `clinic` has no private key `k`"), "{said}");
    fs::set_permissions(token.path("pin"), Permissions::from_mode(0o644)).expect("its mode");
    let said = token.make_refused("ca", &["--key", &token.uri("k")]);
    assert!(said.contains("token `clinic`: no PIN:") && said.contains("chmod 600"), "{said}");
    token.private("pin", "11111111");
    let said = token.make_refused("ca", &["--key", &token.uri("k")]);
    assert!(said.contains("token `clinic`: the PIN is wrong") && !said.contains("11111111"), "{said}");
    token.private("pin", PIN);

    // A key that can be copied is no better than a file.
    good(
        "openssl",
        None,
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &token.path("soft.key")],
    );
    let import =
        ["--import", &token.path("soft.key"), "--token", "clinic", "--label", "soft", "--id", "aa", "--pin", PIN];
    good("softhsm2-util", Some(&token.setting), &import);
    let copy = [
        "--module",
        module,
        "--token-label",
        "clinic",
        "--login",
        "--pin",
        PIN,
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
    ];
    good("pkcs11-tool", Some(&token.setting), &[&copy[..], &["--label", "loose", "--extractable"]].concat());
    let said = token.make_refused("ca", &["--key", &token.uri("loose"), "--existing-key"]);
    assert!(said.contains("key `loose`: it can be taken off the token"), "{said}");

    // Made for nothing, it is taken back: the CA's folder cannot be.
    let said = token.make_refused("pin/ca", &["--key", &token.uri("fresh")]);
    assert!(said.contains("pin/ca"), "{said}");
    assert!(!token.keys().contains("fresh"), "{}", token.keys());

    // Another key under the name of the authority's: nothing is signed with it.
    token.make("ca", &["--key", &token.uri("mine")]);
    let settings = fs::read_to_string(token.path("ca/ca.toml")).expect("a file");
    token.make("other", &["--key", &token.uri("yours")]);
    fs::write(token.path("ca/ca.toml"), settings.replace("object=mine", "object=yours")).expect("a file");
    let list = fs::read(token.path("ca/crl/issuing.crl")).expect("a file");
    let store = token.path("store.db");
    let said = token.refused(&["ca", "crl", "--dir", &token.path("ca"), "--store", &empty_store(&token, &store)]);
    assert!(said.contains("the token's key is not the one in the authority's certificate"), "{said}");
    assert_eq!(fs::read(token.path("ca/crl/issuing.crl")).expect("a file"), list);
}

/// A store that a command made.
fn empty_store(token: &Token, store: &str) -> String {
    token.good(&["role", "add", "doctor", "--store", store]);
    store.to_owned()
}

/// A clinic whose issuing CA's key is on a token.
struct Own {
    clinic: Clinic,
    token: Token,
    est: SocketAddr,
}

impl Own {
    fn start() -> Self {
        let mut prepared: Prepared = Clinic::builder().prepare();
        let token = Token::new(&prepared.path("hsm"));
        let ca = prepared.path("ca");
        token.make("ca", &["--key", &token.uri("issuing")]);
        fs::rename(token.folder.join("ca"), &ca).expect("moved");
        let est = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        prepared.reconfigure(|config| config.enrol_at(est));
        prepared.run_under(&["env", &token.setting]);
        Self { clinic: prepared.start(), token, est }
    }

    fn path(&self, name: &str) -> String {
        self.clinic.prepared.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// A command on the registry that sees the token.
    fn device(&self, arguments: &[&str]) -> Output {
        let (ca, store) = (self.path("ca"), self.path("state/sekisho.db"));
        self.token.sekisho(&[&["device"], arguments, &["--ca", &ca, "--store", &store]].concat())
    }

    fn curl(&self, more: &[&str], operation: &str) -> (u16, Vec<u8>) {
        let url = format!("https://localhost:{}/{operation}", self.est.port());
        let to = format!("localhost:{}:127.0.0.1", self.est.port());
        let file = self.path("answer");
        let ca = self.path("tls/servers-ca.crt");
        let arguments = ["-sS", "--cacert", &ca, "--resolve", &to, "-o", &file, "-w", "%{http_code}", &url];
        let status = good("curl", None, &[&arguments[..], more].concat());
        (status.trim().parse().expect("a status"), fs::read(&file).expect("an answer"))
    }

    /// Enrols with a new code: the status, and the certificate's file.
    fn enrol(&self, name: &str) -> (u16, String) {
        let answer = self.clinic.prepared.try_registry(&["device", "code", DOCTOR, "--json"]);
        let answer: Value = serde_json::from_str(&answer.stdout).expect("JSON");
        let user = format!("{DOCTOR}:{}", answer["code"].as_str().expect("a code"));
        let (key, csr, body) = (self.path(&format!("{name}.key")), self.path("csr"), self.path("b64"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"];
        good("openssl", None, &[&["req", "-outform", "DER", "-keyout", &key, "-out", &csr], &curve[..]].concat());
        good("openssl", None, &["base64", "-in", &csr, "-out", &body]);
        let data = format!("@{body}");
        let more = ["-u", &user, "-H", "Content-Type: application/pkcs10", "--data-binary", &data];
        let (status, answer) = self.curl(&more, ".well-known/est/simpleenroll");
        let (p7, pem) = (self.path("p7.b64"), self.path(&format!("{name}.crt")));
        if status == 200 {
            fs::write(&p7, answer).expect("a file");
            let der = self.path("p7.der");
            good("openssl", None, &["base64", "-d", "-A", "-in", &p7, "-out", &der]);
            good("openssl", None, &["pkcs7", "-inform", "DER", "-print_certs", "-in", &der, "-out", &pem]);
        }
        (status, pem)
    }

    fn verify(&self, certificate: &str) {
        let (root, issuing) = (self.path("ca/root.crt"), self.path("ca/issuing.crt"));
        let arguments = ["verify", "-purpose", "sslclient", "-CAfile", &root, "-untrusted", &issuing, certificate];
        good("openssl", None, &arguments);
    }

    fn warns(&self) -> bool {
        self.clinic.admin_get("/readyz?verbose").1.contains("[!] ca-token:")
    }

    fn available(&self) -> bool {
        self.clinic.metric("sekisho_ca_token_available", &[]) > 0.5
    }
}

#[test]
fn devices_enrol_and_are_revoked_with_a_key_on_a_token() {
    let own = Own::start();
    until("the token", || own.available().then_some(()));
    let (status, certificate) = own.enrol("exam-1");
    assert_eq!(status, 200, "{}", own.clinic.gateway.said());
    own.verify(&certificate);
    let pem = own.path("pem");
    let enrolled = own.device(&["enrol", DOCTOR, "--pem", &pem]);
    assert_eq!(enrolled.code, Some(0), "{}", enrolled.stderr);
    own.verify(&format!("{pem}/{}.crt", DOCTOR.split('/').next_back().expect("a device")));

    let revoked = own.device(&["revoke", DOCTOR, "--reason", "keyCompromise"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let (status, list) = own.curl(&[], "crl/issuing.crl");
    assert_eq!(status, 200);
    let file = own.path("served.crl");
    fs::write(&file, list).expect("a file");
    let arguments = ["crl", "-inform", "DER", "-in", &file, "-noout", "-text", "-CAfile", &own.path("ca/issuing.crt")];
    let shown = run("openssl", None, &arguments);
    assert!(shown.stderr.contains("verify OK") && shown.stdout.matches("Key Compromise").count() == 2, "{shown:?}");
    let crl = own.path("ca/crl.pem");
    good("openssl", None, &["crl", "-inform", "DER", "-in", &file, "-out", &crl]);
    let (root, issuing) = (own.path("ca/root.crt"), own.path("ca/issuing.crt"));
    let arguments = ["verify", "-crl_check", "-CRLfile", &crl, "-CAfile", &root, "-untrusted", &issuing, &certificate];
    let judged = run("openssl", None, &arguments);
    assert!(judged.code != Some(0) && judged.stderr.contains("certificate revoked"), "{judged:?}");
}

#[test]
fn a_token_that_goes_away_is_named_and_found_again() {
    let own = Own::start();
    until("the token", || own.available().then_some(()));
    assert_eq!(own.enrol("first").0, 200);
    own.token.take_away();
    until("the warning", || (own.warns() && !own.available()).then_some(()));
    assert_eq!(own.enrol("second").0, 503);
    assert!(own.clinic.gateway.said().contains("has no token `clinic`"), "{}", own.clinic.gateway.said());
    // Nothing else minds.
    assert_eq!(own.curl(&[], ".well-known/est/cacerts").0, 200);
    assert_eq!(own.curl(&[], "crl/issuing.crl").0, 200);
    assert_eq!(own.clinic.admin_get("/readyz").0, 200);
    own.token.bring_back();
    until("the token", || own.available().then_some(()));
    assert!(!own.warns());
    let (status, certificate) = own.enrol("third");
    assert_eq!(status, 200, "{}", own.clinic.gateway.said());
    own.verify(&certificate);

    // A wrong PIN is tried once: a token counts, and locks.
    own.token.private("pin", "00000000");
    own.token.take_away();
    until("the warning", || own.warns().then_some(()));
    own.token.bring_back();
    until("the refusal", || own.clinic.admin_get("/readyz?verbose").1.contains("the PIN is wrong").then_some(()));
    assert_eq!(own.enrol("fourth").0, 503);
    own.token.private("pin", PIN);
    until("the token", || own.available().then_some(()));
    let said = own.clinic.gateway.said();
    assert!(!said.contains(PIN) && !said.contains("00000000"), "{said}");
}

#[test]
fn a_gateway_starts_without_its_token_and_says_so() {
    let own = Own::start();
    until("the token", || own.available().then_some(()));
    own.token.take_away();
    // What systemd runs before each start.
    let checked = own.token.sekisho(&["check", &own.path("sekisho.toml")]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let Own { clinic, token, est } = own;
    let clinic = clinic.stop().start();
    let own = Own { clinic, token, est };
    until("the warning", || (own.warns() && !own.available()).then_some(()));
    assert_eq!(own.curl(&[], ".well-known/est/cacerts").0, 200);
    own.token.bring_back();
    until("the token", || own.available().then_some(()));
    assert_eq!(own.enrol("late").0, 200);
}
