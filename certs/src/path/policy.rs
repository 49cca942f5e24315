//! Certificate policies (RFC 5280 6.1.2 to 6.1.5) by the policy graph of RFC 9618, whose size is bounded by what the
//! certificates list: the tree of RFC 5280 doubles with every certificate that an attacker adds.

use std::collections::BTreeSet;

use super::certificate::Certificate;
use super::extensions::ANY_POLICY;

type Oid<'a> = &'a [u8];

/// Which policies a path must have. Object identifiers are their DER contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// The policies that are accepted; empty means any (`user-initial-policy-set`).
    pub accepted: Vec<Vec<u8>>,
    /// The path must be valid for at least one of them (`initial-explicit-policy`).
    pub explicit: bool,
    /// A CA's mapping of one policy to another counts for nothing (`initial-policy-mapping-inhibit`).
    pub inhibit_mapping: bool,
    /// `anyPolicy` counts for nothing (`initial-any-policy-inhibit`).
    pub inhibit_any: bool,
}

/// A node; its policy is unique in its level.
#[derive(Debug)]
struct Node<'a> {
    policy: Oid<'a>,
    expected: Vec<Oid<'a>>,
    /// Indices in the level above.
    parents: Vec<usize>,
}

/// The state of the algorithm while it goes down a path.
#[derive(Debug)]
pub(crate) struct Policies<'a> {
    /// One level for every certificate; `None` is the NULL graph.
    levels: Option<Vec<Vec<Node<'a>>>>,
    explicit: usize,
    mapping: usize,
    any: usize,
}

/// No policy is left, and one was demanded; or a CA maps what must not be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAccepted(pub(crate) &'static str);

impl<'a> Policies<'a> {
    /// For a path of `length` certificates below the anchor.
    pub(crate) fn new(settings: &PolicySettings, length: usize) -> Self {
        let unless = |inhibited: bool| if inhibited { 0 } else { length + 1 };
        let root = Node { policy: ANY_POLICY, expected: vec![ANY_POLICY], parents: Vec::new() };
        Self {
            levels: Some(vec![vec![root]]),
            explicit: unless(settings.explicit),
            mapping: unless(settings.inhibit_mapping),
            any: unless(settings.inhibit_any),
        }
    }

    /// RFC 5280 6.1.3 (d) to (f).
    pub(crate) fn certificate(&mut self, certificate: &Certificate<'a>, is_last: bool) -> Result<(), NotAccepted> {
        match &certificate.extensions.policies {
            None => self.levels = None,
            Some(policies) => {
                let any = self.any > 0 || (!is_last && certificate.is_self_issued());
                self.grow(policies, any);
            }
        }
        if self.explicit == 0 && self.levels.is_none() {
            return Err(NotAccepted("no policy holds along the path"));
        }
        Ok(())
    }

