//! The schema that every policy is validated against, and the names of its entities.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use dayfly_domain::Kind;

/// The schema in Cedar's own syntax (DESIGN section 8).
pub const SCHEMA: &str = r#"namespace Dayfly {
  entity Owner;
  entity Workload in [Owner] { kind: String };
  entity Resource;
  entity Proof tags String;
  entity Said tags String;
  entity Person { issuer: String, pseudonym: String, authenticated: datetime } tags String;

  type Facts = {
    proof: Proof,
    now: datetime,
    address?: ipaddr,
    subject?: Person,
    open_tasks: Long,
    starts_last_hour: Long,
    types: Set<String>,
    actions: Set<String>,
    identifiers: Set<String>,
  };

  action start, issue appliesTo {
    principal: Workload,
    resource: Resource,
    context: Facts,
  };

  action use appliesTo {
    principal: Workload,
    resource: Resource,
    context: {
      proof: Proof,
      now: datetime,
      address?: ipaddr,
      subject?: Person,
      open_tasks: Long,
      starts_last_hour: Long,
      types: Set<String>,
      actions: Set<String>,
      identifiers: Set<String>,
      said: Said,
    },
  };

  action delegate appliesTo {
    principal: Workload,
    resource: Resource,
    context: {
      proof: Proof,
      now: datetime,
      address?: ipaddr,
      subject?: Person,
      open_tasks: Long,
      starts_last_hour: Long,
      types: Set<String>,
      actions: Set<String>,
      identifiers: Set<String>,
      depth: Long,
      parent: Workload,
      chain: Set<Workload>,
    },
  };
}
"#;

/// What a policy is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A task opens.
    Start,
    /// A credential is issued, the first or a further one.
    Issue,
    /// A client hands a part of its access to a helper.
    Delegate,
    /// A resource asks about a use.
    Use,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Start, Self::Issue, Self::Delegate, Self::Use];

    /// Its name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Issue => "issue",
            Self::Delegate => "delegate",
            Self::Use => "use",
        }
    }

    pub(super) fn uid(self) -> EntityUid {
        uid(&TYPES.action, self.name())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|action| action.name() == text)
            .ok_or("wanted start, issue, delegate or use")
    }
}

/// The entity types of the namespace.
pub(super) struct Types {
    pub(super) owner: EntityTypeName,
    pub(super) workload: EntityTypeName,
    pub(super) resource: EntityTypeName,
    pub(super) proof: EntityTypeName,
    pub(super) person: EntityTypeName,
    pub(super) said: EntityTypeName,
    pub(super) action: EntityTypeName,
}

#[expect(
    clippy::expect_used,
    reason = "the names are constants, and a test of this module reads them"
)]
pub(super) static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let named = |name: &str| {
        format!("Dayfly::{name}")
            .parse()
            .expect("a constant name of an entity type")
    };
    Types {
        owner: named("Owner"),
        workload: named("Workload"),
        resource: named("Resource"),
        proof: named("Proof"),
        person: named("Person"),
        said: named("Said"),
        action: named("Action"),
    }
});

#[expect(
    clippy::expect_used,
    reason = "the schema is a constant, and a test of this module reads it"
)]
pub(super) static PARSED: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_cedarschema_str(SCHEMA)
        .expect("a constant schema")
        .0
});

pub(super) fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// A workload's kind as its attribute says it.
pub(super) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Ci => "ci",
        Kind::Agent => "agent",
        Kind::Batch => "batch",
        Kind::Service => "service",
        Kind::Operator => "operator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_action_and_type() {
        let actions: Vec<EntityUid> = PARSED.actions().cloned().collect();
        for action in Action::ALL {
            assert!(actions.contains(&action.uid()), "{action}");
            assert_eq!(action.name().parse(), Ok(action));
        }
        assert_eq!(actions.len(), Action::ALL.len());
        assert!("stop".parse::<Action>().is_err());
        let types: Vec<EntityTypeName> = PARSED.entity_types().cloned().collect();
        for name in [
            &TYPES.owner,
            &TYPES.workload,
            &TYPES.resource,
            &TYPES.proof,
            &TYPES.person,
            &TYPES.said,
        ] {
            assert!(types.contains(name), "{name}");
        }
    }
}
