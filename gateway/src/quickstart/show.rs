//! What `sekisho quickstart` prints: where things lie, and commands that are ready to paste.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::Path;

use super::layout::Layout;
use super::login::{LOGINS, LoginScene, Told};
use super::scene::{Expected, SCENES, Scene};
use super::tunnel;

/// The text for a person who has just started it.
pub(super) struct Welcome<'a> {
    pub(super) layout: &'a Layout,
    /// How this program was called.
    pub(super) program: &'a Path,
}

impl Display for Welcome<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { layout, program } = self;
        let addresses = layout.addresses();
        let (verb, dir) = (if layout.is_new() { "made" } else { "found" }, Word(layout.dir()));
        writeln!(f, "Sekisho stands before a demonstration FHIR server. All patients are synthetic.\n")?;
        writeln!(f, "  folder    {dir} ({verb})")?;
        writeln!(f, "  gateway   {}", base(addresses.listen, "https"))?;
        writeln!(f, "  metrics   {}/metrics", base(addresses.admin, "http"))?;
        writeln!(f, "  health    {}/readyz?verbose", base(addresses.admin, "http"))?;
        writeln!(f, "  audit     {}", Word(&layout.audit()))?;
        writeln!(f, "  policies  {}", Word(&layout.dir().join("policy")))?;
        writeln!(f, "\nclock.on_alarm=\"mark\": requests pass, and records say whether anybody keeps the clock.")?;
        writeln!(f, "In service it is \"refuse\".")?;
        writeln!(f, "\nPaste these into another terminal:\n")?;
        for scene in SCENES.iter().filter(|scene| scene.printed) {
            writeln!(f, "# {} {}", scene.story, Outcome(scene.expected))?;
            writeln!(f, "{}\n", Command { layout, scene })?;
        }
        for (at, scene) in LOGINS.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| LOGINS.get(at));
            if before.is_none_or(|before| before.story != scene.story) {
                writeln!(f, "# {} {}", scene.story, LoginOutcome(scene.expected))?;
            }
            writeln!(f, "{}\n", LoginCommand { layout, scene })?;
        }
        writeln!(f, "{} session list --config {}\n", Word(program), Word(&layout.configuration()))?;
        if addresses.tunnels.is_some() {
            writeln!(
                f,
                "# The doctor again, at a tablet without a certificate, through WireGuard and TLS inside it. → 200"
            )?;
            let file = tunnel::file(layout.dir());
            // `wg-quick` takes a name without a folder for one of the system's.
            writeln!(f, "sudo wg-quick up {}", Word(&file.canonicalize().unwrap_or(file)))?;
            writeln!(
                f,
                "curl -sSi --cacert {} \\\n  'https://{}{}'",
                Word(&layout.ca_certificate()),
                tunnel::INSIDE,
                tunnel::TARGET
            )?;
            writeln!(f, "{} tunnel list --config {}\n", Word(program), Word(&layout.configuration()))?;
        }
        writeln!(f, "# Suspend the doctor's terminal, and its connections end within a second; then resume it.")?;
        for verb in ["suspend", "resume"] {
            let (program, file) = (Word(program), layout.configuration());
            writeln!(f, "{program} device {verb} sakura-clinic/doctor-terminal --config {}", Word(&file))?;
        }
        writeln!(f, "\n# Every one of them, the refused included, is in the audit log and counted:")?;
        writeln!(f, "{} audit show --dir {} --last 5", Word(program), Word(&layout.audit()))?;
        writeln!(f, "curl -s {}/metrics | grep ^sekisho_\n", base(addresses.admin, "http"))?;
        write!(f, "Ctrl-C stops it; the next start goes on with this folder.")
    }
}

/// The `curl` command of a scene.
pub(super) struct Command<'a> {
    pub(super) layout: &'a Layout,
    pub(super) scene: &'a Scene,
}

impl Display for Command<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { layout, scene } = self;
        write!(f, "curl -sSi --cacert {}", Word(&layout.ca_certificate()))?;
        if let Some((site, device)) = scene.client {
            let files = layout.client(site, device);
            write!(f, " \\\n  --cert {}", Word(&files.certificate))?;
            write!(f, " \\\n  --key {}", Word(&files.key))?;
        }
        if scene.method != "GET" {
            write!(f, " -X {}", scene.method)?;
        }
        if let Some(body) = scene.body {
            write!(f, " \\\n  -H 'Content-Type: application/fhir+json' -d '{body}'")?;
        }
        write!(f, " \\\n  '{}{}'", base(layout.addresses().listen, "https"), scene.target)
    }
}

/// The `curl` command of a scene of logins.
struct LoginCommand<'a> {
    layout: &'a Layout,
    scene: &'a LoginScene,
}

impl Display for LoginCommand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { layout, scene } = self;
        let files = layout.client(scene.client.0, scene.client.1);
        let jar = layout.dir().join("ehr.cookies");
        write!(f, "curl -sSi --cacert {}", Word(&layout.ca_certificate()))?;
        write!(f, " \\\n  --cert {} \\\n  --key {}", Word(&files.certificate), Word(&files.key))?;
        if scene.cookie {
            write!(f, " \\\n  -b {}", Word(&jar))?;
        }
        if let Some(form) = scene.form {
            write!(f, " \\\n  -c {} \\\n  -d '{}'", Word(&jar), form.replace("-{run}", ""))?;
        }
        write!(f, " \\\n  '{}{}'", base(layout.addresses().listen, "https"), scene.target)
    }
}

struct LoginOutcome(Told);

impl Display for LoginOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Told::Answer(status) => write!(f, "→ {status}"),
            Told::Refused(status, reason) => write!(f, "→ {status}, {reason}"),
        }
    }
}

/// `→ 200`, as a comment above a command says it.
struct Outcome(Expected);

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expected::Answer(status) => write!(f, "→ {status}"),
            Expected::Denied(reason) => write!(f, "→ 403, {reason}"),
            Expected::Alert(reason) => write!(f, "→ TLS alert, {reason}"),
        }
    }
}

/// A URL's scheme and authority. Loopback is `localhost`, a name in the server's certificate.
pub(super) fn base(address: SocketAddr, scheme: &str) -> String {
    if scheme == "https" && address.ip().is_loopback() {
        format!("{scheme}://localhost:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

/// A path as one word of a shell, quoted where it must be.
struct Word<'a, P: AsRef<Path> + ?Sized>(&'a P);

impl<P: AsRef<Path> + ?Sized> Display for Word<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref().display().to_string();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@' | '=');
        if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
            f.write_str(&text)
        } else {
            write!(f, "'{}'", text.replace('\'', r"'\''"))
        }
    }
}
