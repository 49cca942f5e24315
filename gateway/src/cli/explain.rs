//! `sekisho policy`, joined with the routes and the registry that explanations and cases need.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use policy::cases::Resolved;
use policy::judge::{Judge, JudgeOptions};
use policy::patients::target_patients;
use policy::route::{Place, RouteTable};
use policy::target::CanonicalTarget;
use policy::{AuthenticationLevel, DeviceId, EntityVersions, Party, RoleName, SiteName, Subject};
use smallvec::SmallVec;

use super::policy::{ExplainArguments, Outcome, PolicyCommand, check, explain, no_routes, test};
use crate::config::Config;
use crate::load::read_policies;
use crate::store::{Store, UserId};

/// Longest target that a command line may name.
const TARGET_BYTES: usize = 64 * 1024;

pub(super) fn policy(command: &PolicyCommand, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let outcome = match command {
        PolicyCommand::Check { directory } => check(directory, out)?,
        PolicyCommand::Test { cases, config: None } => test(cases, &no_routes, out)?,
        PolicyCommand::Test { cases, config: Some(config) } => {
            let routes = RouteTable::new(Config::load(config)?.routes)?;
            test(cases, &|method, path| resolve(&routes, method, path), out)?
        }
        PolicyCommand::Explain(arguments) => {
            explain_request(arguments, out)?;
            Outcome::Good
        }
    };
    Ok(super::code(outcome == Outcome::Good))
}

fn resolve(routes: &RouteTable, method: &str, path: &str) -> Result<Resolved, String> {
    let target = CanonicalTarget::parse(path.as_bytes(), TARGET_BYTES).map_err(|refusal| refusal.to_string())?;
    let resolved = routes.resolve(Place::default(), method, &target).map_err(|refusal| refusal.to_string())?;
    Ok(Resolved {
        action: resolved.action,
        service: resolved.route.service().clone(),
        class: resolved.class.clone(),
        route: resolved.route.name().clone(),
        operation: resolved.operation.as_deref().map(str::to_owned),
        resource_type: resolved.resource_type.as_deref().map(str::to_owned),
        patients: target_patients(&resolved, &target).ids.into_iter().map(|patient| patient.value).collect(),
    })
}

fn explain_request(arguments: &ExplainArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let judge = Judge::load(read_policies(&config.policy.directory)?, JudgeOptions::default())?;
    let routes = RouteTable::new(config.routes.clone())?;
    let resolved = resolve(&routes, &arguments.method, &arguments.path)
        .map_err(|refusal| anyhow!("`{}` is refused before any policy is asked: {refusal}", arguments.path))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now = i64::try_from(now.as_nanos()).context("the clock is beyond 2262")?;
    let mut subject = subject(&config.store.file, arguments, now)?;
    if let Some(level) = arguments.level {
        subject.authentication_level = level;
    }
    explain(&judge, &subject, &resolved, &arguments.method, (now, arguments.age), out)?;
    Ok(())
}

fn subject(store: &Path, arguments: &ExplainArguments, now: i64) -> anyhow::Result<Subject> {
    if let Some(patient) = &arguments.patient {
        return Ok(Subject {
            party: Party::Patient(patient.clone()),
            roles: [].into_iter().collect(),
            authentication_level: AuthenticationLevel::User,
            versions: EntityVersions::default(),
            acting_for: None,
        });
    }
    let site = arguments.site.clone().context("--site is missing")?;
    super::block_on(async {
        let store = Store::open_existing(store).await?;
        let subject = match &arguments.device {
            Some(device) => at_device(&store, DeviceId { site, device: device.clone() }, arguments, now).await,
            None => alone(&store, site, arguments).await,
        };
        store.close().await;
        subject
    })
}

async fn at_device(store: &Store, device: DeviceId, arguments: &ExplainArguments, now: i64) -> anyhow::Result<Subject> {
    let directory = store.directory().await?;
    let found = directory.lookup(&device).map_err(|refusal| anyhow!("device `{device}` is refused: {refusal}"))?;
    let mut subject = Subject::clone(&found);
    if let Some(user) = &arguments.user
        && subject.user() != Some(user)
    {
        let known = store.user_show(&UserId { site: device.site.clone(), user: user.clone() }).await?;
        let own = store.device_show(&device).await?;
        subject.roles = sorted(known.roles.into_iter().chain(own.roles));
        subject.party = Party::Device { device: device.clone(), user: Some(user.clone()) };
    }
    if let Some(acts_for) = &arguments.acting_for {
        let user = subject.user().context("nobody acts for another without --user")?;
        let granted = directory.acting_for(&device.site, user, acts_for, now);
        let granted = granted.map_err(|refusal| anyhow!("user `{user}` does not act for `{acts_for}`: {refusal}"))?;
        subject.acting_for = Some(granted.0);
    }
    Ok(subject)
}

/// A user with a certificate of their own.
async fn alone(store: &Store, site: SiteName, arguments: &ExplainArguments) -> anyhow::Result<Subject> {
    let user = arguments.user.clone().context("--device or --user is missing")?;
    let known = store.user_show(&UserId { site: site.clone(), user: user.clone() }).await?;
    Ok(Subject {
        party: Party::User { site, user },
        roles: sorted(known.roles.into_iter().chain(arguments.roles.iter().cloned())),
        authentication_level: AuthenticationLevel::User,
        versions: EntityVersions::default(),
        acting_for: None,
    })
}

fn sorted(roles: impl Iterator<Item = RoleName>) -> SmallVec<[RoleName; 4]> {
    let mut roles: SmallVec<[RoleName; 4]> = roles.collect();
    roles.sort();
    roles.dedup();
    roles
}
