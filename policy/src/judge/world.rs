//! One request in Cedar's terms: only the entities it is about, and only the context that somebody reads.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityUid, Request as CedarRequest, RestrictedExpression,
};

use super::civil::Civil;
use super::reads::Reads;
use super::schema::{Kind, Vocabulary};
use super::{Request, UtcOffset};
use crate::{RoleName, SiteName, Subject};

/// A request and its entities cannot be put in Cedar's terms. It denies, as any error does.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be put in Cedar's terms: {0}")]
pub(super) struct Unspeakable(String);

impl Unspeakable {
    fn because(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A request in Cedar's terms.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) request: CedarRequest,
    pub(super) entities: Entities,
}

impl World {
    /// Builds the attributes in `reads` and no others, and no device that is neither principal nor read: nobody can
    /// tell. Every entity built is in all that contains it.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        offset: UtcOffset,
        subject: &Subject,
        request: &Request<'_>,
        reads: Reads,
    ) -> Result<Self, Unspeakable> {
        let site = subject.site().map(|site| vocabulary.entity(Kind::Site, site.as_str()));
        let named = |kind: Kind, name: &str| vocabulary.entity(kind, &in_site(subject.site(), name));
        let device = subject.device().map(|id| (named(Kind::Device, id.device.as_str()), id.device.as_str()));
        let user = subject.user().map(|user| (named(Kind::User, user.as_str()), user.as_str()));
        let patient =
            subject.patient().map(|patient| (vocabulary.entity(Kind::Patient, &patient.to_string()), patient));
        let route = vocabulary.entity(Kind::Route, request.route.as_str());
        let service = vocabulary.entity(Kind::Service, request.service.as_str());
        let class = vocabulary.entity(Kind::InformationClass, request.class.as_str());

        let groups = |roles: &[RoleName]| {
            let roles = roles.iter().map(|role| vocabulary.entity(Kind::Role, role.as_str()));
            roles.chain(site.clone()).collect::<HashSet<_>>()
        };
        let with_attributes = reads.has(Reads::ENTITY_ATTRIBUTES);
        let member = |uid: &EntityUid, name: &str, roles: &[RoleName]| {
            if !with_attributes {
                return Ok(Entity::new_no_attrs(uid.clone(), groups(roles)));
            }
            let site = site.clone().map(|site| ("site".to_owned(), RestrictedExpression::new_entity_uid(site)));
            let attributes: HashMap<_, _> = std::iter::once(text("name", name)).chain(site).collect();
            Entity::new(uid.clone(), attributes, groups(roles)).map_err(Unspeakable::because)
        };
        let mut entities = Vec::with_capacity(4);
        if let Some((uid, name)) = device.as_ref().filter(|_| user.is_none() || reads.has(Reads::DEVICE)) {
            entities.push(member(uid, name, &subject.roles)?);
        }
        if let Some((uid, name)) = &user {
            entities.push(member(uid, name, &subject.roles)?);
        }
        let acting_for = subject.acting_for.as_deref().filter(|_| reads.has(Reads::ACTING_FOR));
        let acting_for = acting_for.map(|acting_for| (named(Kind::User, acting_for.user.as_str()), acting_for));
        if let Some((uid, acting_for)) = &acting_for
            && user.as_ref().is_none_or(|(user, _)| user != uid)
        {
            entities.push(member(uid, acting_for.user.as_str(), &acting_for.roles)?);
        }
        if let Some((uid, patient)) = &patient {
            let attributes = [text("id", patient.id()), text("issuer", patient.issuer())];
            let attributes = attributes.into_iter().filter(|_| with_attributes).collect();
            entities.push(Entity::new(uid.clone(), attributes, HashSet::new()).map_err(Unspeakable::because)?);
        }
        let parents = HashSet::from([service.clone(), class.clone()]);
        entities.push(if with_attributes {
            let attributes = HashMap::from([
                text("name", request.route.as_str()),
                ("service".to_owned(), RestrictedExpression::new_entity_uid(service)),
                ("class".to_owned(), RestrictedExpression::new_entity_uid(class)),
            ]);
            Entity::new(route.clone(), attributes, parents).map_err(Unspeakable::because)?
        } else {
            Entity::new_no_attrs(route.clone(), parents)
        });

        let device = device.map(|(uid, _)| uid);
        let acting_for = acting_for.map(|(uid, _)| uid);
        let parties = [("device", device.as_ref(), Reads::DEVICE), ("site", site.as_ref(), Reads::SITE)];
        let parties = parties.into_iter().chain([("acting_for", acting_for.as_ref(), Reads::ACTING_FOR)]);
        let context = context(offset, subject, request, reads, parties)?;
        let principal = patient.map(|(uid, _)| uid).or(user.map(|(uid, _)| uid)).or(device);
        // INVARIANT: a party is a patient, a user or a device.
        let principal = principal.ok_or_else(|| Unspeakable::because("there is no principal"))?;
        let action = vocabulary.action(request.action).clone();
        Ok(Self {
            // The schema is not asked: these entities and this request have its shape by construction, which the
            // tests check with it.
            request: CedarRequest::new(principal, action, route, context, None).map_err(Unspeakable::because)?,
            entities: Entities::from_entities(entities, None).map_err(Unspeakable::because)?,
        })
    }
}

