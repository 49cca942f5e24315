//! FHIR's RESTful interface: what a method and a path below the service base do (FHIR R4 section 3.1.0, `http.html`).
//!
//! A path that the specification does not know is no route's: closed by default, opened by a rule. OPTIONS asks for
//! capabilities and is a read.

use std::borrow::Cow;

use super::{Meaning, Method};
use crate::{Action, Effect, Refusal};

/// FHIR operations that a GET may call without changing anything, unless the route lists its own. By the definitions
/// of R4 they have `affectsState` false. Left out on purpose: `document` (can persist what it makes), `export`
/// (starts a job), `match` (POST only), `graphql` (can mutate) and `meta-add` and the like.
pub const READ_ONLY_OPERATIONS: &[&str] =
    &["everything", "expand", "lastn", "lookup", "meta", "stats", "subsumes", "translate", "validate", "validate-code"];

/// What the request means, by the shape of its path.
pub(super) fn meaning(
    method: Method,
    segments: &[Cow<'_, str>],
    is_read_only_operation: impl FnOnce(&str) -> bool,
) -> Result<Meaning, Refusal> {
    let type_at = segments.first().filter(|first| is_resource_type(first)).map(|_| 0);
    let patient_at = match segments {
        [kind, id, ..] if kind == "Patient" && !is_special(id) => Some(1),
        _ => None,
    };
    // An operation may stand anywhere; with anything after its name it is none that is known to be harmless.
    if let Some((position, name)) =
        segments.iter().enumerate().find_map(|(at, segment)| segment.strip_prefix('$').map(|name| (at, name)))
    {
        let harmless = method.fetches() && position + 1 == segments.len() && is_read_only_operation(name);
        let effect = if harmless { Effect::ReadOnly } else { Effect::Changing };
        let operation_at = Some(position);
        return Ok(Meaning { type_at, patient_at, operation_at, ..Meaning::new(Action::Operate, effect) });
    }
    let interaction = interaction(segments).ok_or(Refusal::RouteUnknown)?;
    // In a compartment the resources found are those of the last type, not of the compartment's.
    let type_at = if segments.get(2).is_some_and(|kind| is_resource_type(kind)) { Some(2) } else { type_at };
    let (action, effect) = action(interaction, method).ok_or(Refusal::MethodNotAllowed)?;
    Ok(Meaning { type_at, patient_at, ..Meaning::new(action, effect) })
}

/// What a path addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interaction {
    /// The service base: search across types, batch and transaction.
    Base,
    /// What the server can do.
    Capabilities,
    /// All resources of a type.
    Type,
    /// One resource.
    Instance,
    /// A search whose parameters stand in query and body.
    SearchForm,
    /// What happened to several resources.
    History,
    /// What happened to one resource, or one version of it.
    InstanceHistory,
    /// The resources of a type within a compartment.
    Compartment,
}

fn interaction(segments: &[Cow<'_, str>]) -> Option<Interaction> {
    let mut names = [""; 4];
    if segments.len() > names.len() {
        return None;
    }
    for (name, segment) in names.iter_mut().zip(segments) {
        *name = segment;
    }
    // No segment is empty, so an empty name is one that is not there.
    match names {
        ["", "", "", ""] => Some(Interaction::Base),
        ["metadata", "", "", ""] => Some(Interaction::Capabilities),
        [".well-known", name, "", ""] if !name.is_empty() => Some(Interaction::Capabilities),
        ["_search", "", "", ""] => Some(Interaction::SearchForm),
        ["_history", "", "", ""] => Some(Interaction::History),
        [kind, ..] if !is_resource_type(kind) => None,
        [_, "", "", ""] => Some(Interaction::Type),
        [_, "_search", "", ""] => Some(Interaction::SearchForm),
        [_, "_history", "", ""] => Some(Interaction::History),
        [_, id, ..] if is_special(id) => None,
        [_, _, "", ""] => Some(Interaction::Instance),
        [_, _, "_history", version] if !is_special(version) => Some(Interaction::InstanceHistory),
        [_, _, "_search", ""] => Some(Interaction::SearchForm),
        [_, _, "*", ""] => Some(Interaction::Compartment),
        [_, _, kind, ""] if is_resource_type(kind) => Some(Interaction::Compartment),
        [_, _, kind, "_search"] if is_resource_type(kind) => Some(Interaction::SearchForm),
        _ => None,
    }
}

fn action(interaction: Interaction, method: Method) -> Option<(Action, Effect)> {
    use Interaction as I;
    let read = (Action::Read, Effect::ReadOnly);
    let search = (Action::Search, Effect::ReadOnly);
    match method {
        Method::Options => Some(read),
        Method::Get | Method::Head => Some(match interaction {
            I::Capabilities | I::Instance | I::InstanceHistory => read,
            I::Base | I::Type | I::SearchForm | I::History | I::Compartment => search,
        }),
        Method::Post => match interaction {
            I::Base => Some((Action::Operate, Effect::Changing)),
            I::Type => Some((Action::Create, Effect::Changing)),
            I::SearchForm => Some(search),
            I::Capabilities | I::Instance | I::History | I::InstanceHistory | I::Compartment => None,
        },
        Method::Put | Method::Patch => match interaction {
            I::Type | I::Instance => Some((Action::Update, Effect::Changing)),
            I::Base | I::Capabilities | I::SearchForm | I::History | I::InstanceHistory | I::Compartment => None,
        },
        // Deleting at the base and deleting history came with R6.
        Method::Delete => match interaction {
            I::Base | I::Type | I::Instance | I::InstanceHistory => Some((Action::Delete, Effect::Changing)),
            I::Capabilities | I::SearchForm | I::History | I::Compartment => None,
        },
    }
}

/// Resource types are UpperCamelCase words of ASCII letters.
fn is_resource_type(segment: &str) -> bool {
    segment.starts_with(|first: char| first.is_ascii_uppercase())
        && segment.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Names of FHIR's own among ids: `_history`, `_search`, `$everything`.
fn is_special(segment: &str) -> bool {
    segment.starts_with(['_', '$'])
}
