//! What a policy may ask about: the facts of one moment, as Cedar's values and as they are recorded.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use cedar_policy::{Context, Entity, RestrictedExpression};
use cedar_policy_core::ast;
use dayfly_domain::access::{Detail, Field};
use dayfly_domain::{Claims, Name, Subject, Time, Workload};
use serde::Serialize;

use super::schema::{Action, TYPES, uid};

/// Most bytes of claims, and of types, actions and identifiers together, that are looked at.
const BYTES: usize = 64 * 1024;
/// Most claims of a proof.
const CLAIMS: usize = 1024;

/// What is known at the moment of a request, whatever it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The claims of the proof that the client came in by.
    pub claims: &'a Claims,
    /// Now.
    pub now: Time,
    /// The address of the caller, where it is known.
    pub address: Option<IpAddr>,
    /// How many tasks of the workload are open, one that this request opens not counted.
    pub open_tasks: u64,
    /// How many of them started within the last hour.
    pub starts_last_hour: u64,
    /// The person on whose behalf it is asked.
    pub subject: Option<SubjectFact<'a>>,
    /// What the resource says of a use that it asks about: its own word, and nobody's proof. None
    /// where no use is asked about.
    pub said: Option<&'a Claims>,
    /// How many people have approved the request: where they are enough, what an approval lifts
    /// does not forbid it.
    pub approvals: u32,
}

/// The person on whose behalf something is asked.
#[derive(Clone, Copy, Debug)]
pub struct SubjectFact<'a> {
    /// Who it is, without a name.
    pub subject: &'a Subject,
    /// What the person's token claims.
    pub claims: &'a Claims,
}

/// The access that is asked for at one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The types of its details.
    pub types: BTreeSet<String>,
    /// The actions of all of them.
    pub actions: BTreeSet<String>,
    /// The identifiers of all of them, as they are written.
    pub identifiers: BTreeSet<String>,
}

/// One question to the policies.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What is to be done.
    pub action: Action,
    /// By which workload.
    pub workload: &'a Workload,
    /// At which resource.
    pub resource: &'a Name,
    /// With which access.
    pub asked: Asked,
    /// What is handed over by whom, where that is the question.
    pub handed: Option<Handed<'a>>,
}

/// Where a child stands that access is handed to.
#[derive(Clone, Debug)]
pub struct Handed<'a> {
    /// How deep; a root client has depth 0.
    pub depth: u32,
    /// The workload that the parent acts as.
    pub parent: &'a Workload,
    /// The workloads of its whole chain, the root's last, each once.
    pub chain: Vec<&'a Workload>,
}

/// Why facts cannot be shown to a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FactsError {
    /// There are too many of them.
    #[error("{what} are too large to be evaluated")]
    TooLarge {
        /// Which.
        what: &'static str,
    },
    /// Cedar does not take them.
    #[error("the facts cannot be shown to a policy: {0}")]
    Form(String),
}

impl Asked {
    /// What these details allow at a resource.
    #[must_use]
    pub fn of<'a>(details: impl IntoIterator<Item = &'a Detail>, resource: &Name) -> Self {
        let mut asked = Self::default();
        for detail in details {
            if detail.resource != *resource {
                continue;
            }
            asked.types.insert(detail.kind.clone());
            if let Some(Field::Set(actions)) = detail.fields.get("actions") {
                asked.actions.extend(actions.iter().cloned());
            }
            if let Some(Field::Path(paths)) = detail.fields.get("identifier") {
                asked
                    .identifiers
                    .extend(paths.iter().map(ToString::to_string));
            }
        }
        asked
    }

    fn bytes(&self) -> usize {
        [&self.types, &self.actions, &self.identifiers]
            .into_iter()
            .flatten()
            .map(|text| text.len() + 1)
            .sum()
    }
}

