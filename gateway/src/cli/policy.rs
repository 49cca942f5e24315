//! `sekisho policy`: check policies, run expected decisions, and explain one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use policy::cases::{Cases, CasesError, MAX_CASES_BYTES, Resolve, Resolved};
use policy::judge::{Context, Judge, JudgeOptions, LoadError, Request, TlsVersion, Transport};
use policy::{AuthenticationLevel, DeviceName, Party, Patient, RoleName, SiteName, Subject, UserName};

use crate::load::{PolicyFileError, read_bounded, read_policies};

/// What `sekisho policy` can do.
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Read and validate every *.cedar file of a folder.
    Check {
        /// The folder.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Compare expected decisions with those of the *.cedar files beside them.
    Test {
        /// The file of expected decisions.
        #[arg(value_name = "CASES.toml")]
        cases: PathBuf,
        /// Resolve the cases' methods and paths with the routes of this configuration.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say which policies decide a request, and what is missing.
    Explain(ExplainArguments),
}

/// The request to explain.
#[derive(Debug, clap::Args)]
pub struct ExplainArguments {
    /// The site.
    #[arg(long, required_unless_present = "patient")]
    pub site: Option<SiteName>,
    /// The device of the site; without one, the user comes with a certificate of their own.
    #[arg(long, required_unless_present_any = ["user", "patient"])]
    pub device: Option<DeviceName>,
    /// The user; the one assigned to the device unless given.
    #[arg(long)]
    pub user: Option<UserName>,
    /// A role that the user's certificate stands for; may be repeated.
    #[arg(long = "role", value_name = "ROLE", requires = "user", conflicts_with = "device")]
    pub roles: Vec<RoleName>,
    /// How strongly the user is known: `device`, `user` or `two-factor`.
    #[arg(long, value_parser = level, conflicts_with = "patient")]
    pub level: Option<AuthenticationLevel>,
    /// How many seconds ago that was proved.
    #[arg(long, value_name = "SECONDS", conflicts_with = "patient")]
    pub age: Option<u32>,
    /// The user for whom the user acts, as far as the registry grants it.
    #[arg(long, value_name = "USER", requires = "device")]
    pub acting_for: Option<UserName>,
    /// A patient, as records name one: ISSUER/ID.
    #[arg(long, conflicts_with_all = ["site", "device", "user"])]
    pub patient: Option<Patient>,
    /// The HTTP method.
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The request's target: a path, with its query where there is one.
    #[arg(long)]
    pub path: String,
    /// The configuration to take policies, routes and registry from.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    pub config: PathBuf,
}

fn level(text: &str) -> Result<AuthenticationLevel, String> {
    let levels = [AuthenticationLevel::Device, AuthenticationLevel::User, AuthenticationLevel::TwoFactor];
    let known = || levels.map(AuthenticationLevel::label).join("`, `");
    levels.into_iter().find(|level| level.label() == text).ok_or_else(|| format!("it is none of `{}`", known()))
}

/// Why a `sekisho policy` command cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PolicyCommandError {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] PolicyFileError),
    /// The policies are refused; one line for each problem.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The cases are refused.
    #[error("`{path}`: {source}")]
    Cases {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CasesError,
    },
    /// The result cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Whether what was asked for holds; the exit code follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Policies are valid, cases pass: exit code 0.
    Good,
    /// Cases fail: exit code 1.
    Bad,
}

/// `sekisho policy check DIR`: says what was read, and what is odd but legal.
///
/// # Errors
/// [`PolicyCommandError`] if the folder cannot be read or its policies are refused.
pub fn check(directory: &Path, out: &mut dyn Write) -> Result<Outcome, PolicyCommandError> {
    let judge = Judge::load(read_policies(directory)?, JudgeOptions::default())?;
    for warning in judge.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    match judge.len() {
        0 => writeln!(out, "no policies: everything is denied")?,
        count => writeln!(out, "{count} policies are valid")?,
    }
    Ok(Outcome::Good)
}

