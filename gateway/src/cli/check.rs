//! `sekisho check`: judges configurations by the very code that start and reload use.

mod probe;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use certs::verifier::Admit;
use policy::Refusal;

use crate::audit::{SIGNING_KEY, VERIFIER_KEYS, init, retention, signer};
use crate::config::{Config, ListenerPeers, Problem};
use crate::listen::check_roles;
use crate::load::{LoadError, load_config};
use crate::sealing::{Sealer, SealingError};
use crate::store::{sealed_keys, sealing_key_of};

/// Bits of a file's mode that let anyone but its owner read, write or run it.
const OTHERS: u32 = 0o077;

/// The arguments of `sekisho check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Configuration files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Judge the text alone, on a machine that does not hold the gateway's keys and policies.
    #[arg(long)]
    pub text_only: bool,
    /// Send a login of an account that nobody has to each backend of a `login` route, and warn where it is taken for a
    /// success. A backend may count it as a failed attempt.
    #[arg(long, conflicts_with = "text_only")]
    pub probe: bool,
}

/// Checks each file. Writes one line per problem, `file:line:column: message`, and `FILE: ok` for a file without any; a warning,
/// which is no problem, has `warning: ` before its message.
/// True if there was none at all, which is exit code 0; otherwise it is 1.
///
/// # Errors
/// If `out` cannot be written.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> io::Result<bool> {
    let mut good = true;
    for file in &args.files {
        let problems = match Config::load(file) {
            Err(error) => error.into_problems(),
            Ok(_) if args.text_only => Vec::new(),
            Ok(config) => {
                let named = config.clone();
                let problems = check_all(config);
                if let Some(warning) = preshared_keys(&named)? {
                    writeln!(out, "{warning}")?;
                }
                if problems.is_empty() && args.probe { probe::probe(&named, out)? } else { problems }
            }
        };
        if problems.is_empty() {
            writeln!(out, "{}: ok", file.display())?;
        }
        for problem in &problems {
            writeln!(out, "{problem}")?;
        }
        good &= problems.is_empty();
    }
    out.flush()?;
    Ok(good)
}

/// What is wrong with all that a configuration names: first what can be told file by file, then whatever start and
/// reload themselves would say.
fn check_all(config: Config) -> Vec<Problem> {
    let problems = check_deep(&config);
    if !problems.is_empty() {
        return problems;
    }
    let nobody: Admit = Arc::new(|_| Err(Refusal::DeviceUnregistered));
    let places = config.clone();
    match load_config(config, &nobody, None) {
        Ok(_) => Vec::new(),
        Err(error) => vec![places.problem(key_of(&error), error.to_string())],
    }
}

/// A warning where the store has preshared keys of WireGuard devices and the key that they are sealed under cannot be read. No problem:
/// the gateway starts without it, and all others come in.
fn preshared_keys(config: &Config) -> io::Result<Option<Problem>> {
    let store = &config.store.file;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sealed = runtime.block_on(sealed_keys(store)).unwrap_or(0);
    if sealed == 0 {
        return Ok(None);
    }
    let told = |error: SealingError| {
        let what = format!(
            "warning: {sealed} devices with preshared keys of WireGuard cannot come in: {error}; see \
             `tunnel-keys-unreadable` in the runbook"
        );
        config.problem("store.file", what)
    };
    Ok(Sealer::load(&sealing_key_of(store)).err().map(told))
}

/// The key that names what could not be loaded.
fn key_of(error: &LoadError) -> &'static str {
    match error {
        LoadError::Config(_) => "",
        LoadError::TrustDomain(_) => "trust.domain",
        LoadError::PolicyFile(_) | LoadError::Policy(_) => "policy.directory",
        LoadError::Routes(_) => "route",
        LoadError::Apart(_) => "trust.patients_apart",
        LoadError::Listener(_) => "listener",
        LoadError::Service { .. } | LoadError::Backends(_) => "service",
        LoadError::Token(_) => "token_issuer",
        LoadError::Provider(_) => "oidc",
        LoadError::TimeServer(_) => "clock.server",
    }
}