    fn grow(&mut self, policies: &[Oid<'a>], any: bool) {
        let Some(levels) = &mut self.levels else { return };
        let above = levels.last().map(Vec::as_slice).unwrap_or_default();
        let any_above = above.iter().position(|node| node.policy == ANY_POLICY);
        let parents_of =
            |policy: Oid<'a>| indices(above, |node| node.expected.contains(&policy)).collect::<Vec<usize>>();
        let mut level: Vec<Node<'a>> = Vec::new();
        for &policy in policies.iter().filter(|policy| **policy != ANY_POLICY) {
            let mut parents = parents_of(policy);
            if parents.is_empty() {
                parents.extend(any_above);
            }
            if !parents.is_empty() {
                level.push(Node { policy, expected: vec![policy], parents });
            }
        }
        if any && policies.contains(&ANY_POLICY) {
            let wanted: BTreeSet<Oid<'a>> = above.iter().flat_map(|node| node.expected.iter().copied()).collect();
            for policy in wanted {
                if !level.iter().any(|node| node.policy == policy) {
                    level.push(Node { policy, expected: vec![policy], parents: parents_of(policy) });
                }
            }
        }
        self.push(level);
    }

    fn push(&mut self, level: Vec<Node<'a>>) {
        if level.is_empty() {
            self.levels = None;
        } else if let Some(levels) = &mut self.levels {
            levels.push(level);
        }
    }

    /// RFC 5280 6.1.4 (a), (b), (h) to (j): before the next certificate.
    pub(crate) fn prepare(&mut self, certificate: &Certificate<'a>) -> Result<(), NotAccepted> {
        let extensions = &certificate.extensions;
        let mappings = &extensions.policy_mappings;
        if mappings.iter().any(|(from, to)| *from == ANY_POLICY || *to == ANY_POLICY) {
            return Err(NotAccepted("a CA maps `anyPolicy`"));
        }
        self.map(mappings);
        if !certificate.is_self_issued() {
            self.explicit = self.explicit.saturating_sub(1);
            self.mapping = self.mapping.saturating_sub(1);
            self.any = self.any.saturating_sub(1);
        }
        let lower = |own: &mut usize, to: Option<u32>| {
            if let Some(to) = to {
                *own = (*own).min(usize::try_from(to).unwrap_or(usize::MAX));
            }
        };
        lower(&mut self.explicit, extensions.policy_constraints.require_explicit);
        lower(&mut self.mapping, extensions.policy_constraints.inhibit_mapping);
        lower(&mut self.any, extensions.inhibit_any_policy);
        Ok(())
    }

    fn map(&mut self, mappings: &[(Oid<'a>, Oid<'a>)]) {
        let Some(levels) = &mut self.levels else { return };
        let Some((level, above)) = levels.split_last_mut() else { return };
        if mappings.is_empty() {
            return;
        }
        let from: BTreeSet<Oid<'a>> = mappings.iter().map(|(from, _)| *from).collect();
        if self.mapping == 0 {
            level.retain(|node| !from.contains(node.policy));
            if level.is_empty() {
                self.levels = None;
            }
            return;
        }
        let has_any = level.iter().any(|node| node.policy == ANY_POLICY);
        let any_above = above.last().and_then(|level| level.iter().position(|node| node.policy == ANY_POLICY));
        for policy in from {
            let expected: Vec<Oid<'a>> =
                mappings.iter().filter(|(from, _)| *from == policy).map(|(_, to)| *to).collect();
            match level.iter_mut().find(|node| node.policy == policy) {
                Some(node) => node.expected = expected,
                None if has_any => {
                    level.push(Node { policy, expected, parents: any_above.into_iter().collect() });
                }
                None => {}
            }
        }
    }

    /// RFC 5280 6.1.5 (a), (b), (g): the accepted policies that hold, as the anchor's domain calls them.
    pub(crate) fn finish(
        mut self,
        certificate: &Certificate<'a>,
        settings: &PolicySettings,
    ) -> Result<Vec<Vec<u8>>, NotAccepted> {
        self.explicit = self.explicit.saturating_sub(1);
        if certificate.extensions.policy_constraints.require_explicit == Some(0) {
            self.explicit = 0;
        }
        let held = self.held(&settings.accepted);
        if self.explicit == 0 && held.is_empty() {
            return Err(NotAccepted("the path holds for none of the accepted policies"));
        }
        Ok(held.into_iter().map(<[u8]>::to_vec).collect())
    }

    fn held<'b>(&self, accepted: &'b [Vec<u8>]) -> BTreeSet<&'b [u8]>
    where
        'a: 'b,
    {
        let mut held = BTreeSet::new();
        let Some(levels) = &self.levels else { return held };
        // Upwards from the last level: a policy of the anchor's domain is one whose parent is anyPolicy.
        let mut alive: BTreeSet<usize> = levels.last().map(|level| (0..level.len()).collect()).unwrap_or_default();
        let bottom_any = levels.last().is_some_and(|level| level.iter().any(|node| node.policy == ANY_POLICY));
        if bottom_any && !accepted.is_empty() {
            held.extend(accepted.iter().map(Vec::as_slice));
        } else if bottom_any {
            held.insert(ANY_POLICY);
        }
        for (level, above) in levels.iter().zip(levels.iter().skip(1)).rev().map(|(above, level)| (level, above)) {
            let mut next = BTreeSet::new();
            for node in alive.iter().filter_map(|index| level.get(*index)) {
                let from_any = node.parents.iter().any(|p| above.get(*p).is_some_and(|n| n.policy == ANY_POLICY));
                if from_any && node.policy != ANY_POLICY {
                    if accepted.is_empty() {
                        held.insert(node.policy);
                    } else if let Some(own) = accepted.iter().find(|own| own.as_slice() == node.policy) {
                        held.insert(own);
                    }
                }
                next.extend(node.parents.iter().copied());
            }
            alive = next;
        }
        held
    }
}

fn indices<'n, 'a: 'n>(
    level: &'n [Node<'a>],
    wanted: impl Fn(&Node<'a>) -> bool + 'n,
) -> impl Iterator<Item = usize> + 'n {
    level.iter().enumerate().filter(move |(_, node)| wanted(node)).map(|(index, _)| index)
}
