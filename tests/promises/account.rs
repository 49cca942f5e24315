//! What the tests of the gateway's own accounts share: a clinic with a login page, `curl` as a browser, `oathtool` as the
//! authenticator.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_tests::{Builder, Clinic, DOCTOR, Output, sekisho_asking};

/// A user of the doctor's clinic who has an account.
pub const TANAKA: &str = "sakura-clinic/tanaka";
/// A second terminal of the same clinic.
pub const WARD: &str = "sakura-clinic/ward-1";
/// A password that every profile takes.
pub const GOOD: &str = "Kumo-9 to hashi, 2 tabi";
/// Another one.
pub const OTHER: &str = "Yuki-7 no ato ni 3 asa";

/// A clinic whose listener has a login page, and whose hashes are cheap.
pub fn clinic() -> Builder {
    Clinic::builder().device(WARD, "dr-ito", "doctor").config(|config| {
        config.set_listener("login_page", true);
        for (key, value) in [("memory_kib", 64), ("passes", 1), ("lanes", 1)] {
            config.set("account", key, value);
        }
        for (key, value) in [("pause_s", 0), ("device_attempts_per_minute", 1_000_000)] {
            config.set("login", key, value);
        }
        for key in ["site_attempts_per_minute", "address_attempts_per_minute"] {
            config.set("login", key, 1_000_000);
        }
    })
}

/// Starts it, with a user who has no account yet.
pub fn start(builder: Builder) -> Clinic {
    let prepared = builder.prepare();
    // Before the start, so that the gateway knows the user from its first moment.
    prepared.registry(&["user", "add", TANAKA, "--role", "doctor"]);
    prepared.start()
}

/// The same, and the user has an account with the password [`GOOD`].
pub fn with_account(builder: Builder) -> Clinic {
    let clinic = start(builder);
    let first = first_password(&clinic, TANAKA);
    let browser = Browser::new(&clinic, DOCTOR);
    browser.change_first("tanaka", &first, GOOD);
    browser.log_out();
    clinic
}

/// A command that asks for a line, which is `answer` of what it has printed first.
pub fn ask(clinic: &Clinic, arguments: &[&str], answer: impl FnOnce(&str) -> String) -> Output {
    let config = clinic.prepared.path("sekisho.toml");
    let config = config.to_str().expect("UTF-8");
    let mut child = sekisho_asking(&[arguments, &["--config", config]].concat());
    let mut input = child.stdin.take().expect("a pipe");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut stdout = String::new();
    if arguments.contains(&"totp") && !arguments.contains(&"--remove") {
        said.read_line(&mut stdout).expect("a line");
    }
    // A command that has ended already reads nothing.
    let _ = writeln!(input, "{}", answer(&stdout));
    drop(input);
    said.read_to_string(&mut stdout).expect("text");
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    Output { code: child.wait().expect("it ends").code(), stdout, stderr }
}

/// Has a first password made.
pub fn first_password(clinic: &Clinic, user: &str) -> String {
    let output = ask(clinic, &["user", "passwd", user, "--generate", "--json"], |_| String::new());
    assert_eq!(output.code, Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    json["password"].as_str().expect("a password").to_owned()
}

/// An authenticator, as `oathtool` is one.
pub struct Authenticator {
    secret: String,
    mode: &'static str,
}

impl Authenticator {
    /// Of a URI.
    pub fn of(uri: &str) -> Self {
        let field = |name: &str| {
            let rest = uri.split_once(&format!("{name}=")).expect("a field").1;
            rest.split(['&', '\n']).next().expect("a value").to_owned()
        };
        let mode = if field("algorithm") == "SHA256" { "--totp=SHA256" } else { "--totp=SHA1" };
        Self { secret: field("secret"), mode }
    }

    /// Gives a user one.
    pub fn give(clinic: &Clinic, more: &[&str]) -> Self {
        let mut authenticator = None;
        let output = ask(clinic, &[&["user", "totp", TANAKA], more].concat(), |uri| {
            let own = Self::of(uri);
            let code = own.code(0);
            authenticator = Some(own);
            code
        });
        assert_eq!(output.code, Some(0), "{output:?}");
        authenticator.expect("it was asked")
    }

    /// What `oathtool` is told: its mode, and the secret.
    pub fn parts(&self) -> (&str, &str) {
        (self.mode, &self.secret)
    }

    /// The code so many seconds from now.
    pub fn code(&self, seconds: i64) -> String {
        let now = format!("--now=@{}", i64::try_from(now_s()).expect("a time") + seconds);
        let output = Command::new("oathtool").args([self.mode, "-b", &now, &self.secret]).output().expect("oathtool");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("digits").trim().to_owned()
    }
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Page {
    /// The first value of a field; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next().unwrap_or("")
    }

    /// What a cookie is set to.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let set = self
            .head
            .lines()
            .filter_map(|line| line.strip_prefix("Set-Cookie: ").or(line.strip_prefix("set-cookie: ")));
        let value = set.filter_map(|cookie| cookie.strip_prefix(&format!("{name}="))).next_back()?;
        value.split(';').next().map(str::to_owned)
    }

    /// What the form of the page carries.
    pub fn token(&self) -> String {
        let after = self.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("a form: {self:?}")).1;
        after.split('"').next().expect("a value").to_owned()
    }

    /// What the reader must know.
    pub fn alert(&self) -> &str {
        let after = self.body.split_once("role=\"alert\">").map_or("", |(_, after)| after);
        after.split("</p>").next().unwrap_or_default()
    }
}

