//! Why a request is decided as it is, and what was missing.

use std::fmt;

use cedar_policy::pst::{BinaryOp, Clause, Expr, Policy as Tree, UnaryOp};
use cedar_policy::{EvalResult, Expression, Policy, eval_expression};

use super::audience::Audience;
use super::reads::Reads;
use super::scope::Match;
use super::world::World;
use super::{Judge, PolicyName, Request, Rule, StepUp};
use crate::{Refusal, Subject};

/// A decision laid open. For operators only: it shows the policies' text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `None` where the request is permitted.
    pub refusal: Option<Refusal>,
    /// The policies that decided, as the record names them.
    pub policies: Vec<PolicyName>,
    /// What would have to be proved for it to be permitted, where that is all that is missing.
    pub step_up: Option<StepUp>,
    /// Every policy, in order of names.
    pub findings: Vec<Finding>,
}

/// What one policy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which policy.
    pub policy: PolicyName,
    /// Its file.
    pub file: String,
    /// The line it starts on, from 1.
    pub line: usize,
    /// Whether it forbids; otherwise it permits.
    pub forbids: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It applies: it permits, or forbids.
    Satisfied,
    /// It does not apply, for these reasons.
    Missing(Vec<Missing>),
    /// It could not be evaluated, for this reason.
    Failed(String),
}

/// Why a policy does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The policy is for other subjects: what would have to be there instead.
    Audience(&'static str),
    /// The scope asks for another principal, in this text: `principal in Sekisho::Role::"doctor"`.
    Principal(String),
    /// The scope asks for another action.
    Action(String),
    /// The scope asks for another resource.
    Resource(String),
    /// This part of a `when` is false.
    When(String),
    /// This `unless` is true.
    Unless(String),
    /// Some condition is not met, and which one cannot be said.
    Condition,
}

impl Judge {
    /// Explains a request. Slow: evaluates every policy, bit by bit, past the cache.
    #[must_use]
    pub fn explain(&self, subject: &Subject, request: &Request<'_>) -> Explanation {
        let (verdict, _) = self.evaluate(subject, request);
        let world = World::new(self.vocabulary, self.offset, subject, request, Reads::ANYTHING);
        let findings = self.rules.iter().map(|rule| Finding {
            policy: rule.name.clone(),
            file: rule.file.to_string(),
            line: rule.line,
            forbids: rule.forbids,
            outcome: match &world {
                Ok(world) => self.outcome(rule, subject, world, rule.scope.matching(subject, request)),
                Err(error) => Outcome::Failed(error.to_string()),
            },
        });
        Explanation {
            refusal: verdict.refusal,
            policies: verdict.policies.iter().cloned().collect(),
            step_up: verdict.step_up,
            findings: findings.collect(),
        }
    }

    fn outcome(&self, rule: &Rule, subject: &Subject, world: &World, scope: Match) -> Outcome {
        let Some(policy) = rule.alone.policies().next() else { return Outcome::Missing(vec![Missing::Condition]) };
        let mut missing = Vec::new();
        if !rule.audience.takes(subject) {
            missing.push(Missing::Audience(Audience::lacks(subject)));
        }
        let is_asked = missing.is_empty() && scope.whole();
        missing.extend(scope_missing(policy, scope));
        if is_asked {
            let response = self.authorizer.is_authorized(&world.request, &rule.alone, &world.entities);
            let failure = response.diagnostics().errors().next().map(ToString::to_string);
            if let Some(error) = failure {
                return Outcome::Failed(error);
            }
            if response.diagnostics().reason().next().is_some() {
                return Outcome::Satisfied;
            }
        }
        missing.extend(conditions_missing(policy, world));
        if missing.is_empty() {
            missing.push(Missing::Condition);
        }
        Outcome::Missing(missing)
    }
}

fn tree(policy: &Policy) -> Option<cedar_policy::pst::StaticPolicy> {
    match policy.to_pst() {
        Ok(Tree::Static(tree)) => Some(tree),
        Ok(_) | Err(_) => None,
    }
}

