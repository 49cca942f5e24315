//! A policy's scope, matched without Cedar: `principal`, `action` and `resource` constraints over our own types.
//!
//! A policy whose scope does not match is unsatisfied whatever its conditions say, and Cedar evaluates the scope
//! before the conditions, so such a policy can neither decide nor err. Leaving it out changes no decision.

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

use super::Request;
use super::schema::Kind;
use crate::{Action, DeviceId, Party, SiteName, Subject};

/// An entity as policies name it. `kind` is `None` for types that are not in the schema: nothing is one.
#[derive(Debug, Clone)]
struct Named {
    kind: Option<Kind>,
    id: Box<str>,
}

impl Named {
    fn new(uid: &EntityUid) -> Self {
        Self { kind: Kind::of(uid.type_name()), id: uid.id().unescaped().into() }
    }
}

/// One constraint on principal or resource.
#[derive(Debug, Clone)]
enum Constraint {
    Any,
    Equals(Named),
    In(Named),
    Is(Option<Kind>),
    IsIn(Option<Kind>, Named),
}

/// What of a request a policy applies to.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    principal: Constraint,
    actions: [bool; Action::ALL.len()],
    resource: Constraint,
}

/// Which parts of a scope match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) principal: bool,
    pub(super) action: bool,
    pub(super) resource: bool,
}

impl Match {
    pub(super) const fn whole(self) -> bool {
        self.principal && self.action && self.resource
    }
}

impl Scope {
    pub(super) fn of(policy: &Policy) -> Self {
        let is = |name: &EntityTypeName| Kind::of(name);
        Self {
            principal: match policy.principal_constraint() {
                PrincipalConstraint::Any => Constraint::Any,
                PrincipalConstraint::Eq(uid) => Constraint::Equals(Named::new(&uid)),
                PrincipalConstraint::In(uid) => Constraint::In(Named::new(&uid)),
                PrincipalConstraint::Is(name) => Constraint::Is(is(&name)),
                PrincipalConstraint::IsIn(name, uid) => Constraint::IsIn(is(&name), Named::new(&uid)),
            },
            actions: actions(&policy.action_constraint()),
            resource: match policy.resource_constraint() {
                ResourceConstraint::Any => Constraint::Any,
                ResourceConstraint::Eq(uid) => Constraint::Equals(Named::new(&uid)),
                ResourceConstraint::In(uid) => Constraint::In(Named::new(&uid)),
                ResourceConstraint::Is(name) => Constraint::Is(is(&name)),
                ResourceConstraint::IsIn(name, uid) => Constraint::IsIn(is(&name), Named::new(&uid)),
            },
        }
    }

    #[expect(clippy::indexing_slicing, reason = "one element for each action")]
    pub(super) fn takes_action(&self, action: Action) -> bool {
        self.actions[action as usize]
    }

    /// Whether everything but the action matches.
    pub(super) fn takes_parties(&self, subject: &Subject, request: &Request<'_>) -> bool {
        self.resource.matches(|kind| kind == Kind::Route, |named| resource_in(named, request))
            && self.principal.matches(|kind| kind == principal_kind(subject), |named| principal_in(named, subject))
    }

    pub(super) fn matching(&self, subject: &Subject, request: &Request<'_>) -> Match {
        Match {
            principal: self
                .principal
                .matches(|kind| kind == principal_kind(subject), |named| principal_in(named, subject)),
            action: self.takes_action(request.action),
            resource: self.resource.matches(|kind| kind == Kind::Route, |named| resource_in(named, request)),
        }
    }
}

impl Scope {
    /// Whether the principal may be some user of the site, as far as the scope says. Anybody is not some user.
    pub(super) fn is_for_users(&self, site: &SiteName) -> bool {
        let is_user = |kind: &Option<Kind>| *kind == Some(Kind::User);
        let has_users = |named: &Named| match named.kind {
            Some(Kind::Role) => true,
            Some(Kind::Site) => site.as_str() == &*named.id,
            Some(Kind::User) => named.id.split_once('/').is_some_and(|(of, _)| of == site.as_str()),
            Some(Kind::Device | Kind::Patient | Kind::Service | Kind::InformationClass | Kind::Route) | None => false,
        };
        match &self.principal {
            Constraint::Any => false,
            Constraint::Equals(named) => is_user(&named.kind) && has_users(named),
            Constraint::In(named) => has_users(named),
            Constraint::Is(kind) => is_user(kind),
            Constraint::IsIn(kind, named) => is_user(kind) && has_users(named),
        }
    }
}

impl Constraint {
    /// `contains` answers for `in`, which holds for an entity itself as well.
    fn matches(&self, is: impl Fn(Kind) -> bool, contains: impl Fn(&Named) -> bool) -> bool {
        let is = |kind: &Option<Kind>| kind.is_some_and(&is);
        match self {
            Self::Any => true,
            // Of the things that contain the entity, only the entity itself has its kind.
            Self::Equals(named) => is(&named.kind) && contains(named),
            Self::In(named) => contains(named),
            Self::Is(kind) => is(kind),
            Self::IsIn(kind, named) => is(kind) && contains(named),
        }
    }
}

fn actions(constraint: &ActionConstraint) -> [bool; Action::ALL.len()] {
    let ours = |uid: &EntityUid, action: Action| {
        uid.type_name().namespace() == "Sekisho" && uid.id().unescaped() == action.label()
    };
    Action::ALL.map(|action| match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => ours(uid, action),
        // The schema has no groups of actions: `in` a list means one of it.
        ActionConstraint::In(uids) => uids.iter().any(|uid| ours(uid, action)),
    })
}

fn principal_kind(subject: &Subject) -> Kind {
    match &subject.party {
        Party::Device { user: None, .. } => Kind::Device,
        Party::Device { user: Some(_), .. } | Party::User { .. } => Kind::User,
        Party::Patient(_) => Kind::Patient,
    }
}

fn principal_in(named: &Named, subject: &Subject) -> bool {
    let id = &*named.id;
    match (named.kind, &subject.party) {
        // In no site and in no role, whatever the subject says.
        (Some(Kind::Patient), Party::Patient(patient)) => {
            id.split_once('/').is_some_and(|(issuer, rest)| issuer == patient.issuer() && rest == patient.id())
        }
        (_, Party::Patient(_)) => false,
        (Some(Kind::Role), _) => subject.roles.iter().any(|role| role.as_str() == id),
        (Some(Kind::Site), party) => party.site().is_some_and(|site| site.as_str() == id),
        (
            Some(Kind::User),
            Party::Device { device: DeviceId { site, .. }, user: Some(user) } | Party::User { site, user },
        ) => is_of_site(id, site, user.as_str()),
        (Some(Kind::Device), Party::Device { device, user: None }) => {
            is_of_site(id, &device.site, device.device.as_str())
        }
        (
            Some(Kind::User | Kind::Device | Kind::Patient | Kind::Service | Kind::InformationClass | Kind::Route)
            | None,
            _,
        ) => false,
    }
}

fn is_of_site(id: &str, own: &SiteName, name: &str) -> bool {
    id.split_once('/').is_some_and(|(site, rest)| site == own.as_str() && rest == name)
}

fn resource_in(named: &Named, request: &Request<'_>) -> bool {
    let id = &*named.id;
    match named.kind {
        Some(Kind::Service) => request.service.as_str() == id,
        Some(Kind::InformationClass) => request.class.as_str() == id,
        Some(Kind::Route) => request.route.as_str() == id,
        Some(Kind::Site | Kind::Role | Kind::Device | Kind::User | Kind::Patient) | None => false,
    }
}
