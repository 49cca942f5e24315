//! Which parts of the context a policy reads. The decision cache rests on this: what no policy of a slice reads
//! cannot change the slice's decision.

use cedar_policy::Policy;
use cedar_policy::pst::{Clause, Expr, Literal, Policy as Tree, Var};

use super::schema::Kind;

/// A set of the context's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reads(u32);

impl Reads {
    pub(super) const NONE: Self = Self(0);
    pub(super) const TRANSPORT: Self = Self(1);
    pub(super) const TLS_VERSION: Self = Self(1 << 1);
    pub(super) const SOURCE: Self = Self(1 << 2);
    pub(super) const TIME: Self = Self(1 << 3);
    pub(super) const HOUR: Self = Self(1 << 4);
    pub(super) const WEEKDAY: Self = Self(1 << 5);
    pub(super) const AUTHENTICATION_LEVEL: Self = Self(1 << 6);
    pub(super) const DEVICE: Self = Self(1 << 7);
    pub(super) const SITE: Self = Self(1 << 8);
    pub(super) const METHOD: Self = Self(1 << 9);
    pub(super) const OPERATION: Self = Self(1 << 10);
    pub(super) const RESOURCE_TYPE: Self = Self(1 << 11);
    pub(super) const PATIENTS: Self = Self(1 << 12);
    /// Attributes of entities. Not of the context, and told by the key: they only say what must be built.
    pub(super) const ENTITY_ATTRIBUTES: Self = Self(1 << 13);
    pub(super) const AUTHENTICATION_AGE: Self = Self(1 << 14);
    pub(super) const ACTING_FOR: Self = Self(1 << 15);
    /// Everything, and possibly more: what the walk does not understand.
    pub(super) const ANYTHING: Self = Self(u32::MAX);

    /// What no cache key holds: time, and the request's own content.
    const VOLATILE: Self = Self(
        Self::TIME.0
            | Self::HOUR.0
            | Self::WEEKDAY.0
            | Self::AUTHENTICATION_AGE.0
            | Self::METHOD.0
            | Self::OPERATION.0
            | Self::RESOURCE_TYPE.0
            | Self::PATIENTS.0,
    );

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a decision that reads these may be found again.
    pub(super) const fn cacheable(self) -> bool {
        !self.has(Self::VOLATILE)
    }

    fn attribute(name: &str) -> Self {
        match name {
            "transport" => Self::TRANSPORT,
            "tls_version" => Self::TLS_VERSION,
            "source" => Self::SOURCE,
            "time" => Self::TIME,
            "hour" => Self::HOUR,
            "weekday" => Self::WEEKDAY,
            "authentication_level" => Self::AUTHENTICATION_LEVEL,
            "authentication_age" => Self::AUTHENTICATION_AGE,
            "acting_for" => Self::ACTING_FOR,
            "device" => Self::DEVICE,
            "site" => Self::SITE,
            "method" => Self::METHOD,
            "operation" => Self::OPERATION,
            "resource_type" => Self::RESOURCE_TYPE,
            "patients" => Self::PATIENTS,
            _ => Self::ANYTHING,
        }
    }

    /// What the conditions of a policy read.
    pub(super) fn of(policy: &Policy) -> Self {
        match policy.to_pst() {
            Ok(Tree::Static(tree)) => tree.body().clauses().iter().fold(Self::NONE, |reads, clause| match clause {
                Clause::When(condition) | Clause::Unless(condition) => reads.with(Self::of_expression(condition)),
            }),
            Ok(_) | Err(_) => Self::ANYTHING,
        }
    }

    /// Walks without recursion: policies are bounded in size, not in depth.
    fn of_expression(root: &Expr) -> Self {
        let mut reads = Self::NONE;
        let mut open = vec![root];
        while let Some(expression) = open.pop() {
            match expression {
                Expr::GetAttr { expr, attr } if is_context(expr) => reads = reads.with(Self::attribute(attr)),
                Expr::HasAttr { expr, attrs } if is_context(expr) => reads = reads.with(Self::attribute(&attrs.head)),
                // The context as a whole, other than to take one attribute of it.
                Expr::Var(Var::Context) => return Self::ANYTHING,
                // A device written out may be the request's own, and a user the one who is acted for.
                Expr::Literal(Literal::EntityUID(uid)) if uid.ty.0.id.as_str() == Kind::Device.label() => {
                    reads = reads.with(Self::DEVICE);
                }
                Expr::Literal(Literal::EntityUID(uid)) if uid.ty.0.id.as_str() == Kind::User.label() => {
                    reads = reads.with(Self::ACTING_FOR);
                }
                Expr::GetAttr { .. } | Expr::HasAttr { .. } => {
                    reads = reads.with(Self::ENTITY_ATTRIBUTES);
                    descend(expression, &mut open);
                }
                Expr::Var(_)
                | Expr::Literal(_)
                | Expr::UnaryOp { .. }
                | Expr::Like { .. }
                | Expr::BinaryOp { .. }
                | Expr::Is { .. }
                | Expr::IfThenElse { .. }
                | Expr::Set(_)
                | Expr::Record(_) => descend(expression, &mut open),
                // Nothing that a policy can contain, and whatever Cedar learns one day.
                Expr::Slot(_) | Expr::Unknown { .. } | _ => return Self::ANYTHING,
            }
        }
        reads
    }
}

