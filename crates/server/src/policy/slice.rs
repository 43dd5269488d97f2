//! Slicing: the few policies that can apply to an action, a workload and a resource, so that the
//! evaluator is not given the others.
//!
//! A slice may hold a policy too many and never one too few: what is left out has a scope that
//! cannot match. It is built when it is first asked for and kept while there is room; workloads to
//! which the same policies apply share them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint, pst,
};

use super::load::Statement;
use super::schema::{Action, PARSED, TYPES};

/// How many places in slices are kept, counted over all of them.
const KEPT: usize = 1 << 20;
/// How many keys are kept.
const KEYS: usize = 1 << 16;

/// Who and what a policy's scope fixes: an entity, or nothing.
type Pin = Option<EntityUid>;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) action: Action,
    pub(super) workload: EntityUid,
    pub(super) owner: EntityUid,
    pub(super) resource: EntityUid,
}

/// The policies that can apply to a key.
pub(super) struct Slice {
    /// By their places among all statements, in order.
    pub(super) statements: Vec<usize>,
    pub(super) enforced: PolicySet,
    /// Those that an approval lifts, all of them forbids; none where there are none.
    pub(super) approvals: Option<PolicySet>,
    /// Those that are only observed, permits and forbids apart; none where there are none.
    pub(super) observed: Option<Observed>,
}

/// Observed policies. They are evaluated apart, for a set tells of its permits only where none of
/// its forbids holds.
pub(super) struct Observed {
    pub(super) permits: PolicySet,
    pub(super) forbids: PolicySet,
}

/// Why a slice cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it does not fit into a slice of the policies: {0}")]
pub(super) struct SliceError(pub(super) String);

/// The index of all policies, and the slices made so far.
pub(super) struct Slices {
    index: HashMap<(Action, Pin, Pin), Vec<usize>>,
    made: RwLock<Made>,
}

/// What a key is decided by.
#[derive(Clone)]
pub(super) struct Decisive {
    pub(super) slice: Arc<Slice>,
    /// What is declared of workload, owner and resource, and of what the policies name.
    pub(super) declared: Arc<Entities>,
}

#[derive(Default)]
struct Made {
    by_key: HashMap<Key, Decisive>,
    by_statements: HashMap<Vec<usize>, Arc<Slice>>,
    places: usize,
}

impl Slices {
    /// Indexes statements by action, principal and resource of their scopes.
    pub(super) fn of(statements: &[Statement]) -> Self {
        let mut index: HashMap<(Action, Pin, Pin), Vec<usize>> = HashMap::new();
        for (at, statement) in statements.iter().enumerate() {
            let policy = &statement.policy;
            let (Some(principal), Some(resource)) = (principal(policy), resource(policy)) else {
                continue;
            };
            for action in Action::ALL {
                if names_action(policy, action) {
                    index
                        .entry((action, principal.clone(), resource.clone()))
                        .or_default()
                        .push(at);
                }
            }
        }
        Self {
            index,
            made: RwLock::default(),
        }
    }

    /// What a key is decided by; `declared` makes the entities that its policies may look at.
    ///
    /// # Errors
    /// [`SliceError`] when a policy or an entity cannot be taken into it: then nothing may be decided
    /// by it.
    pub(super) fn get(
        &self,
        key: &Key,
        statements: &[Statement],
        declared: impl FnOnce(&Slice) -> Result<Entities, SliceError>,
    ) -> Result<Decisive, SliceError> {
        {
            let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(decisive) = made.by_key.get(key) {
                return Ok(decisive.clone());
            }
        }
        let applying = self.applying(key);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.places > KEPT || made.by_key.len() >= KEYS {
            *made = Made::default();
        }
        let slice = match made.by_statements.get(&applying) {
            Some(slice) => Arc::clone(slice),
            None => {
                let slice = Arc::new(Slice::of(applying.clone(), statements)?);
                made.places += applying.len() + 1;
                made.by_statements.insert(applying, Arc::clone(&slice));
                slice
            }
        };
        let decisive = Decisive {
            declared: Arc::new(declared(&slice)?),
            slice,
        };
        made.by_key.insert(key.clone(), decisive.clone());
        Ok(decisive)
    }