/// `curl` as the browser of a device.
pub struct Browser<'c> {
    clinic: &'c Clinic,
    /// Its certificate, its key and its jar of cookies.
    pub files: [String; 3],
    keeps: bool,
}

impl<'c> Browser<'c> {
    /// A fresh one.
    pub fn new(clinic: &'c Clinic, device: &str) -> Self {
        let identity = clinic.identity(device);
        let name = device.replace('/', "-");
        let file = |end: &str| format!("browser-{name}.{end}");
        clinic.prepared.write(&file("crt"), &identity.certificate_pem);
        clinic.prepared.write(&file("key"), &identity.key_pem);
        clinic.prepared.write(&file("jar"), "");
        let path = |end: &str| clinic.prepared.path(&file(end)).to_str().expect("UTF-8").to_owned();
        Self { clinic, files: [path("crt"), path("key"), path("jar")], keeps: true }
    }

    /// What it keeps.
    pub fn jar(&self) -> String {
        std::fs::read_to_string(&self.files[2]).expect("a jar")
    }

    /// One that keeps what another did.
    pub fn with_jar(clinic: &'c Clinic, device: &str, jar: &str) -> Self {
        let browser = Self::new(clinic, device);
        std::fs::write(&browser.files[2], jar).expect("a jar");
        browser
    }

    /// One that sends the cookies that it is told to, and keeps none.
    pub fn forgetful(clinic: &'c Clinic, device: &str) -> Self {
        Self { keeps: false, ..Self::new(clinic, device) }
    }

    /// Where it is.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.clinic.door.address.port())
    }

    /// `curl` with these options more.
    pub fn ask(&self, target: &str, more: &[&str]) -> Page {
        let [certificate, key, jar] = &self.files;
        let ca = self.clinic.prepared.path("tls/servers-ca.crt");
        let port = self.clinic.door.address.port();
        let output = Command::new("curl")
            .args(["-sS", "-i", "--http1.1", "--path-as-is", "--max-time", "100", "-H", "Accept-Language: en"])
            .args(["--cacert", ca.to_str().expect("UTF-8"), "--cert", certificate, "--key", key])
            .args(["--connect-to", &format!("localhost::127.0.0.1:{port}")])
            .args(["-b", jar, "-c", jar].iter().filter(|_| self.keeps))
            .args(more)
            .arg(format!("{}{target}", self.origin()))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("curl {target}: {output:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Page { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A page.
    pub fn get(&self, target: &str) -> Page {
        self.ask(target, &[])
    }

    /// A form, as the browser sends it with the token that the page carries.
    pub fn post(&self, page: &Page, target: &str, fields: &[(&str, &str)]) -> Page {
        let token = page.token();
        self.post_raw(target, &[&[("csrf", &*token)], fields].concat(), &[])
    }

    /// A form with exactly these fields.
    pub fn post_raw(&self, target: &str, fields: &[(&str, &str)], more: &[&str]) -> Page {
        let origin = format!("Origin: {}", self.origin());
        let mut options = vec!["-H".to_owned(), origin];
        for (name, value) in fields {
            options.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.ask(target, &options)
    }

    /// Account and password.
    pub fn login(&self, account: &str, password: &str) -> Page {
        let page = self.get("/.sekisho/login");
        let page = if page.body.contains("name=\"account\"") { page } else { self.get("/.sekisho/login?return=/") };
        self.post(&page, "/.sekisho/login", &[("account", account), ("password", password)])
    }

    /// The second step.
    pub fn code(&self, code: &str) -> Page {
        let page = self.get("/.sekisho/login/factor");
        self.post(&page, "/.sekisho/login/factor", &[("code", code)])
    }

    /// A first login.
    pub fn change_first(&self, account: &str, first: &str, new: &str) {
        let page = self.login(account, first);
        assert_eq!((page.status, page.field("location")), (303, "/.sekisho/login/password"), "{page:?}");
        let page = self.new_password(new, new);
        assert_eq!(page.status, 303, "{page:?}");
    }

    /// A new password within a login.
    pub fn new_password(&self, new: &str, repeat: &str) -> Page {
        let page = self.get("/.sekisho/login/password");
        self.post(&page, "/.sekisho/login/password", &[("new", new), ("repeat", repeat)])
    }

    /// Ends the session.
    pub fn log_out(&self) -> Page {
        let page = self.get("/.sekisho/login");
        self.post(&page, "/.sekisho/logout", &[])
    }

    /// Whether a session is there.
    pub fn is_in(&self) -> bool {
        self.get("/.sekisho/login").body.contains("/.sekisho/logout")
    }
}