fn scope_missing(policy: &Policy, scope: Match) -> Vec<Missing> {
    let Some(tree) = tree(policy) else { return vec![Missing::Condition] };
    let body = tree.body();
    let mut missing = Vec::new();
    if !scope.principal {
        missing.push(Missing::Principal(format!("principal {}", body.principal)));
    }
    if !scope.action {
        missing.push(Missing::Action(format!("action {}", body.action)));
    }
    if !scope.resource {
        missing.push(Missing::Resource(format!("resource {}", body.resource)));
    }
    missing
}

/// The conditions that are not met. Each is evaluated alone, so one that errs without its neighbours (a guarded
/// `context has …`) is left out: the neighbour is named.
fn conditions_missing(policy: &Policy, world: &World) -> Vec<Missing> {
    let Some(tree) = tree(policy) else { return Vec::new() };
    let mut missing = Vec::new();
    for clause in tree.body().clauses() {
        match clause {
            Clause::When(condition) => {
                let unmet = conjuncts(condition).into_iter().filter(|part| holds(part, world) == Some(false));
                missing.extend(unmet.map(|part| Missing::When(part.to_string())));
            }
            Clause::Unless(condition) if holds(condition, world) == Some(true) => {
                missing.push(Missing::Unless(condition.to_string()));
            }
            Clause::Unless(_) => {}
        }
    }
    missing
}

/// The parts of `a && b && c`, in order.
fn conjuncts(root: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    let mut open = vec![root];
    while let Some(expression) = open.pop() {
        if let Expr::BinaryOp { op: BinaryOp::And, left, right } = expression {
            open.extend([&**right, &**left]);
        } else {
            parts.push(expression);
        }
    }
    parts
}

fn holds(expression: &Expr, world: &World) -> Option<bool> {
    if let Expr::UnaryOp { op: UnaryOp::Not, expr } = expression {
        return holds(expr, world).map(|truth| !truth);
    }
    let expression: Expression = expression.to_string().parse().ok()?;
    match eval_expression(&world.request, &world.entities, &expression) {
        Ok(EvalResult::Bool(truth)) => Some(truth),
        Ok(_) | Err(_) => None,
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audience(text) => write!(f, "needs {text}"),
            Self::Principal(text) | Self::Action(text) | Self::Resource(text) => write!(f, "needs {text}"),
            Self::When(text) => write!(f, "needs {text}, which is false"),
            Self::Unless(text) => write!(f, "does not apply when {text}, which is true"),
            Self::Condition => f.write_str("a condition is not met"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refusal {
            None => f.write_str("permit")?,
            Some(refusal) => write!(f, "deny ({refusal})")?,
        }
        if !self.policies.is_empty() {
            let names: Vec<&str> = self.policies.iter().map(PolicyName::as_str).collect();
            write!(f, ", decided by {}", names.join(", "))?;
        }
        writeln!(f)?;
        if let Some(StepUp { level, max_age_s }) = self.step_up {
            let within = max_age_s.map_or(String::new(), |seconds| format!(" proved within {seconds} s"));
            writeln!(f, "  a user at authentication level {}{within} may be permitted", level.level())?;
        }
        // What applies first, then what comes nearest to it.
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| match &finding.outcome {
            Outcome::Satisfied | Outcome::Failed(_) => 0,
            Outcome::Missing(missing) => missing.len(),
        });
        for finding in findings {
            let effect = if finding.forbids { "forbid" } else { "permit" };
            let Finding { policy, file, line, .. } = finding;
            match &finding.outcome {
                Outcome::Satisfied => writeln!(f, "  {effect} {policy} ({file}:{line}): applies")?,
                Outcome::Failed(error) => writeln!(f, "  {effect} {policy} ({file}:{line}): failed: {error}")?,
                // A forbid that does not apply is nothing that is missing.
                Outcome::Missing(_) if finding.forbids => {}
                Outcome::Missing(missing) => {
                    writeln!(f, "  {effect} {policy} ({file}:{line}): does not apply")?;
                    missing.iter().try_for_each(|missing| writeln!(f, "    {missing}"))?;
                }
            }
        }
        Ok(())
    }
}