impl Facts<'_> {
    /// What was shown, as entities: the proof, the token of the person, and what a resource says.
    pub(super) fn shown(&self) -> Result<Vec<Entity>, FactsError> {
        let mut shown = vec![self.proof()?];
        shown.extend(self.person()?);
        if let Some(said) = self.said {
            let tags = tags(said, "what the resource says")?;
            let said = Entity::new_with_tags(said_uid(), [], [], tags);
            shown.push(said.map_err(|why| form(&why))?);
        }
        Ok(shown)
    }

    /// The proof as an entity, its claims as tags.
    fn proof(&self) -> Result<Entity, FactsError> {
        let tags = tags(self.claims, "the claims of the proof")?;
        Entity::new_with_tags(proof_uid(), [], [], tags).map_err(|why| form(&why))
    }

    /// The person as an entity, what the person's token claims as tags.
    fn person(&self) -> Result<Option<Entity>, FactsError> {
        let Some(SubjectFact { subject, claims }) = self.subject else {
            return Ok(None);
        };
        let tags = tags(claims, "the claims of the person's token")?;
        let attributes = [
            ("issuer", text(subject.issuer.as_str())),
            ("pseudonym", text(&subject.person.to_string())),
            (
                "authenticated",
                datetime(&subject.authenticated.to_string()),
            ),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
        Entity::new_with_tags(person_uid(), attributes, [], tags)
            .map(Some)
            .map_err(|why| form(&why))
    }

    /// The context of a question about this access.
    pub(super) fn context(
        &self,
        asked: &Asked,
        handed: Option<&Handed<'_>>,
    ) -> Result<Context, FactsError> {
        if asked.bytes() > BYTES {
            return Err(FactsError::TooLarge {
                what: "types, actions and identifiers",
            });
        }
        let set = |texts: &BTreeSet<String>| {
            RestrictedExpression::new_set(texts.iter().map(|value| text(value)))
        };
        let number =
            |count: u64| RestrictedExpression::new_long(i64::try_from(count).unwrap_or(i64::MAX));
        let address = self
            .address
            .map(|address| ("address", ip(&address.to_string())));
        let subject = self.subject.map(|_| {
            let person = RestrictedExpression::new_entity_uid(person_uid());
            ("subject", person)
        });
        let said = self
            .said
            .map(|_| ("said", RestrictedExpression::new_entity_uid(said_uid())));
        let pairs = [
            ("proof", RestrictedExpression::new_entity_uid(proof_uid())),
            ("now", datetime(&self.now.to_string())),
            ("open_tasks", number(self.open_tasks)),
            ("starts_last_hour", number(self.starts_last_hour)),
            ("types", set(&asked.types)),
            ("actions", set(&asked.actions)),
            ("identifiers", set(&asked.identifiers)),
        ];
        let workload = |workload: &Workload| {
            RestrictedExpression::new_entity_uid(uid(&TYPES.workload, workload.name.as_str()))
        };
        let handed = handed.map(|handed| {
            let chain = handed.chain.iter().map(|of| workload(of));
            [
                ("depth", number(handed.depth.into())),
                ("parent", workload(handed.parent)),
                ("chain", RestrictedExpression::new_set(chain)),
            ]
        });
        let pairs = pairs
            .into_iter()
            .chain(address)
            .chain(subject)
            .chain(said)
            .chain(handed.into_iter().flatten());
        Context::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value)))
            .map_err(|why| form(&why))
    }
}

/// Claims as tags, within bounds.
fn tags<'a>(
    claims: &'a Claims,
    what: &'static str,
) -> Result<impl Iterator<Item = (String, RestrictedExpression)> + 'a, FactsError> {
    let bytes: usize = claims
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if claims.len() > CLAIMS || bytes > BYTES {
        return Err(FactsError::TooLarge { what });
    }
    Ok(claims
        .iter()
        .map(|(name, value)| (name.clone(), text(value))))
}

fn person_uid() -> cedar_policy::EntityUid {
    uid(&TYPES.person, "subject")
}

fn said_uid() -> cedar_policy::EntityUid {
    uid(&TYPES.said, "said")
}

fn proof_uid() -> cedar_policy::EntityUid {
    uid(&TYPES.proof, "proof")
}

/// Cedar's own constructors of these parse the function's name each time, which takes a fifth of an
/// evaluation.
static IP: LazyLock<Option<ast::Name>> = LazyLock::new(|| name("ip"));
static DATETIME: LazyLock<Option<ast::Name>> = LazyLock::new(|| name("datetime"));

fn name(of: &str) -> Option<ast::Name> {
    of.parse().ok().map(ast::Name::unqualified_name)
}

/// A call of an extension's constructor, whose name was parsed once.
fn call(function: Option<&ast::Name>, text: &str) -> Option<RestrictedExpression> {
    let text = ast::RestrictedExpr::val(text);
    Some(ast::RestrictedExpr::call_extension_fn(function?.clone(), [text]).into())
}

fn ip(text: &str) -> RestrictedExpression {
    call(IP.as_ref(), text).unwrap_or_else(|| RestrictedExpression::new_ip(text))
}

fn datetime(text: &str) -> RestrictedExpression {
    call(DATETIME.as_ref(), text).unwrap_or_else(|| RestrictedExpression::new_datetime(text))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn form(why: &dyn std::fmt::Display) -> FactsError {
    FactsError::Form(why.to_string())
}