/// What is wrong with the files and folders that a configuration names, each blamed on the key that names it.
///
/// Reads; changes nothing. Files that the first start makes may be absent.
#[must_use]
pub fn check_deep(config: &Config) -> Vec<Problem> {
    let mut check = Check { config, problems: Vec::new(), seen: BTreeSet::new() };
    check.place_to_write("store.file", config.store.file.parent().unwrap_or(&config.store.file));
    check.place_to_write("audit.directory", &config.audit.directory);
    if check.problems.is_empty() {
        check.sealing();
    }
    check.policies("policy.directory", &config.policy.directory);
    check.identity_key("identity.key_file", &config.identity.key_file);
    if let Some(tls) = &config.admin.tls {
        for identity in &tls.identities {
            check.certificates("admin.certificate_file", &identity.certificate_file);
            check.key("admin.key_file", &identity.key_file);
        }
        if let Some(file) = &tls.client_ca_file {
            check.certificates("admin.client_ca_file", file);
        }
    }
    if let Some(enrolment) = &config.enrolment {
        check.authority("enrolment.directory", &enrolment.directory);
        if let Some(est) = &enrolment.est {
            check.certificates("enrolment.certificate_file", &est.certificate_file);
            check.key("enrolment.key_file", &est.key_file);
        }
    }
    if let Some((certificate, key)) =
        config.back_channel.as_ref().and_then(|back_channel| back_channel.identity.as_ref())
    {
        check.certificates("back_channel.certificate_file", certificate);
        check.key("back_channel.key_file", key);
    }
    if let Some(acme) = &config.acme {
        check.certificates("acme.ca_file", &acme.ca_file);
        check.place_to_write("acme.state_directory", &acme.state_directory);
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let key = |name: &str| format!("listener[{index}].tls.{name}");
        for identity in &listener.tls.identities {
            if identity.acme.is_some() {
                // What is there is the gateway's own to replace.
                continue;
            }
            check.certificates(&key(&identity.key("certificate_file")), &identity.certificate_file);
            check.key(&key(&identity.key("key_file")), &identity.key_file);
            if let Some(folder) =
                identity.ocsp_file.as_ref().filter(|_| identity.ocsp_fetch).and_then(|file| file.parent())
            {
                check.place_to_write(&key(&identity.key("ocsp_file")), folder);
            }
        }
        if let Some(file) = &listener.tls.client_ca_file {
            check.certificates(&key("client_ca_file"), file);
        }
        if let Some(tunnels) = &listener.wireguard {
            check.tunnel_key(&format!("listener[{index}].wireguard.private_key_file"), &tunnels.private_key_file);
        }
        if let ListenerPeers::Users(users) = &listener.tls.peers
            && let Some(file) = &users.roles_file
        {
            check.roles(&key("users.roles_file"), file);
        }
        let revocation = &listener.tls.revocation;
        for (place, file) in revocation.crl_files.iter().enumerate() {
            check.lists(&key(&format!("revocation.crl_files[{place}]")), file);
        }
        if let Some(directory) = &revocation.crl_directory
            && let Err(error) = fs::read_dir(directory)
        {
            let key = key("revocation.crl_directory");
            check.blame(&key, directory, format_args!("a folder that cannot be read: {error}"));
        }
        if let Some(directory) = &revocation.cache_directory {
            check.place_to_write(&key("revocation.cache_directory"), directory);
        }
    }
    for (index, service) in config.services.iter().enumerate() {
        let Some(tls) = &service.tls else { continue };
        let key = |name: &str| format!("service[{index}].tls.{name}");
        check.certificates(&key("ca_file"), &tls.ca_file);
        if let Some((certificate_file, key_file)) = &tls.identity {
            check.certificates(&key("certificate_file"), certificate_file);
            check.key(&key("key_file"), key_file);
        }
    }
    check.problems
}

struct Check<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
    /// Files already blamed: one that two listeners share is one problem.
    seen: BTreeSet<PathBuf>,
}

