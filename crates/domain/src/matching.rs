//! Which proofs match a workload: clauses over claims, compared as text.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::access::Pattern;

/// The claims of a verified proof by name, each as text: strings as they stand, numbers and
/// booleans by their JSON text. Nested claims stand under their JSON pointer (RFC 6901).
pub type Claims = BTreeMap<String, String>;

/// The rule by which a proof matches a workload: every clause must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The clauses, in declared order.
    pub clauses: Vec<Clause>,
}

/// One claim and the values of which it must have one. `*` at the end of a segment stands for the
/// rest of the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The claim's name or JSON pointer.
    pub claim: String,
    /// The accepted values.
    pub any_of: Vec<String>,
    /// Whether the clause is a default of the issuer's kind rather than declared.
    pub implied: bool,
}

/// The first clause that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseFailure {
    /// The claim.
    pub claim: String,
    /// The accepted values, joined by ` or `.
    pub wanted: String,
    /// The claim's value; `None` when the proof has no such claim.
    pub got: Option<String>,
    /// How many clauses held before it.
    pub held: usize,
}

impl Match {
    /// The first clause that fails for these claims; `None` when all hold. An absent claim never
    /// matches.
    #[must_use]
    pub fn first_failure(&self, claims: &Claims) -> Option<ClauseFailure> {
        let (held, clause) = self
            .clauses
            .iter()
            .enumerate()
            .find(|(_, clause)| !clause.holds(claims))?;
        Some(ClauseFailure {
            claim: clause.claim.clone(),
            wanted: clause.any_of.join(" or "),
            got: claims.get(&clause.claim).map(ToString::to_string),
            held,
        })
    }

    /// Whether a proof could match of which only these claims are known: none of them fails a clause.
    #[must_use]
    pub fn may_match(&self, known: &Claims) -> bool {
        let may = |clause: &Clause| !known.contains_key(&clause.claim) || clause.holds(known);
        self.clauses.iter().all(may)
    }

    /// Whether a claim is pinned to exact values.
    #[must_use]
    pub fn pins(&self, claim: &str) -> bool {
        self.clauses
            .iter()
            .any(|clause| clause.claim == claim && clause.any_of.iter().all(|v| !v.contains('*')))
    }
}

impl Clause {
    fn holds(&self, claims: &Claims) -> bool {
        claims.get(&self.claim).is_some_and(|value| {
            self.any_of
                .iter()
                .any(|wanted| Pattern::raw_matches(wanted, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn rule(claim: &str, any_of: &[&str]) -> Match {
        Match {
            clauses: vec![Clause {
                claim: claim.into(),
                any_of: any_of.iter().map(|v| (*v).into()).collect(),
                implied: false,
            }],
        }
    }

    #[test]
    fn an_absent_claim_never_matches() {
        let failure = rule("ref", &["*"]).first_failure(&Claims::new()).unwrap();
        assert_eq!(failure.got, None);
    }

    #[test]
    fn what_is_not_known_may_match() {
        let known = Claims::from([("repository_id".to_string(), "1".to_string())]);
        assert!(rule("repository_id", &["2", "1"]).may_match(&known));
        assert!(!rule("repository_id", &["2"]).may_match(&known));
        assert!(rule("ref", &["refs/heads/main"]).may_match(&known));
    }

    #[test]
    fn values_compare_as_bytes_with_the_one_wildcard() {
        let claims = Claims::from([("ref".to_string(), "refs/tags/v1".to_string())]);
        assert!(
            rule("ref", &["refs/heads/main", "refs/tags/v*"])
                .first_failure(&claims)
                .is_none()
        );
        assert!(rule("ref", &["refs/*"]).first_failure(&claims).is_some());
        assert!(
            rule("ref", &["refs/tags/V1"])
                .first_failure(&claims)
                .is_some()
        );
        assert!(
            rule("ref", &["refs/tags/v"])
                .first_failure(&claims)
                .is_some()
        );
        let starred = Claims::from([("ref".to_string(), "refs/tags/*".to_string())]);
        assert!(
            rule("ref", &["refs/tags/v1"])
                .first_failure(&starred)
                .is_some()
        );
    }
}
