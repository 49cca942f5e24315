//! From texts to a judge: parse, name, validate strictly, and report everything that is wrong at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{Authorizer, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use super::audience::Audience;
use super::bounds::{MAX_POLICIES, check_sizes};
use super::parse::{Loaded, parse};
use super::problem::problem_of;
use super::reads::Reads;
use super::schema::Vocabulary;
use super::scope::Scope;
use super::step_up::ages;
use super::{Judge, LoadError, PolicyName, PolicySource, Problem, Rule, forbids};
use crate::Action;

static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

/// The clinic's clock as policies read it: a fixed number of minutes east of UTC. Japan has no summer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcOffset(i16);

impl UtcOffset {
    /// Japan Standard Time, UTC+09:00.
    pub const JST: Self = Self(540);

    /// `None` beyond 14 hours east or 12 hours west, where no clock on earth is.
    #[must_use]
    pub const fn from_minutes(minutes: i16) -> Option<Self> {
        if minutes >= -720 && minutes <= 840 { Some(Self(minutes)) } else { None }
    }

    /// Minutes east of UTC.
    #[must_use]
    pub const fn minutes(self) -> i16 {
        self.0
    }
}

/// What the configuration says about judging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgeOptions {
    /// What `context.hour` and `context.weekday` are reckoned in.
    pub utc_offset: UtcOffset,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self { utc_offset: UtcOffset::JST }
    }
}

impl Judge {
    /// Loads a policy set. No policy at all is a legal set, which denies everything.
    ///
    /// # Errors
    /// [`LoadError`] if the set is larger than [`MAX_FILES`](super::MAX_FILES),
    /// [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES), [`MAX_TOTAL_BYTES`](super::MAX_TOTAL_BYTES) or [`MAX_POLICIES`], or
    /// more deeply nested than Cedar can evaluate; if a file does not parse, a policy has a slot, a bad name or the name of another,
    /// or an annotation `@device` or `@principal` that means nothing; or if strict validation against
    /// [`SCHEMA`](super::SCHEMA), narrowed to the subjects that the policy is for, fails.
    pub fn load(sources: Vec<PolicySource>, options: JudgeOptions) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        check_sizes(&sources, &mut problems);
        if !problems.is_empty() {
            return Err(LoadError { problems });
        }
        let vocabulary = Vocabulary::get().map_err(|error| LoadError {
            problems: vec![Problem { file: "schema".to_owned(), line: 0, column: 0, message: error.to_string() }],
        })?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            loaded.extend(parse(index, source, &mut problems));
        }
        let sets = gather(&sources, &loaded, &mut problems);
        let warnings = validate(vocabulary, &sources, &loaded, &sets, &mut problems);
        if !problems.is_empty() {
            problems.sort();
            // Cedar says the same once for each action.
            problems.dedup_by(|b, a| (&a.file, a.line, a.column) == (&b.file, b.line, b.column));
            return Err(LoadError { problems });
        }
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        let files: Vec<Arc<str>> = sources.iter().map(|source| Arc::from(source.file.as_str())).collect();
        let rules: Box<[Rule]> = loaded.into_iter().filter_map(|loaded| rule(loaded, &files)).collect();
        let by_action = Action::ALL.map(|action| {
            rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.scope.takes_action(action))
                .map(|(index, _)| index)
                .collect()
        });
        Ok(Self {
            version: NEXT_VERSION.fetch_add(1, Ordering::Relaxed),
            offset: options.utc_offset,
            vocabulary,
            authorizer: Authorizer::new(),
            rules,
            by_action,
            warnings,
        })
    }
}

fn rule(loaded: Loaded, files: &[Arc<str>]) -> Option<Rule> {
    let Loaded { policy, name, audience, source, line } = loaded;
    Some(Rule {
        name,
        file: Arc::clone(files.get(source)?),
        line,
        forbids: forbids(policy.effect()),
        conditional: policy.has_non_scope_constraint(),
        audience,
        scope: Scope::of(&policy),
        reads: Reads::of(&policy),
        ages: ages(&policy),
        alone: PolicySet::from_policies([policy]).ok()?,
    })
}

/// The policies of each audience in one set.
fn gather(
    sources: &[PolicySource],
    loaded: &[Loaded],
    problems: &mut Vec<Problem>,
) -> [(Audience, PolicySet); Audience::ALL.len()] {
    let mut sets = Audience::ALL.map(|audience| (audience, PolicySet::new()));
    let mut seen: HashMap<&PolicyName, &Loaded> = HashMap::new();
    let mut at = |loaded: &Loaded, message: String| {
        let file = sources.get(loaded.source).map_or_else(String::new, |source| source.file.clone());
        problems.push(Problem { file, line: loaded.line, column: 1, message });
    };
    if let Some(beyond) = loaded.get(MAX_POLICIES) {
        at(beyond, format!("{} policies, at most {MAX_POLICIES} are taken", loaded.len()));
    }
    for policy in loaded {
        if let Some(first) = seen.get(&policy.name) {
            let file = sources.get(first.source).map_or("", |source| source.file.as_str());
            at(policy, format!("policy `{}` has the name of another, at {file}:{}", policy.name, first.line));
            continue;
        }
        seen.insert(&policy.name, policy);
        let own = sets.iter_mut().find(|(audience, _)| *audience == policy.audience);
        if let Some((_, set)) = own
            && let Err(error) = set.add(policy.policy.clone())
        {
            at(policy, error.to_string());
        }
    }
    sets
}

/// Each policy is validated against the subjects that it is for: what is always there for them needs no `has`.
fn validate(
    vocabulary: &Vocabulary,
    sources: &[PolicySource],
    loaded: &[Loaded],
    sets: &[(Audience, PolicySet)],
    problems: &mut Vec<Problem>,
) -> Vec<Problem> {
    let by_name: HashMap<&str, &Loaded> = loaded.iter().map(|loaded| (loaded.name.as_str(), loaded)).collect();
    let locate = |id: &PolicyId, diagnostic: &dyn Diagnostic| {
        let unknown = || Problem { file: id.to_string(), line: 0, column: 0, message: diagnostic.to_string() };
        let Some(loaded) = by_name.get(AsRef::<str>::as_ref(id)) else { return unknown() };
        let Some(source) = sources.get(loaded.source) else { return unknown() };
        let line_start = source.text.match_indices('\n').nth(loaded.line.wrapping_sub(2)).map_or(0, |(at, _)| at + 1);
        problem_of(source, line_start, diagnostic)
    };
    let mut warnings = Vec::new();
    for (audience, set) in sets {
        let validator = Validator::new(vocabulary.schema_for(*audience).clone());
        let result = validator.validate(set, ValidationMode::Strict);
        problems.extend(result.validation_errors().map(|error| locate(error.policy_id(), error)));
        warnings.extend(result.validation_warnings().map(|warning| locate(warning.policy_id(), warning)));
    }
    warnings.sort();
    warnings
}