fn in_site(site: Option<&SiteName>, name: &str) -> String {
    // INVARIANT: whoever has a device or is a user has a site.
    let site = site.map_or("", SiteName::as_str);
    let mut id = String::with_capacity(site.len() + 1 + name.len());
    id.push_str(site);
    id.push('/');
    id.push_str(name);
    id
}

/// Whole seconds, rounded up: a bound of so many seconds is over when they are.
fn age_s(age_ns: u64) -> i64 {
    i64::try_from(age_ns.div_ceil(1_000_000_000)).unwrap_or(i64::MAX)
}

fn text(key: &str, value: &str) -> (String, RestrictedExpression) {
    (key.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

fn context<'a>(
    offset: UtcOffset,
    subject: &Subject,
    request: &Request<'_>,
    reads: Reads,
    parties: impl Iterator<Item = (&'static str, Option<&'a EntityUid>, Reads)>,
) -> Result<CedarContext, Unspeakable> {
    let given = &request.context;
    let mut pairs = Vec::new();
    let number = |pairs: &mut Vec<_>, key: &str, value: i64| {
        pairs.push((key.to_owned(), RestrictedExpression::new_long(value)));
    };
    if reads.has(Reads::TRANSPORT) {
        pairs.push(text("transport", given.transport.label()));
    }
    if let Some(version) = given.tls_version.filter(|_| reads.has(Reads::TLS_VERSION)) {
        pairs.push(text("tls_version", version.label()));
    }
    if reads.has(Reads::SOURCE) {
        let source = given.source.to_canonical().to_string();
        pairs.push(("source".to_owned(), RestrictedExpression::new_ip(source)));
    }
    if reads.has(Reads::TIME) {
        let time = Civil::at(given.time, 0).cedar();
        pairs.push(("time".to_owned(), RestrictedExpression::new_datetime(time)));
    }
    if reads.has(Reads::HOUR.with(Reads::WEEKDAY)) {
        let civil = Civil::at(given.time, offset.minutes());
        number(&mut pairs, "hour", civil.hour);
        number(&mut pairs, "weekday", civil.weekday);
    }
    if reads.has(Reads::AUTHENTICATION_LEVEL) {
        number(&mut pairs, "authentication_level", subject.authentication_level.level());
    }
    if let Some(age) = given.authentication_age_ns.filter(|_| reads.has(Reads::AUTHENTICATION_AGE)) {
        number(&mut pairs, "authentication_age", age_s(age));
    }
    for (key, party, read) in parties {
        let party = party.filter(|_| reads.has(read));
        pairs.extend(party.map(|party| (key.to_owned(), RestrictedExpression::new_entity_uid(party.clone()))));
    }
    let content = [
        ("method", given.method, Reads::METHOD),
        ("operation", given.operation, Reads::OPERATION),
        ("resource_type", given.resource_type, Reads::RESOURCE_TYPE),
    ];
    for (key, value, read) in content {
        pairs.extend(value.filter(|_| reads.has(read)).map(|value| text(key, value)));
    }
    if reads.has(Reads::PATIENTS) {
        let mut patients = Vec::new();
        given.patients.each(&mut |patient| patients.push(RestrictedExpression::new_string(patient.to_owned())));
        pairs.push(("patients".to_owned(), RestrictedExpression::new_set(patients)));
    }
    CedarContext::from_pairs(pairs).map_err(Unspeakable::because)
}
