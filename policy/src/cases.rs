//! Expected decisions, written beside the policies, so that an edit of a policy shows what it changes.
//!
//! ```toml
//! utc_offset_minutes = 540              # what context.hour and context.weekday are reckoned in; JST unless set
//!
//! [defaults]                            # any field of a case that describes the request
//! service = "fhir"
//! source = "192.0.2.10"
//! time = 2026-04-01T10:00:00+09:00
//!
//! [[case]]
//! name = "a doctor reads a patient"
//! site = "sakura-clinic"
//! device = "exam-1"
//! user = "dr-sato"
//! roles = ["doctor"]
//! action = "read"                       # with class; or method and path, which the routes resolve
//! class = "clinical"
//! # without_device = true               # the user alone, by a certificate of their own; `device` counts for nothing
//! # patient = "00112233445566778899aabbccddeeff/1"   # a patient; site, device, user and roles count for nothing
//! # authentication_level = 3           # 1: the device alone; 2: the user has logged in; 3: with two factors
//! # authentication_age = 60            # seconds since then
//! # acting_for = "dr-ito"              # whom the user acts for, and that user's own roles
//! # acting_for_roles = ["doctor"]
//! expect = "permit"                     # or "deny"
//! reason = "policy-forbid"              # optional: the refusal's label
//! policies = ["doctor-clinical"]        # optional: the deciding policies, in any order
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::Deserialize;
use smallvec::SmallVec;

use crate::judge::civil::days_from_date;
use crate::judge::{Context, Judge, JudgeOptions, PolicyName, Request, TlsVersion, Transport, UtcOffset};
use crate::{
    ActingFor, Action, AuthenticationLevel, DeviceId, DeviceName, EntityVersions, InformationClass, Party, Patient,
    Refusal, RoleName, RouteName, ServiceName, SiteName, Subject, UserName,
};

/// Most bytes of one file of cases.
pub const MAX_CASES_BYTES: usize = 4 * 1024 * 1024;

/// Why a file of cases cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// Longer than [`MAX_CASES_BYTES`].
    #[error("{0} bytes, at most {MAX_CASES_BYTES} are taken")]
    TooLong(usize),
    /// Not TOML, or not of this shape; the message names line and column.
    #[error("{0}")]
    Malformed(String),
    /// A case lacks something or says it in a way that means nothing.
    #[error("case `{case}`: {message}")]
    Case {
        /// The case's name, or its place where it has none.
        case: String,
        /// What is wrong.
        message: String,
    },
}

/// What the routes make of a method and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The action.
    pub action: Action,
    /// The service.
    pub service: ServiceName,
    /// The class of information.
    pub class: InformationClass,
    /// The route.
    pub route: RouteName,
    /// The FHIR operation with its dollar sign.
    pub operation: Option<String>,
    /// The FHIR resource type or DICOM level.
    pub resource_type: Option<String>,
    /// The patients found.
    pub patients: Vec<String>,
}

/// Method and path to what the routes make of them, or why they make nothing of it.
pub type Resolve<'a> = dyn Fn(&str, &str) -> Result<Resolved, String> + 'a;

/// A file of expected decisions.
#[derive(Debug)]
pub struct Cases {
    utc_offset: UtcOffset,
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    name: String,
    subject: Subject,
    asked: Asked,
    transport: Transport,
    tls_version: Option<TlsVersion>,
    source: IpAddr,
    time: i64,
    authentication_age_ns: Option<u64>,
    method: Option<String>,
    operation: Option<String>,
    resource_type: Option<String>,
    patients: Option<Vec<String>>,
    permit: bool,
    reason: Option<Refusal>,
    policies: Option<Vec<String>>,
}

#[derive(Debug)]
enum Asked {
    Action { action: Action, service: ServiceName, class: InformationClass, route: RouteName },
    Path { method: String, path: String },
}

/// What became of the cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each case, in the file's order.
    pub results: Vec<CaseResult>,
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Where expectation and decision differ; empty where the case passed.
    pub differences: Vec<String>,
}

