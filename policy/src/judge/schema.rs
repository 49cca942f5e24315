//! The embedded schema and its names.

use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

use super::audience::Audience;
use crate::Action;

/// The schema's text: what policies can speak about. For editors and `sekisho policy check`.
pub const SCHEMA: &str = include_str!("../../schema.cedarschema");

/// The schema cannot be read: a broken build, found by any test that loads a policy.
#[derive(Debug, thiserror::Error)]
#[error("the embedded schema is broken: {0}")]
pub(super) struct BrokenSchema(String);

/// The entity types of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Site,
    Role,
    Service,
    InformationClass,
    Device,
    User,
    Patient,
    Route,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Site,
        Self::Role,
        Self::Service,
        Self::InformationClass,
        Self::Device,
        Self::User,
        Self::Patient,
        Self::Route,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Site => "Site",
            Self::Role => "Role",
            Self::Service => "Service",
            Self::InformationClass => "InformationClass",
            Self::Device => "Device",
            Self::User => "User",
            Self::Patient => "Patient",
            Self::Route => "Route",
        }
    }

    /// The kind that a type's name means, `None` for any type that is not ours.
    pub(super) fn of(name: &EntityTypeName) -> Option<Self> {
        if name.namespace() != "Sekisho" {
            return None;
        }
        Self::ALL.into_iter().find(|kind| kind.label() == name.basename())
    }
}

/// The schema and its names, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    /// What policies of each audience are validated against.
    narrowed: [Schema; Audience::ALL.len()],
    types: [EntityTypeName; Kind::ALL.len()],
    actions: [EntityUid; Action::ALL.len()],
}

impl Vocabulary {
    /// The one that every judge shares: parsing its schemas takes milliseconds, and it never changes.
    pub(super) fn get() -> Result<&'static Self, &'static BrokenSchema> {
        static VOCABULARY: LazyLock<Result<Vocabulary, BrokenSchema>> = LazyLock::new(Vocabulary::new);
        VOCABULARY.as_ref()
    }

    fn new() -> Result<Self, BrokenSchema> {
        let broken = |error: &dyn std::fmt::Display| BrokenSchema(error.to_string());
        let parse = |text: &str| {
            let (schema, _warnings) = Schema::from_cedarschema_str(text).map_err(|error| broken(&error))?;
            Ok(schema)
        };
        let narrowed: Result<Vec<_>, _> = Audience::ALL.iter().map(|audience| parse(&narrow(*audience)?)).collect();
        let type_name =
            |label: &str| format!("Sekisho::{label}").parse::<EntityTypeName>().map_err(|error| broken(&error));
        let types: Result<Vec<_>, _> = Kind::ALL.iter().map(|kind| type_name(kind.label())).collect();
        let action = type_name("Action")?;
        let actions: Vec<_> = Action::ALL.iter().map(|a| uid(&action, a.label())).collect();
        Ok(Self {
            narrowed: narrowed?.try_into().map_err(|_| broken(&"wrong number of audiences"))?,
            types: types?.try_into().map_err(|_| broken(&"wrong number of types"))?,
            actions: actions.try_into().map_err(|_| broken(&"wrong number of actions"))?,
        })
    }

    /// The schema with only those subjects that a policy of the audience is ever asked about.
    #[expect(clippy::indexing_slicing, reason = "the arrays have one element for each variant of the enum")]
    pub(super) fn schema_for(&self, audience: Audience) -> &Schema {
        &self.narrowed[audience as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "the arrays have one element for each variant of the enum")]
    pub(super) fn entity(&self, kind: Kind, id: &str) -> EntityUid {
        uid(&self.types[kind as usize], id)
    }

    #[expect(clippy::indexing_slicing, reason = "the arrays have one element for each variant of the enum")]
    pub(super) fn action(&self, action: Action) -> &EntityUid {
        &self.actions[action as usize]
    }
}

const PRINCIPALS: &str = "principal: [User, Device, Patient],";
const DEVICE: &str = "device?: Device,";
const SITE: &str = "site?: Site,";

/// The schema's text for an audience: what is never absent for it is not optional, and what it never is, no principal.
fn narrow(audience: Audience) -> Result<String, BrokenSchema> {
    if [PRINCIPALS, DEVICE, SITE].iter().any(|part| SCHEMA.matches(part).count() != 1) {
        return Err(BrokenSchema("its parts that audiences differ in are not where they were".to_owned()));
    }
    let members = SCHEMA.replace(PRINCIPALS, "principal: [User, Device],").replace(SITE, "site: Site,");
    Ok(match audience {
        Audience::Everybody => SCHEMA.to_owned(),
        Audience::Devices => members.replace(DEVICE, "device: Device,"),
        Audience::Users => members,
        Audience::Patients => SCHEMA.replace(PRINCIPALS, "principal: [Patient],").replace(DEVICE, "").replace(SITE, ""),
    })
}

fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_their_variants_say() {
        let vocabulary = Vocabulary::get().unwrap();
        for kind in Kind::ALL {
            let entity = vocabulary.entity(kind, "x");
            assert_eq!(entity.to_string(), format!("Sekisho::{}::\"x\"", kind.label()));
            assert_eq!(Kind::of(entity.type_name()), Some(kind));
        }
        for action in Action::ALL {
            assert_eq!(vocabulary.action(action).to_string(), format!("Sekisho::Action::\"{action}\""));
        }
        assert_eq!(Kind::of(&"Elsewhere::Site".parse().unwrap()), None);
    }

    #[test]
    fn the_schema_has_exactly_our_types_and_actions() {
        let vocabulary = Vocabulary::get().unwrap();
        let schema = vocabulary.schema_for(Audience::Everybody);
        assert_eq!(schema.actions().count(), Action::ALL.len());
        assert!(schema.entity_types().filter(|t| t.basename() != "Action").all(|t| Kind::of(t).is_some()));
        assert!(schema.is_complete());
    }
}