impl Check<'_> {
    fn blame(&mut self, key: &str, path: &Path, what: impl std::fmt::Display) {
        if self.seen.insert(path.to_path_buf()) {
            let path = path.display().to_string();
            let message = format!("`{key}` names `{}`, {what}", path.escape_debug());
            self.problems.push(self.config.problem(key, message));
        }
    }

    /// Who opens records: statements that continue each other, so that every site has a reviewer, the pepper, the lanes'
    /// keys; and what is kept for how long.
    fn sealing(&mut self) {
        let audit = &self.config.audit;
        let mut problems: Vec<(&str, String)> = Vec::new();
        if let Err(error) = init::reviewers(&audit.reviewers, &self.config.trust_domain) {
            problems.push(("audit.reviewers", error.to_string()));
        } else if let Err(error) = init::pepper(&audit.key_directory) {
            problems.push(("audit.key_directory", error.to_string()));
        }
        if let Err(error) = retention::memory(&audit.key_directory) {
            problems.push(("audit.key_directory", error.to_string()));
        }
        // What the first start makes may be absent.
        if [SIGNING_KEY, VERIFIER_KEYS].iter().all(|file| audit.directory.join(file).exists()) {
            let origin = |lane: u8| format!("{}/{}/lane-{lane}", self.config.trust_domain, self.config.node);
            if let Err(error) = signer(&audit.directory, [origin(1), origin(2)], 1) {
                problems.push(("audit.directory", error.to_string()));
            }
        }
        for folder in audit.retention.required.iter().filter(|folder| !folder.is_dir()) {
            let why = "is no folder of cursors: nothing would ever be destroyed";
            problems.push(("audit.retention.required", format!("`{}` {why}", folder.display())));
        }
        for (key, message) in problems {
            self.problems.push(self.config.problem(key, message));
        }
    }

    /// A PEM file with at least one certificate.
    fn certificates(&mut self, key: &str, path: &Path) {
        if let Some(bytes) = self.read(key, path)
            && !contains(&bytes, b"-----BEGIN CERTIFICATE-----")
        {
            self.blame(key, path, "which holds no certificate in PEM");
        }
    }

    /// A table of roles.
    fn roles(&mut self, key: &str, path: &Path) {
        if self.read(key, path).is_some()
            && let Err(error) = check_roles(path)
        {
            self.blame(key, path, format_args!("which is no table of roles: {error}"));
        }
    }

    /// A file of CRLs. Who signed them is for the load to say.
    fn lists(&mut self, key: &str, path: &Path) {
        if let Some(bytes) = self.read(key, path)
            && let Err(error) = certs::path::read_crls(&bytes)
        {
            self.blame(key, path, format_args!("which holds no CRL that can be used: {error}"));
        }
    }

    /// A PEM file with a private key that only its owner may read.
    fn key(&mut self, key: &str, path: &Path) {
        let Some(bytes) = self.read(key, path) else { return };
        if !contains(&bytes, b"PRIVATE KEY-----") {
            self.blame(key, path, "which holds no private key in PEM");
        }
        if let Ok(metadata) = fs::metadata(path)
            && metadata.mode() & OTHERS != 0
        {
            let mode = metadata.mode() & 0o777;
            self.blame(
                key,
                path,
                format_args!("a key that others than its owner may reach (mode {mode:03o}); `chmod 600` it"),
            );
        }
    }

    /// The key that tunnels end at; the first start makes one that is absent.
    fn tunnel_key(&mut self, key: &str, path: &Path) {
        if !path.exists() {
            self.place_to_write(key, path.parent().unwrap_or(path));
        } else if let Err(error) = crate::tunnels::load_key(path) {
            self.blame(key, path, format_args!("which is no key of tunnels: {error}"));
        }
    }

    /// A folder that `sekisho ca init` made.
    fn authority(&mut self, key: &str, path: &Path) {
        // A token is not asked: systemd checks before each start, which a token that is away must not prevent, and a
        // wrong PIN would be counted each time.
        if let Err(error) = crate::authority::Ca::load(path) {
            self.blame(key, path, format_args!("where no authority is: {error}"));
        }
    }

    /// A key that is made at the first start.
    fn identity_key(&mut self, key: &str, path: &Path) {
        match fs::symlink_metadata(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.place_to_write(key, path.parent().unwrap_or(path));
            }
            Ok(_) | Err(_) => self.key(key, path),
        }
    }

    fn read(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        // A pipe or a device would block or never end.
        let regular = fs::metadata(path).and_then(|metadata| {
            if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
        });
        match regular.and_then(|()| fs::read(path)) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.blame(key, path, format_args!("which cannot be read: {error}"));
                None
            }
        }
    }

    /// A folder that is there, or can be made in a folder that is.
    fn place_to_write(&mut self, key: &str, path: &Path) {
        let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
        if let Some(there) = there.filter(|there| !there.is_dir()) {
            self.blame(key, path, format_args!("but `{}` is not a folder", there.display()));
        }
    }

    /// A folder with at least one policy, all readable.
    fn policies(&mut self, key: &str, path: &Path) {
        let names = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
        match names {
            Err(error) => self.blame(key, path, format_args!("a folder that cannot be read: {error}")),
            Ok(names) => {
                let policies: Vec<_> =
                    names.iter().filter(|name| name.extension().is_some_and(|e| e == "cedar")).collect();
                if policies.is_empty() {
                    self.blame(key, path, "which holds no `*.cedar` file, so that everything would be denied");
                }
                for policy in policies {
                    self.read(key, policy);
                }
            }
        }
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certs::issue::Authority;
    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::config::tests::beside;
    use crate::store::Store;
    use std::os::unix::fs::PermissionsExt;

    /// A folder in which nothing is wrong.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("sekisho.toml", &beside());
        let (day, now) = (Duration::from_secs(86_400), UnixTime::now());
        let authority = Authority::new("check", day * 30, now).unwrap();
        let server = authority.issue_server(&["localhost"], day, now).unwrap();
        write("devices-ca.crt", authority.certificate_pem());
        write("server.crt", &server.certificate_pem);
        write("server.key", server.key_pem.expose());
        mode(&dir, "server.key", 0o600);
        fs::create_dir(dir.path().join("policy")).unwrap();
        write("policy/a.cedar", "");
        let reviewer = init::new_reviewer("auditor").unwrap();
        let first = init::first_statement("sekisho.example", &[reviewer.public().clone()], &reviewer).unwrap();
        let state = dir.path().join("state");
        init::make(&state.join("audit-keys"), &state.join("audit-reviewers"), "sekisho.example", &first).unwrap();
        dir
    }

    fn mode(dir: &tempfile::TempDir, name: &str, mode: u32) {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn check(dir: &tempfile::TempDir, text_only: bool) -> (bool, String) {
        let mut out = Vec::new();
        let args = CheckArgs { files: vec![dir.path().join("sekisho.toml")], text_only, probe: false };
        let good = run(&args, &mut out).unwrap();
        (good, String::from_utf8(out).unwrap().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn a_good_file_is_ok() {
        assert_eq!(check(&folder(), false), (true, "sekisho.toml: ok\n".to_owned()));
    }

    /// It is said, and keeps no gateway from starting.
    #[test]
    fn a_lost_key_of_preshared_keys_is_a_warning() {
        let dir = folder();
        let path = dir.path().join("state/sekisho.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(async {
            let store = Store::open(&path).await.unwrap();
            sqlx::query("INSERT INTO wireguard_keys VALUES ('s', 'd', 'k', 'sealed', '', '')")
                .execute(&mut *store.writer().await)
                .await
                .unwrap();
            store
        });
        let key = sealing_key_of(&path);
        let said = |what: &str| {
            let (good, said) = check(&dir, false);
            assert!(good && said.ends_with("sekisho.toml: ok\n"), "{said}");
            assert!(said.contains("warning: 1 devices with preshared keys"), "{said}");
            assert!(said.contains("`state/sekisho.db.key`") && said.contains(what), "{said}");
        };
        said("No such file");
        Sealer::load_or_make(&key).unwrap();
        assert_eq!(check(&dir, false), (true, "sekisho.toml: ok\n".to_owned()));
        mode(&dir, "state/sekisho.db.key", 0o640);
        said("chmod 600");
        mode(&dir, "state/sekisho.db.key", 0o600);
        fs::write(&key, "short").unwrap();
        said("64 hexadecimal digits");
        // As well while nobody has the store open, and nothing is left there.
        runtime.block_on(store.close());
        let before = fs::read_dir(dir.path().join("state")).unwrap().count();
        said("64 hexadecimal digits");
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), before);
        assert_eq!(check(&dir, true), (true, "sekisho.toml: ok\n".to_owned()));
    }

    #[test]
    fn each_bad_file_is_named_by_its_key_and_place() {
        type Damage = fn(&tempfile::TempDir);
        let cases: [(Damage, &str); 12] = [
            (
                |d| mode(d, "server.key", 0o640),
                "sekisho.toml:16:42: `listener[0].tls.key_file` names `server.key`, a key that others than its owner may reach (mode 640); `chmod 600` it\n",
            ),
            (
                |d| fs::remove_file(d.path().join("devices-ca.crt")).unwrap(),
                "`listener[0].tls.client_ca_file` names `devices-ca.crt`, which cannot be read",
            ),
            (|d| fs::write(d.path().join("server.crt"), "x").unwrap(), "which holds no certificate in PEM"),
            (|d| fs::write(d.path().join("server.key"), "x").unwrap(), "which holds no private key in PEM"),
            (
                |d| fs::remove_file(d.path().join("policy/a.cedar")).unwrap(),
                "`policy.directory` names `policy`, which holds no `*.cedar` file",
            ),
            (|d| fs::remove_dir_all(d.path().join("policy")).unwrap(), "a folder that cannot be read"),
            (
                |d| fs::write(d.path().join("audit"), "").unwrap(),
                "sekisho.toml:9:1: `audit.directory` names `audit`, but",
            ),
            (
                |d| {
                    fs::remove_dir_all(d.path().join("state")).unwrap();
                    fs::write(d.path().join("state"), "").unwrap();
                },
                "is not a folder",
            ),
            (|d| fs::remove_dir_all(d.path().join("state/audit-reviewers")).unwrap(), "sekisho audit init"),
            (
                |d| fs::write(d.path().join("state/audit-reviewers/@default/1"), "x").unwrap(),
                "audit-reviewers/@default/1`",
            ),
            (
                |d| fs::remove_file(d.path().join("state/audit-keys/pseudonym.key")).unwrap(),
                "pseudonym.key` is missing",
            ),
            (
                |d| fs::write(d.path().join("state/audit-keys/retention"), "x").unwrap(),
                "line 1 of the memory of retention",
            ),
        ];
        for (damage, expected) in cases {
            let dir = folder();
            damage(&dir);
            let (good, out) = check(&dir, false);
            assert!(!good && out.contains(expected), "expected {expected}\nfound {out}");
            assert_eq!(out.lines().count(), 1, "{out}");
            assert_eq!(check(&dir, true), (true, "sekisho.toml: ok\n".to_owned()));
        }
    }

    #[test]
    fn several_files_are_all_judged() {
        let dir = folder();
        let (good, bad) = (dir.path().join("sekisho.toml"), dir.path().join("bad.toml"));
        fs::write(&bad, beside().replace("gw1", "")).unwrap();
        let mut out = Vec::new();
        let args = CheckArgs { files: vec![bad.clone(), good.clone()], text_only: false, probe: false };
        assert!(!run(&args, &mut out).unwrap());
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with(&format!("{}:3:8: `node.name` is ``; ", bad.display())), "{out}");
        assert!(out.ends_with(&format!("{}: ok\n", good.display())), "{out}");
    }
}