impl Report {
    /// Whether every case passed and there was at least one.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.results.is_empty() && self.results.iter().all(|result| result.differences.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.results.iter().filter(|result| !result.differences.is_empty());
        for result in failed.clone() {
            writeln!(f, "FAILED {}", result.name)?;
            result.differences.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        let failed = failed.count();
        writeln!(f, "{} cases: {} passed, {failed} failed", self.results.len(), self.results.len() - failed)
    }
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// [`CasesError`] if the text is too long, is not TOML, has an unknown key, or a case is incomplete.
    pub fn parse(text: &str) -> Result<Self, CasesError> {
        if text.len() > MAX_CASES_BYTES {
            return Err(CasesError::TooLong(text.len()));
        }
        let file: File =
            toml::from_str(text).map_err(|error| CasesError::Malformed(error.to_string().trim_end().to_owned()))?;
        let utc_offset = UtcOffset::from_minutes(file.utc_offset_minutes.unwrap_or(UtcOffset::JST.minutes()))
            .ok_or_else(|| CasesError::Malformed("`utc_offset_minutes` is beyond -720 to 840".to_owned()))?;
        let cases = file.cases.into_iter().enumerate().map(|(index, raw)| {
            let case = raw.name.clone().unwrap_or_else(|| format!("#{}", index + 1));
            raw.or(&file.defaults).check().map_err(|message| CasesError::Case { case, message })
        });
        Ok(Self { utc_offset, cases: cases.collect::<Result<_, _>>()? })
    }

    /// How the policies are to be loaded for these cases.
    #[must_use]
    pub fn options(&self) -> JudgeOptions {
        JudgeOptions { utc_offset: self.utc_offset }
    }

    /// How many cases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is no case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Decides every case and compares.
    #[must_use]
    pub fn run(&self, judge: &Judge, resolve: &Resolve<'_>) -> Report {
        let results = self.cases.iter().map(|case| CaseResult {
            name: case.name.clone(),
            differences: case.differences(judge, resolve).unwrap_or_else(|error| vec![error]),
        });
        Report { results: results.collect() }
    }
}

impl Case {
    fn differences(&self, judge: &Judge, resolve: &Resolve<'_>) -> Result<Vec<String>, String> {
        let (resolved, method) = match &self.asked {
            Asked::Action { action, service, class, route } => {
                let resolved = Resolved {
                    action: *action,
                    service: service.clone(),
                    class: class.clone(),
                    route: route.clone(),
                    operation: None,
                    resource_type: None,
                    patients: Vec::new(),
                };
                (resolved, self.method.as_deref())
            }
            Asked::Path { method, path } => {
                let resolved = resolve(method, path).map_err(|error| format!("no route takes it: {error}"))?;
                (resolved, Some(method.as_str()))
            }
        };
        let patients = self.patients.as_ref().unwrap_or(&resolved.patients);
        let request = Request {
            action: resolved.action,
            service: &resolved.service,
            class: &resolved.class,
            route: &resolved.route,
            context: Context {
                transport: self.transport,
                tls_version: self.tls_version,
                source: self.source,
                time: self.time,
                authentication_age_ns: self.authentication_age_ns,
                method,
                operation: self.operation.as_deref().or(resolved.operation.as_deref()),
                resource_type: self.resource_type.as_deref().or(resolved.resource_type.as_deref()),
                patients,
            },
        };
        let explanation = judge.explain(&self.subject, &request);
        let mut differences = Vec::new();
        let seen =
            |refusal: Option<Refusal>| refusal.map_or("permit".to_owned(), |refusal| format!("deny ({refusal})"));
        let agrees = explanation.refusal.is_none() == self.permit
            && self.reason.is_none_or(|reason| explanation.refusal == Some(reason));
        if !agrees {
            let expected = match (self.permit, self.reason) {
                (true, _) => "permit".to_owned(),
                (false, None) => "deny".to_owned(),
                (false, Some(reason)) => format!("deny ({reason})"),
            };
            differences.push(format!("expected {expected}, seen {}", seen(explanation.refusal)));
        }
        if let Some(expected) = &self.policies {
            let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            expected.sort_unstable();
            let decided: Vec<&str> = explanation.policies.iter().map(PolicyName::as_str).collect();
            if expected != decided {
                differences.push(format!("expected policies {expected:?}, seen {decided:?}"));
            }
        }
        if !differences.is_empty() {
            differences.extend(explanation.to_string().lines().map(|line| format!("| {line}")));
        }
        Ok(differences)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    utc_offset_minutes: Option<i16>,
    #[serde(default)]
    defaults: Described,
    #[serde(rename = "case", default)]
    cases: Vec<Raw>,
}

macro_rules! described {
    ($($field:ident: $type:ty,)*) => {
        /// What describes a request: allowed in `[defaults]`.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Described { $($field: Option<$type>,)* }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            name: Option<String>,
            expect: Option<String>,
            reason: Option<String>,
            policies: Option<Vec<String>>,
            $($field: Option<$type>,)*
        }

        impl Raw {
            fn or(self, defaults: &Described) -> Self {
                Self { $($field: self.$field.or_else(|| defaults.$field.clone()),)* ..self }
            }
        }
    };
}