    /// The places of the statements whose scope can match, in order.
    fn applying(&self, key: &Key) -> Vec<usize> {
        let mut found = Vec::new();
        for principal in [None, Some(&key.workload), Some(&key.owner)] {
            for resource in [None, Some(&key.resource)] {
                let pins = (key.action, principal.cloned(), resource.cloned());
                found.extend(self.index.get(&pins).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found
    }
}

impl Slice {
    fn of(places: Vec<usize>, statements: &[Statement]) -> Result<Self, SliceError> {
        let of = |wanted: &dyn Fn(&Statement) -> bool| {
            let policies = places
                .iter()
                .filter_map(|at| statements.get(*at))
                .filter(|statement| wanted(statement));
            set(policies.map(|statement| &statement.policy))
        };
        let enforced = of(&|s| !s.observe && s.approval.is_none())?;
        let approvals = of(&|s| s.approval.is_some())?;
        let permits = of(&|s| s.observe && s.policy.effect() == Effect::Permit)?;
        let forbids = of(&|s| s.observe && s.policy.effect() == Effect::Forbid)?;
        let observed =
            (!permits.is_empty() || !forbids.is_empty()).then_some(Observed { permits, forbids });
        Ok(Self {
            statements: places,
            enforced,
            approvals: (!approvals.is_empty()).then_some(approvals),
            observed,
        })
    }
}

fn set<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<PolicySet, SliceError> {
    let mut set = PolicySet::new();
    for policy in policies {
        let policy = match policy.template_id() {
            None => policy.clone(),
            Some(_) => unlinked(policy)?,
        };
        // A policy that got lost here could be one that forbids.
        set.add(policy).map_err(|why| SliceError(why.to_string()))?;
    }
    Ok(set)
}

/// A linked policy without its template, which stands for the same.
fn unlinked(policy: &Policy) -> Result<Policy, SliceError> {
    let failed = |why: &dyn std::fmt::Display| SliceError(why.to_string());
    let own = match policy.to_pst().map_err(|why| failed(&why))? {
        pst::Policy::Linked(linked) => {
            pst::Policy::Static(linked.into_static_policy().map_err(|why| failed(&why))?)
        }
        own => own,
    };
    let own = Policy::from_pst(own).map_err(|why| failed(&why))?;
    Ok(own.new_id(policy.id().clone()))
}

/// What a policy's scope says of the principal; none where no workload can match.
fn principal(policy: &Policy) -> Option<Pin> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => Some(None),
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) => Some(Some(uid)),
        PrincipalConstraint::Is(of) => (of == TYPES.workload).then_some(None),
        PrincipalConstraint::IsIn(of, uid) => (of == TYPES.workload).then_some(Some(uid)),
    }
}

/// What a policy's scope says of the resource; none where no resource can match.
fn resource(policy: &Policy) -> Option<Pin> {
    match policy.resource_constraint() {
        ResourceConstraint::Any => Some(None),
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => Some(Some(uid)),
        ResourceConstraint::Is(of) => (of == TYPES.resource).then_some(None),
        ResourceConstraint::IsIn(of, uid) => (of == TYPES.resource).then_some(Some(uid)),
    }
}

/// Each action with the groups that it is in.
static GROUPS: LazyLock<Vec<(Action, Vec<EntityUid>)>> = LazyLock::new(|| {
    let entities = PARSED
        .action_entities()
        .unwrap_or_else(|_| Entities::empty());
    let with_groups = |action: Action| {
        let own = action.uid();
        let groups = entities.ancestors(&own).into_iter().flatten().cloned();
        (action, groups.chain([own.clone()]).collect())
    };
    Action::ALL.map(with_groups).to_vec()
});

/// Whether a policy's scope names an action, by itself or by a group that it is in.
pub(super) fn names_action(policy: &Policy, action: Action) -> bool {
    let named = match policy.action_constraint() {
        ActionConstraint::Any => return true,
        ActionConstraint::Eq(named) => return named == action.uid(),
        ActionConstraint::In(named) => named,
    };
    GROUPS
        .iter()
        .filter(|(of, _)| *of == action)
        .any(|(_, groups)| groups.iter().any(|group| named.contains(group)))
}