/// Whole numbers that the conditions of a policy name; none where its tree is not understood.
pub(super) fn numbers(policy: &Policy) -> Vec<i64> {
    let Ok(Tree::Static(tree)) = policy.to_pst() else { return Vec::new() };
    let mut numbers = Vec::new();
    let mut open: Vec<&Expr> = tree
        .body()
        .clauses()
        .iter()
        .map(|clause| match clause {
            Clause::When(condition) | Clause::Unless(condition) => &**condition,
        })
        .collect();
    while let Some(expression) = open.pop() {
        if let Expr::Literal(Literal::Long(number)) = expression {
            numbers.push(*number);
        }
        descend(expression, &mut open);
    }
    numbers
}

/// Opens the parts of an expression; none where it is not understood.
fn descend<'a>(expression: &'a Expr, open: &mut Vec<&'a Expr>) {
    match expression {
        Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::UnaryOp { expr, .. }
        | Expr::Like { expr, .. } => open.push(expr),
        Expr::BinaryOp { left, right, .. } => open.extend([&**left, &**right]),
        Expr::Is { expr, in_expr, .. } => {
            open.push(expr);
            open.extend(in_expr.as_deref());
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => open.extend([&**cond, &**then_expr, &**else_expr]),
        Expr::Set(items) => open.extend(items.iter().map(|item| &**item)),
        Expr::Record(fields) => open.extend(fields.values().map(|field| &**field)),
        Expr::Var(_) | Expr::Literal(_) | Expr::Slot(_) | Expr::Unknown { .. } | _ => {}
    }
}

fn is_context(expression: &Expr) -> bool {
    matches!(expression, Expr::Var(Var::Context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Reads {
        let text = format!("permit(principal, action, resource) {condition};");
        Reads::of(&Policy::parse(None, text).unwrap())
    }

    #[test]
    fn every_mention_is_found_wherever_it_stands() {
        assert_eq!(reads(""), Reads::NONE);
        assert_eq!(reads("when { principal.name like \"a*\" || resource has name }"), Reads::ENTITY_ATTRIBUTES);
        assert_eq!(reads("when { context.source.isLoopback() }"), Reads::SOURCE);
        assert_eq!(reads("when { Sekisho::Device::\"s/d\" in principal }"), Reads::DEVICE);
        assert_eq!(reads("when { Sekisho::User::\"s/u\" in principal }"), Reads::ACTING_FOR);
        assert_eq!(reads("when { context.authentication_age < 300 }"), Reads::AUTHENTICATION_AGE);
        assert_eq!(reads("unless { context has acting_for }"), Reads::ACTING_FOR);
        assert_eq!(reads("unless { context has tls_version }"), Reads::TLS_VERSION);
        assert_eq!(reads("when { context[\"hour\"] > 3 }"), Reads::HOUR);
        assert_eq!(
            reads("when { context.device.site == context.site }"),
            Reads::DEVICE.with(Reads::SITE).with(Reads::ENTITY_ATTRIBUTES)
        );
        assert_eq!(
            reads("when { if [context.transport].contains(\"tls\") then {a: context.weekday}.a > 1 else false }"),
            Reads::TRANSPORT.with(Reads::WEEKDAY).with(Reads::ENTITY_ATTRIBUTES)
        );
        assert_eq!(
            reads("when { principal is Sekisho::User in context.site } unless { context.patients.isEmpty() }"),
            Reads::SITE.with(Reads::PATIENTS)
        );
    }

    #[test]
    fn what_is_not_understood_counts_as_everything() {
        assert_eq!(reads("when { context == {} }"), Reads::ANYTHING);
        assert_eq!(reads("when { [context].isEmpty() }"), Reads::ANYTHING);
        assert_eq!(reads("when { context.novelty }"), Reads::ANYTHING);
        assert!(!Reads::ANYTHING.cacheable());
    }

    #[test]
    fn time_and_content_are_never_cached() {
        for name in
            ["time", "hour", "weekday", "authentication_age", "method", "operation", "resource_type", "patients"]
        {
            assert!(!Reads::attribute(name).cacheable(), "{name}");
        }
        for name in ["transport", "tls_version", "source", "authentication_level", "acting_for", "device", "site"] {
            assert!(Reads::attribute(name).cacheable(), "{name}");
        }
    }

    #[test]
    fn numbers_are_found_wherever_they_stand() {
        let text = "permit(principal, action, resource) when { context.authentication_age <= 300 } unless { [7].contains(-1) };";
        let mut found = numbers(&Policy::parse(None, text).unwrap());
        found.sort_unstable();
        assert_eq!(found.into_iter().filter(|number| *number > 1).collect::<Vec<_>>(), [7, 300]);
    }
}