described! {
    site: SiteName,
    device: DeviceName,
    user: UserName,
    without_device: bool,
    patient: String,
    roles: Vec<RoleName>,
    action: String,
    service: ServiceName,
    class: InformationClass,
    route: RouteName,
    method: String,
    path: String,
    transport: String,
    tls_version: String,
    source: IpAddr,
    time: toml::value::Datetime,
    authentication_level: i64,
    authentication_age: u64,
    acting_for: UserName,
    acting_for_roles: Vec<RoleName>,
    operation: String,
    resource_type: String,
    patients: Vec<String>,
}

impl Raw {
    fn check(self) -> Result<Case, String> {
        let lacking = |key: &str| format!("`{key}` is missing");
        let permit = match self.expect.as_deref() {
            Some("permit") => true,
            Some("deny") => false,
            Some(other) => return Err(format!("`{}` is neither `permit` nor `deny`", other.escape_debug())),
            None => return Err(lacking("expect")),
        };
        let reason = self.reason.as_deref().map(refusal).transpose()?;
        if permit && reason.is_some() {
            return Err("a permit has no `reason`".to_owned());
        }
        let asked = match (self.path, self.action) {
            (Some(path), None) => Asked::Path { method: self.method.clone().ok_or_else(|| lacking("method"))?, path },
            (None, Some(action)) => {
                let service = self.service.ok_or_else(|| lacking("service"))?;
                let route = self.route.map_or_else(|| RouteName::new(service.as_str()), Ok);
                Asked::Action {
                    action: action.parse().map_err(|error: crate::action::UnknownAction| error.to_string())?,
                    route: route.map_err(|error| error.to_string())?,
                    service,
                    class: self.class.ok_or_else(|| lacking("class"))?,
                }
            }
            (Some(_), Some(_)) => return Err("give either `path` or `action`".to_owned()),
            (None, None) => return Err("`action`, or `method` and `path`, is missing".to_owned()),
        };
        let transport = match self.transport.as_deref() {
            None => Transport::Tls,
            Some(text) => Transport::ALL
                .into_iter()
                .find(|transport| transport.label() == text)
                .ok_or_else(|| format!("`{}` is not a transport: tls, quic or wireguard", text.escape_debug()))?,
        };
        let tls_version = match (self.tls_version.as_deref(), transport) {
            (Some("1.2"), _) => Some(TlsVersion::V1_2),
            (Some("1.3"), _) | (None, Transport::Tls | Transport::Quic) => Some(TlsVersion::V1_3),
            (Some("none"), _) | (None, Transport::WireGuard) => None,
            (Some(other), _) => {
                return Err(format!("`{}` is not a TLS version: 1.2, 1.3 or none", other.escape_debug()));
            }
        };
        let authentication_level = match self.authentication_level.unwrap_or(1) {
            1 => AuthenticationLevel::Device,
            2 => AuthenticationLevel::User,
            3 => AuthenticationLevel::TwoFactor,
            other => return Err(format!("`authentication_level` is 1, 2 or 3, not {other}")),
        };
        let party = match (self.patient.as_deref(), self.without_device) {
            (Some(patient), _) => {
                let why = |error| format!("`{}` is not a patient: {error}", patient.escape_debug());
                Party::Patient(patient.parse::<Patient>().map_err(why)?)
            }
            (None, Some(true)) => Party::User {
                site: self.site.ok_or_else(|| lacking("site"))?,
                user: self.user.ok_or_else(|| lacking("user"))?,
            },
            (None, Some(false) | None) => Party::Device {
                device: DeviceId {
                    site: self.site.ok_or_else(|| lacking("site"))?,
                    device: self.device.ok_or_else(|| lacking("device"))?,
                },
                user: self.user,
            },
        };
        let roles = self.roles.filter(|_| self.patient.is_none());
        let mut roles: SmallVec<[RoleName; 4]> = roles.unwrap_or_default().into();
        roles.sort();
        roles.dedup();
        let acting_for = self.acting_for.map(|user| {
            let mut roles: SmallVec<[RoleName; 4]> = self.acting_for_roles.unwrap_or_default().into();
            roles.sort();
            roles.dedup();
            Arc::new(ActingFor { user, roles, version: 0 })
        });
        if acting_for.is_some() && party.user().is_none() {
            return Err("only a `user` has `acting_for`".to_owned());
        }
        Ok(Case {
            name: self.name.ok_or_else(|| lacking("name"))?,
            subject: Subject { party, roles, authentication_level, versions: EntityVersions::default(), acting_for },
            asked,
            transport,
            tls_version,
            source: self.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            time: self.time.as_ref().map_or(Ok(0), unix_nanos)?,
            authentication_age_ns: self.authentication_age.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            method: self.method,
            operation: self.operation,
            resource_type: self.resource_type,
            patients: self.patients,
            permit,
            reason,
            policies: self.policies,
        })
    }
}

