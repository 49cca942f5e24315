//! From texts to a judge: parse, name, validate strictly, and report everything that is wrong at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use super::reads::Reads;
use super::schema::Vocabulary;
use super::scope::Scope;
use super::{Judge, MAX_POLICY_NAME_LENGTH, PolicyName, Rule, forbids};
use crate::Action;

/// Most files of one policy set.
pub const MAX_FILES: usize = 256;
/// Most bytes of one file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Most bytes of all files together.
pub const MAX_TOTAL_BYTES: usize = 2 * 1024 * 1024;
/// Most policies of one policy set.
pub const MAX_POLICIES: usize = 4096;
/// Deepest nesting of brackets. Cedar's own recursion is bounded by the stack of whoever loads.
const MAX_NESTING: usize = 64;
/// Most bytes of one policy: a chain of operators is as deep as it is long.
const MAX_POLICY_BYTES: usize = 16 * 1024;

static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

/// One file of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The file's name, as errors and unnamed policies show it.
    pub file: String,
    /// Its text.
    pub text: String,
}

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

/// One thing wrong with a policy set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
        }
    }
}

/// Why a policy set is refused: every problem of every file, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// In order of file, line and column.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// A policy on its way into the set.
struct Loaded {
    policy: Policy,
    name: PolicyName,
    source: usize,
    line: usize,
}

impl Judge {
    /// Loads a policy set. No policy at all is a legal set, which denies everything.
    ///
    /// # Errors
    /// [`LoadError`] if the set is larger than [`MAX_FILES`], [`MAX_FILE_BYTES`], [`MAX_TOTAL_BYTES`] or
    /// [`MAX_POLICIES`]; if a file does not parse, a policy has a slot, a bad name or the name of another; or if
    /// strict validation against [`SCHEMA`](super::SCHEMA) fails.
    pub fn load(sources: Vec<PolicySource>, options: JudgeOptions) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        check_sizes(&sources, &mut problems);
        if !problems.is_empty() {
            return Err(LoadError { problems });
        }
        let vocabulary = Vocabulary::new().map_err(|error| LoadError {
            problems: vec![Problem { file: "schema".to_owned(), line: 0, column: 0, message: error.to_string() }],
        })?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            loaded.extend(parse(index, source, &mut problems));
        }
        let whole = gather(&sources, &loaded, &mut problems);
        let warnings = validate(&vocabulary, &sources, &loaded, &whole, &mut problems);
        if !problems.is_empty() {
            problems.sort();
            problems.dedup();
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
    let Loaded { policy, name, source, line } = loaded;
    Some(Rule {
        name,
        file: Arc::clone(files.get(source)?),
        line,
        forbids: forbids(policy.effect()),
        conditional: policy.has_non_scope_constraint(),
        scope: Scope::of(&policy),
        reads: Reads::of(&policy),
        alone: PolicySet::from_policies([policy]).ok()?,
    })
}

fn check_sizes(sources: &[PolicySource], problems: &mut Vec<Problem>) {
    let mut whole = |file: &str, message: String| {
        problems.push(Problem { file: file.to_owned(), line: 0, column: 0, message });
    };
    if sources.len() > MAX_FILES {
        whole("policies", format!("{} files, at most {MAX_FILES} are taken", sources.len()));
    }
    let total: usize = sources.iter().map(|source| source.text.len()).sum();
    if total > MAX_TOTAL_BYTES {
        whole("policies", format!("{total} bytes, at most {MAX_TOTAL_BYTES} are taken"));
    }
    for source in sources {
        if source.text.len() > MAX_FILE_BYTES {
            whole(&source.file, format!("{} bytes, at most {MAX_FILE_BYTES} are taken", source.text.len()));
        }
    }
}

/// Line and column, from 1, of a byte of a text.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    (before.matches('\n').count() + 1, column)
}

fn problem_at(source: &PolicySource, offset: usize, message: String) -> Problem {
    let (line, column) = position(&source.text, offset);
    Problem { file: source.file.clone(), line, column, message }
}

/// Cedar's message with its label and its help, at the first byte it points to.
fn problem_of(source: &PolicySource, fallback: usize, diagnostic: &dyn Diagnostic) -> Problem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let mut message = diagnostic.to_string();
    for more in
        [label.as_ref().and_then(|label| label.label()).map(str::to_owned), diagnostic.help().map(|h| h.to_string())]
    {
        if let Some(more) = more {
            message.push_str("; ");
            message.push_str(&more);
        }
    }
    problem_at(source, label.map_or(fallback, |label| label.offset()), message)
}

fn parse(index: usize, source: &PolicySource, problems: &mut Vec<Problem>) -> Vec<Loaded> {
    if let Some(offset) = too_deep(&source.text) {
        problems.push(problem_at(source, offset, format!("brackets nest deeper than {MAX_NESTING}")));
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
        if text.len() > MAX_POLICY_BYTES {
            let message = format!(
                "policy `{}` has {} bytes, at most {MAX_POLICY_BYTES} are taken",
                shown.escape_debug(),
                text.len()
            );
            problems.push(problem_at(source, offset, message));
            continue;
        }
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
        let line = position(&source.text, offset).0;
        loaded.push(Loaded { policy: policy.new_id(PolicyId::new(name.as_str())), name, source: index, line });
    }
    loaded
}

/// Where brackets nest too deep, comments and strings aside.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes().enumerate().peekable();
    let mut in_string = false;
    while let Some((offset, byte)) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, next)| *next != b'\n').is_some() {}
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Some(offset);
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// All policies in one set, as validation and the reference of the property test want them.
fn gather(sources: &[PolicySource], loaded: &[Loaded], problems: &mut Vec<Problem>) -> PolicySet {
    let mut whole = PolicySet::new();
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
        if let Err(error) = whole.add(policy.policy.clone()) {
            at(policy, error.to_string());
        }
    }
    whole
}

fn validate(
    vocabulary: &Vocabulary,
    sources: &[PolicySource],
    loaded: &[Loaded],
    whole: &PolicySet,
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
    let result = Validator::new(vocabulary.schema.clone()).validate(whole, ValidationMode::Strict);
    problems.extend(result.validation_errors().map(|error| locate(error.policy_id(), error)));
    let mut warnings: Vec<Problem> =
        result.validation_warnings().map(|warning| locate(warning.policy_id(), warning)).collect();
    warnings.sort();
    warnings
}