/// `sekisho policy test CASES.toml`: decides every case with the policies of the file's own folder. `resolve` turns a
/// method and a path into an action; without a configuration it refuses, and only cases that name an action run.
///
/// # Errors
/// [`PolicyCommandError`] if a file cannot be read or is refused. A case that fails is [`Outcome::Bad`].
pub fn test(cases: &Path, resolve: &Resolve<'_>, out: &mut dyn Write) -> Result<Outcome, PolicyCommandError> {
    let text = read_bounded(cases, MAX_CASES_BYTES)?;
    let parsed = Cases::parse(&text).map_err(|source| PolicyCommandError::Cases { path: cases.to_owned(), source })?;
    let beside = match cases.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let judge = Judge::load(read_policies(beside)?, parsed.options())?;
    let report = parsed.run(&judge, resolve);
    write!(out, "{report}")?;
    Ok(if report.passed() { Outcome::Good } else { Outcome::Bad })
}

/// The [`Resolve`] of a command that was given no configuration.
///
/// # Errors
/// Always: there are no routes.
pub fn no_routes(_method: &str, _path: &str) -> Result<Resolved, String> {
    Err("no configuration given (--config), so no routes".to_owned())
}

/// `sekisho policy explain`, once routes and registry have said what the arguments mean. The request is taken to come
/// from loopback over TLS 1.3 at `time`, in nanoseconds since 1970, from a user who was proved `age_s` seconds before.
///
/// # Errors
/// [`PolicyCommandError::Print`] if the explanation cannot be printed.
pub fn explain(
    judge: &Judge,
    subject: &Subject,
    resolved: &Resolved,
    method: &str,
    (time, age_s): (i64, Option<u32>),
    out: &mut dyn Write,
) -> Result<(), PolicyCommandError> {
    let request = Request {
        action: resolved.action,
        service: &resolved.service,
        class: &resolved.class,
        route: &resolved.route,
        context: Context {
            transport: Transport::Tls,
            tls_version: Some(TlsVersion::V1_3),
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            time,
            authentication_age_ns: age_s.map(|age_s| u64::from(age_s).saturating_mul(1_000_000_000)),
            method: Some(method),
            operation: resolved.operation.as_deref(),
            resource_type: resolved.resource_type.as_deref(),
            patients: &resolved.patients,
        },
    };
    let roles: Vec<&str> = subject.roles.iter().map(AsRef::as_ref).collect();
    let roles = roles.join(", ");
    match &subject.party {
        Party::Device { device, user } => {
            let user = user.as_ref().map_or("nobody", |user| user.as_str());
            write!(out, "device {device}, user {user}, roles [{roles}]")?;
            if let Some(acting_for) = &subject.acting_for {
                write!(out, ", acting for {}", acting_for.user)?;
            }
        }
        Party::User { site, user } => write!(out, "no device, user {site}/{user}, roles [{roles}]")?,
        Party::Patient(patient) => write!(out, "patient {}", super::terminal::text(&patient.to_string()))?,
    }
    write!(out, ", level {}", subject.authentication_level.label())?;
    match age_s {
        Some(age_s) => writeln!(out, " proved {age_s} s ago")?,
        None => writeln!(out)?,
    }
    let Resolved { action, service, class, route, .. } = resolved;
    writeln!(out, "{action} on service {service}, class {class}, route {route}")?;
    write!(out, "{}", judge.explain(subject, &request))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use policy::{Action, DeviceId, EntityVersions};

    fn example() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/examples/clinic")
    }

    fn printed(work: impl FnOnce(&mut dyn Write) -> Result<Outcome, PolicyCommandError>) -> (Outcome, String) {
        let mut out = Vec::new();
        let outcome = work(&mut out).unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_example_is_valid_and_decides_as_expected() {
        let (outcome, text) = printed(|out| check(&example(), out));
        assert_eq!((outcome, text.as_str()), (Outcome::Good, "22 policies are valid\n"));
        let (outcome, text) = printed(|out| test(&example().join("cases.toml"), &no_routes, out));
        assert_eq!(outcome, Outcome::Good, "{text}");
        assert!(text.ends_with(" passed, 0 failed\n"), "{text}");
    }

    #[test]
    fn a_failing_case_and_a_bad_policy_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let cases = folder.path().join("cases.toml");
        fs::write(
            &cases,
            "[[case]]\nname = 'x'\nsite = 's'\ndevice = 'd'\nservice = 'f'\nclass = 'c'\naction = 'read'\nexpect = 'permit'\n",
        )
        .unwrap();
        let (outcome, text) = printed(|out| test(&cases, &no_routes, out));
        assert_eq!(outcome, Outcome::Bad);
        assert!(text.contains("FAILED x"), "{text}");
        assert_eq!(printed(|out| check(folder.path(), out)).1, "no policies: everything is denied\n");
        fs::write(folder.path().join("p.cedar"), "permit(principal, action, resource) when { context.colour };")
            .unwrap();
        let error = test(&cases, &no_routes, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("p.cedar:1:44: "), "{error}");
    }

    #[test]
    fn an_explanation_takes_how_the_user_was_proved_and_for_whom_they_act() {
        let folder = tempfile::tempdir().unwrap();
        let text = "@id(\"fresh\") permit(principal, action, resource) when { context.authentication_level == 3 && \
                    context has authentication_age && context.authentication_age <= 60 && \
                    context has acting_for && context.acting_for in Sekisho::Role::\"doctor\" };";
        fs::write(folder.path().join("p.cedar"), text).unwrap();
        let judge = Judge::load(read_policies(folder.path()).unwrap(), JudgeOptions::default()).unwrap();
        let acting_for = policy::ActingFor {
            user: "sato".parse().unwrap(),
            roles: ["doctor".parse().unwrap()].into_iter().collect(),
            version: 3,
        };
        let device = DeviceId { site: "sakura".parse().unwrap(), device: "desk".parse().unwrap() };
        let mut subject = Subject {
            party: Party::Device { device, user: Some("tanaka".parse().unwrap()) },
            roles: ["clerk".parse().unwrap()].into_iter().collect(),
            authentication_level: level("two-factor").unwrap(),
            versions: EntityVersions::default(),
            acting_for: Some(std::sync::Arc::new(acting_for)),
        };
        let resolved = Resolved {
            action: Action::Read,
            service: "fhir".parse().unwrap(),
            class: "clinical".parse().unwrap(),
            route: "fhir".parse().unwrap(),
            operation: None,
            resource_type: None,
            patients: Vec::new(),
        };
        let said = |subject: &Subject, age_s| {
            let mut out = Vec::new();
            explain(&judge, subject, &resolved, "GET", (1_775_005_200_000_000_000, age_s), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let permitted = said(&subject, Some(60));
        assert!(permitted.contains(", acting for sato, level two-factor proved 60 s ago\n"), "{permitted}");
        assert!(permitted.contains("permit, decided by fresh"), "{permitted}");
        for age_s in [None, Some(61)] {
            assert!(said(&subject, age_s).contains("deny"));
        }
        subject.authentication_level = level("user").unwrap();
        assert!(said(&subject, Some(1)).contains("deny"));
        assert!(level("three").is_err());
    }

    #[test]
    fn an_explanation_names_policy_and_lack() {
        let judge = Judge::load(read_policies(&example()).unwrap(), JudgeOptions::default()).unwrap();
        let subject = Subject {
            party: Party::Device {
                device: DeviceId { site: "sakura-clinic".parse().unwrap(), device: "desk-1".parse().unwrap() },
                user: Some("ck-yamada".parse().unwrap()),
            },
            roles: [("clerk".parse().unwrap())].into_iter().collect(),
            authentication_level: AuthenticationLevel::Device,
            versions: EntityVersions::default(),
            acting_for: None,
        };
        let resolved = Resolved {
            action: Action::Read,
            service: "fhir".parse().unwrap(),
            class: "clinical".parse().unwrap(),
            route: "fhir".parse().unwrap(),
            operation: None,
            resource_type: Some("Patient".to_owned()),
            patients: vec!["1".to_owned()],
        };
        let mut out = Vec::new();
        explain(&judge, &subject, &resolved, "GET", (1_775_005_200_000_000_000, None), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("device sakura-clinic/desk-1, user ck-yamada, roles [clerk]"), "{text}");
        assert!(text.contains("deny (policy-no-permit)"), "{text}");
        assert!(text.contains("permit doctor-clinical (roles.cedar:6): does not apply\n    needs principal in Sekisho::Role::\"doctor\""), "{text}");
        assert!(text.contains("permit clerk-administrative"), "{text}");
        assert!(text.contains("needs resource in Sekisho::InformationClass::\"administrative\""), "{text}");
    }
}