fn refusal(label: &str) -> Result<Refusal, String> {
    let judged = [Refusal::PolicyNoPermit, Refusal::PolicyForbid, Refusal::PolicyError];
    judged.into_iter().find(|refusal| refusal.label() == label).ok_or_else(|| {
        let label = label.escape_debug();
        format!("`{label}` is not a reason of the judge: policy-no-permit, policy-forbid or policy-error")
    })
}

/// RFC 3339 with an offset, to nanoseconds since 1970.
fn unix_nanos(given: &toml::value::Datetime) -> Result<i64, String> {
    let (Some(date), Some(time), Some(offset)) = (given.date, given.time, given.offset) else {
        return Err(format!("`time` needs date, time and offset, as in 2026-04-01T10:00:00+09:00, not {given}"));
    };
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_date(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - minutes;
    let seconds = days * 86_400 + minutes * 60 + i64::from(time.second.unwrap_or(0));
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(i64::from(time.nanosecond.unwrap_or(0))))
        .ok_or_else(|| format!("`time` {given} is beyond the years 1678 to 2261"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::PolicySource;

    const POLICY: &str = r#"
        @id("a") permit(principal in Sekisho::Role::"doctor", action == Sekisho::Action::"read", resource)
        when { context.hour == 10 && context.patients.contains("Patient/1") };
        @id("f") forbid(principal, action, resource in Sekisho::InformationClass::"closed");
    "#;

    fn judge() -> Judge {
        let source = PolicySource { file: "a.cedar".into(), text: POLICY.into() };
        Judge::load(vec![source], JudgeOptions::default()).unwrap()
    }

    fn nothing(_: &str, _: &str) -> Result<Resolved, String> {
        Err("there are no routes".to_owned())
    }

    fn parse(cases: &str) -> Result<Cases, CasesError> {
        Cases::parse(&format!(
            "[defaults]\nsite = 's'\ndevice = 'd'\nservice = 'x'\nroles = ['doctor']\nclass = 'open'\naction = 'read'\n\
             time = 2026-04-01T10:00:00+09:00\npatients = ['Patient/1']\n{cases}"
        ))
    }

    #[test]
    fn a_case_passes_only_as_expected() {
        let cases = parse(
            "[[case]]\nname = 'yes'\nexpect = 'permit'\npolicies = ['a']\n\
             [[case]]\nname = 'no'\nexpect = 'permit'\ntime = 2026-04-01T10:00:00Z\n\
             [[case]]\nname = 'closed'\nclass = 'closed'\nexpect = 'deny'\nreason = 'policy-forbid'\npolicies = ['f']\n\
             [[case]]\nname = 'other reason'\nroles = []\nexpect = 'deny'\nreason = 'policy-forbid'\n\
             [[case]]\nname = 'other policies'\nexpect = 'permit'\npolicies = ['b']\n",
        )
        .unwrap();
        let report = cases.run(&judge(), &nothing);
        let failed: Vec<_> =
            report.results.iter().filter(|r| !r.differences.is_empty()).map(|r| r.name.as_str()).collect();
        assert_eq!(failed, ["no", "other reason", "other policies"]);
        assert!(!report.passed());
        let shown = report.to_string();
        assert!(shown.contains("expected permit, seen deny (policy-no-permit)"), "{shown}");
        assert!(shown.contains("needs context.hour == 10, which is false"), "{shown}");
        assert!(shown.contains("expected policies [\"b\"], seen [\"a\"]"), "{shown}");
        assert!(shown.contains("5 cases: 2 passed, 3 failed"), "{shown}");
    }

    #[test]
    fn who_has_no_device_is_told_apart() {
        let policy = "@id(\"d\") permit(principal, action, resource);\n\
                      @id(\"u\") @device(\"none\") permit(principal in Sekisho::Role::\"doctor\", action, resource);\n\
                      @id(\"p\") @principal(\"patient\") permit(principal, action, resource) \
                      when { context.patients == [principal.id] };";
        let source = PolicySource { file: "a.cedar".into(), text: policy.into() };
        let judge = Judge::load(vec![source], JudgeOptions::default()).unwrap();
        let patient = format!("patient = '{}/Patient/1'", "0f".repeat(16));
        let cases = parse(&format!(
            "[[case]]\nname = 'device'\nuser = 'u'\nexpect = 'permit'\npolicies = ['d', 'u']\n\
             [[case]]\nname = 'user'\nuser = 'u'\nwithout_device = true\nexpect = 'permit'\npolicies = ['u']\n\
             [[case]]\nname = 'no role'\nuser = 'u'\nwithout_device = true\nroles = []\nexpect = 'deny'\n\
             [[case]]\nname = 'patient'\n{patient}\nexpect = 'permit'\npolicies = ['p']\n\
             [[case]]\nname = 'another'\n{patient}\npatients = ['Patient/2']\nexpect = 'deny'\npolicies = []\n"
        ))
        .unwrap();
        let report = cases.run(&judge, &nothing);
        assert!(report.passed(), "{report}");
    }

    #[test]
    fn a_path_is_resolved_by_the_routes() {
        let text = "[defaults]\nsite = 's'\ndevice = 'd'\nroles = ['doctor']\ntime = 2026-04-01T10:00:00+09:00\n\
                    [[case]]\nname = 'p'\nmethod = 'GET'\npath = '/fhir/Patient/1'\nexpect = 'permit'\n";
        let cases = Cases::parse(text).unwrap();
        let resolve = |method: &str, path: &str| {
            assert_eq!((method, path), ("GET", "/fhir/Patient/1"));
            Ok(Resolved {
                action: Action::Read,
                service: "fhir".parse().unwrap(),
                class: "clinical".parse().unwrap(),
                route: "fhir".parse().unwrap(),
                operation: None,
                resource_type: Some("Patient".to_owned()),
                patients: vec!["Patient/1".to_owned()],
            })
        };
        assert!(cases.run(&judge(), &resolve).passed());
        let report = cases.run(&judge(), &nothing);
        assert_eq!(report.results[0].differences, ["no route takes it: there are no routes"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("[[case]]\nname = 'x'\nexpect = 'maybe'", "`maybe`"),
            ("[[case]]\nname = 'x'", "`expect`"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\naction = 'jump'", "`jump`"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\nreason = 'draining'", "`draining`"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\npath = '/'", "either `path` or `action`"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\ntime = 2026-04-01T10:00:00", "offset"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\nauthentication_level = 4", "4"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\ntransport = 'smtp'", "`smtp`"),
            ("[[case]]\nname = 'x'\nexpekt = 'deny'", "expekt"),
            ("[[case]]\nname = 'x'\nsite = 'a/b'", "a/b"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\npatient = '1'", "not a patient"),
            ("[[case]]\nname = 'x'\nexpect = 'deny'\nwithout_device = true", "`user`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
