//! From one file's text to named policies.

use cedar_policy::{Policy, PolicyId, PolicySet};

use super::audience::Audience;
use super::bounds::too_complex;
use super::problem::{position, problem_at, problem_of};
use super::{MAX_POLICY_NAME_LENGTH, PolicyName, Problem};

/// One file of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The file's name, as errors and unnamed policies show it.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// A policy on its way into the set.
pub(super) struct Loaded {
    pub(super) policy: Policy,
    pub(super) name: PolicyName,
    pub(super) audience: Audience,
    pub(super) source: usize,
    pub(super) line: usize,
}

pub(super) fn parse(index: usize, source: &PolicySource, problems: &mut Vec<Problem>) -> Vec<Loaded> {
    if let Some((offset, message)) = too_complex(&source.text) {
        problems.push(problem_at(source, offset, message));
        return Vec::new();
    }
    let set = match source.text.parse::<PolicySet>() {
        Ok(set) => set,
        Err(errors) => {
            problems.extend(errors.iter().map(|error| problem_of(source, 0, error)));
            return Vec::new();
        }
    };
    // Cedar names the statements of a text `policy0`, `policy1` and so on, templates included.
    let place =
        |id: &PolicyId| id.to_string().strip_prefix("policy").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let mut statements: Vec<(usize, String, Option<Policy>, Option<String>)> = Vec::new();
    for policy in set.policies() {
        let id = policy.annotation("id").map(str::to_owned);
        statements.push((place(policy.id()), policy.to_string(), Some(policy.clone()), id));
    }
    for template in set.templates() {
        let id = template.annotation("id").map(str::to_owned);
        statements.push((place(template.id()), template.to_string(), None, id));
    }
    statements.sort_by_key(|(place, ..)| *place);

    let mut loaded = Vec::new();
    let mut cursor = 0;
    for (place, text, policy, id) in statements {
        // Statements show as they were written: the next occurrence is this one.
        let offset = source.text.get(cursor..).and_then(|rest| rest.find(&text)).map_or(cursor, |at| cursor + at);
        cursor = (offset + text.len()).min(source.text.len());
        let shown = id.clone().unwrap_or_else(|| format!("{}#{}", source.file, place + 1));
        let Some(policy) = policy else {
            let message = format!(
                "`{}` is a template, which nothing links: write the entity instead of the slot",
                shown.escape_debug()
            );
            problems.push(problem_at(source, offset, message));
            continue;
        };
        let name = PolicyName::new(&shown).or_else(|| {
            // A file's name may have characters that a policy's may not.
            id.is_none().then(|| PolicyName::new(&format!("file{index}#{}", place + 1))).flatten()
        });
        let Some(name) = name else {
            let message = format!(
                "`{}` is not a policy name: 1 to {MAX_POLICY_NAME_LENGTH} bytes of letters, digits and `-_.:/#`",
                shown.escape_debug()
            );
            problems.push(problem_at(source, offset, message));
            continue;
        };
        let audience = match Audience::of(&policy) {
            Ok(audience) => audience,
            Err(message) => {
                problems.push(problem_at(source, offset, format!("policy `{name}`: {message}")));
                continue;
            }
        };
        let line = position(&source.text, offset).0;
        loaded.push(Loaded {
            policy: policy.new_id(PolicyId::new(name.as_str())),
            name,
            audience,
            source: index,
            line,
        });
    }
    loaded
}
