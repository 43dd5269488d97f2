//! Loading: policy files to statements that were parsed, validated and named, or every mistake with
//! its place.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use cedar_policy::{
    Effect, Entity, EntityUid, Policy, PolicyId, PolicySet, RestrictedExpression, ValidationMode,
    Validator,
};
use dayfly_domain::{Approval, Digest};
use miette::Diagnostic;
use sha2::{Digest as _, Sha256};

use super::Policies;
use super::explain::Clause;
use super::schema::{Action, PARSED, TYPES, kind, uid};
use super::slice::{Slices, names_action};
use super::text::{ALL_BYTES, Extent, Lines, POLICIES, extents};
use crate::config::{LoadError, Place, Report, Warning, nearest, parse_span};
use crate::declared::{Declared, LEAST_WAIT, MOST_WAIT, Source, SourceFile};

/// Most bytes of an `@id`.
const ID_BYTES: usize = 128;
/// How many mistakes of one kind are told; the others go away with them or come next.
const TOLD: usize = 20;

/// One policy as it is held.
pub(super) struct Statement {
    pub(super) policy: Policy,
    /// Whether it is only observed.
    pub(super) observe: bool,
    /// The approval that lifts it, where people may lift it.
    pub(super) approval: Option<Approval>,
    /// Where it stands.
    pub(super) place: Place,
    /// Declared workloads that its conditions name: their attributes may be read.
    pub(super) mentions: Vec<EntityUid>,
    /// Its conditions, taken apart when it is explained for the first time.
    pub(super) clauses: OnceLock<Vec<Clause>>,
}

/// All policies of one revision and what they are asked about.
pub(super) struct Held {
    pub(super) statements: Vec<Statement>,
    pub(super) by_id: HashMap<String, usize>,
    pub(super) slices: Slices,
    /// The declared workloads, owners and resources.
    pub(super) entities: HashMap<EntityUid, Entity>,
}

/// A file that is being read.
struct Reading<'a> {
    shown: String,
    name: &'a str,
    text: &'a str,
    lines: Lines<'a>,
}

/// Reads the policies of a source; warnings go to the report of what is declared.
pub(super) fn load(
    source: &Source,
    declared: Option<&Declared>,
) -> Result<(Policies, Vec<Warning>), Vec<LoadError>> {
    let mut report = Report::default();
    let statements = statements(source, &mut report);
    if report.has_errors() {
        return Err(report.into_errors());
    }
    let statements = validated(source, statements, &mut report);
    let entities = declared.map(entities);
    let mut held = Held {
        by_id: HashMap::with_capacity(statements.len()),
        slices: Slices::of(&statements),
        statements,
        entities: entities.unwrap_or_default(),
    };
    for (at, statement) in held.statements.iter_mut().enumerate() {
        held.by_id.insert(statement.policy.id().to_string(), at);
        if declared.is_some() {
            check_names(statement, &held.entities, &mut report);
        }
    }
    if held.statements.is_empty() {
        report.warn(
            folder(source),
            "there are no policies, so nothing is permitted: `dayfly init` writes a `baseline.cedar` that permits what is declared",
            None,
        );
    }
    let (errors, warnings) = report.into_parts();
    if errors.is_empty() {
        Ok((Policies::held(hash(source), held), warnings))
    } else {
        Err(errors)
    }
}

/// SHA-256 over the length and bytes of each policy file's name and text.
pub(super) fn hash(source: &Source) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"dayfly policies 1\n");
    for part in source.policies().flat_map(|file| [&file.name, &file.text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Digest(hash.finalize().into())
}

pub(super) fn folder(source: &Source) -> Place {
    Place::of_file(source.base().join("policies").display().to_string())
}

fn statements(source: &Source, report: &mut Report) -> Vec<Statement> {
    let bytes: usize = source.policies().map(|file| file.text.len()).sum();
    if bytes > ALL_BYTES {
        report.error(LoadError::new(
            folder(source),
            format!("the policies have {bytes} bytes together, and may have {ALL_BYTES}"),
        ));
        return Vec::new();
    }
    let mut statements = Vec::new();
    let mut ids: HashMap<String, Place> = HashMap::new();
    for file in source.policies() {
        let file = reading(source, file);
        for statement in file.statements(report) {
            if statements.len() >= POLICIES {
                report.error(LoadError::new(
                    statement.place,
                    format!("a tenant may have {POLICIES} policies, and here is one more"),
                ));
                return Vec::new();
            }
            let id = statement.policy.id().to_string();
            match ids.get(&id) {
                None => {
                    ids.insert(id, statement.place.clone());
                    statements.push(statement);
                }
                Some(first) => report.error(LoadError::new(
                    statement.place,
                    format!("another policy is called `{id}` already, at {first}"),
                )),
            }
        }
    }
    statements
}

fn reading<'a>(source: &Source, file: &'a SourceFile) -> Reading<'a> {
    Reading {
        shown: source.base().join(&file.name).display().to_string(),
        name: &file.name,
        text: &file.text,
        lines: Lines::of(&file.text),
    }
}

impl Reading<'_> {
    fn statements(&self, report: &mut Report) -> Vec<Statement> {
        let extents = match extents(self.text) {
            Ok(extents) => extents,
            Err(why) => {
                let place = self.lines.place(&self.shown, why.at);
                report.error(LoadError::new(place, why.what));
                return Vec::new();
            }
        };
        let set: PolicySet = match self.text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let errors: cedar_policy::ParseErrors = errors;
                for error in errors.iter().take(TOLD) {
                    report.error(self.error(error, "cannot be read: "));
                }
                return Vec::new();
            }
        };
        let read = set.num_of_policies() + set.num_of_templates();
        if read != extents.len() {
            let place = Place::of_file(self.shown.clone());
            let why = format!("{} policies were looked at and {read} read", extents.len());
            report.error(LoadError::new(place, why));
            return Vec::new();
        }
        for template in set.templates() {
            let message = "a template stands for no policy by itself, and nothing links it";
            report.warn(self.place_of(template.id(), &extents), message, None);
        }
        let mut statements: Vec<Statement> = set
            .policies()
            .filter_map(|policy| self.statement(policy, &extents, report))
            .collect();
        statements.sort_by(|a, b| a.place.cmp(&b.place));
        statements
    }

    /// The place of the policy that the parser has numbered `policy<n>`.
    fn place_of(&self, id: &PolicyId, extents: &[Extent]) -> Place {
        let text: &str = id.as_ref();
        let at = text
            .strip_prefix("policy")
            .and_then(|number| number.parse::<usize>().ok())
            .and_then(|number| extents.get(number));
        match at {
            Some(extent) => self.lines.place(&self.shown, extent.begin),
            None => Place::of_file(self.shown.clone()),
        }
    }

    fn statement(
        &self,
        policy: &Policy,
        extents: &[Extent],
        report: &mut Report,
    ) -> Option<Statement> {
        let place = self.place_of(policy.id(), extents);
        let id = match policy.annotation("id") {
            None => format!("{}:{}", self.name, place.line),
            Some(id) if is_name(id) => id.to_owned(),
            Some(_) => {
                let message =
                    format!("`@id` wants 1 to {ID_BYTES} bytes without control characters");
                report.error(LoadError::new(place, message));
                return None;
            }
        };
        let observe = match policy.annotation("mode") {
            None => false,
            Some("observe") => true,
            Some(other) => {
                let message = format!("`@mode` knows `observe` alone, and here is `{other}`");
                let near = nearest(other, ["observe"]);
                report.error(LoadError::new(place, message).nearest(near));
                return None;
            }
        };
        let approval = match approval_of(policy, observe) {
            Ok(approval) => approval,
            Err(message) => {
                report.error(LoadError::new(place, message));
                return None;
            }
        };
        Some(Statement {
            policy: policy.new_id(PolicyId::new(id)),
            observe,
            approval,
            place,
            mentions: Vec::new(),
            clauses: OnceLock::new(),
        })
    }

    fn error(&self, error: &dyn Diagnostic, what: &str) -> LoadError {
        let label = error.labels().and_then(|mut labels| labels.next());
        let place = match &label {
            Some(label) => self.lines.place(&self.shown, label.offset()),
            None => Place::of_file(self.shown.clone()),
        };
        let mut message = format!("{what}{error}");
        let more = [
            label.and_then(|label| label.label().map(str::to_owned)),
            error.help().map(|help| help.to_string()),
        ];
        for more in more.into_iter().flatten() {
            message.push_str(": ");
            message.push_str(&more);
        }
        LoadError::new(place, message)
    }
}

/// The approval that lifts a policy: `@approval("30m")`, and `@people("2")` where one is not enough.
/// Only what forbids a start can be lifted, for a start alone waits.
fn approval_of(policy: &Policy, observe: bool) -> Result<Option<Approval>, String> {
    let people = match policy.annotation("people") {
        None => None,
        Some("1") => Some(1),
        Some("2") => Some(2),
        Some(other) => return Err(format!("`@people` wants `1` or `2`, and here is `{other}`")),
    };
    let Some(text) = policy.annotation("approval") else {
        return match people {
            None => Ok(None),
            Some(_) => Err("`@people` goes with `@approval` alone".to_owned()),
        };
    };
    let within = parse_span(text).filter(|span| (LEAST_WAIT..=MOST_WAIT).contains(span));
    let Some(within) = within else {
        return Err(format!(
            "`@approval` wants a length of time from {LEAST_WAIT} to {MOST_WAIT} like `30m`, and here is `{text}`"
        ));
    };
    if observe {
        return Err("an observed policy forbids nothing that an approval could lift".to_owned());
    }
    let starts_alone = Action::ALL
        .into_iter()
        .all(|action| names_action(policy, action) == (action == Action::Start));
    if policy.effect() != Effect::Forbid || !starts_alone {
        return Err(
            "`@approval` stands on a `forbid` whose action is `Dayfly::Action::\"start\"` alone: an approval lifts it, and a start is what waits for one"
                .to_owned(),
        );
    }
    Ok(Some(Approval {
        within,
        people: people.unwrap_or(1),
    }))
}

fn is_name(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES && !id.chars().any(char::is_control)
}

/// Validates what was read, all at once, against the schema.
fn validated(source: &Source, statements: Vec<Statement>, report: &mut Report) -> Vec<Statement> {
    let set = match PolicySet::from_policies(statements.iter().map(|s| s.policy.clone())) {
        Ok(set) => set,
        Err(why) => {
            report.error(LoadError::new(folder(source), why.to_string()));
            return Vec::new();
        }
    };
    let files: Vec<Reading<'_>> = source
        .policies()
        .map(|file| reading(source, file))
        .collect();
    let file_of = |id: &PolicyId| {
        let statement = statements.iter().find(|s| s.policy.id() == id)?;
        files.iter().find(|file| file.shown == statement.place.file)
    };
    let result = Validator::new(PARSED.clone()).validate(&set, ValidationMode::Strict);
    // The same mistake is found once for each action that the policy is about.
    let mut seen = HashSet::new();
    for error in result.validation_errors() {
        let told = match file_of(error.policy_id()) {
            Some(file) => file.error(error, ""),
            None => LoadError::new(folder(source), error.to_string()),
        };
        if seen.len() < TOLD && seen.insert(told.place.clone()) {
            report.error(told);
        }
    }
    for warning in result.validation_warnings() {
        let told = match file_of(warning.policy_id()) {
            Some(file) => file.error(warning, ""),
            None => LoadError::new(folder(source), warning.to_string()),
        };
        if seen.len() < TOLD && seen.insert(told.place.clone()) {
            report.warn(told.place, told.message, None);
        }
    }
    statements
}

/// The declared parties as Cedar's entities.
pub(super) fn entities(declared: &Declared) -> HashMap<EntityUid, Entity> {
    let owners = declared
        .owners
        .keys()
        .map(|name| uid(&TYPES.owner, name.as_str()));
    let resources = declared
        .resources
        .keys()
        .map(|name| uid(&TYPES.resource, name.as_str()));
    let workloads = declared.workloads.values().filter_map(|declared| {
        let workload = &declared.workload;
        let owner = uid(&TYPES.owner, workload.owner.as_str());
        let kind = RestrictedExpression::new_string(kind(workload.kind).to_owned());
        Entity::new(
            uid(&TYPES.workload, workload.name.as_str()),
            HashMap::from([("kind".to_owned(), kind)]),
            HashSet::from([owner]),
        )
        .ok()
    });
    owners
        .chain(resources)
        .map(Entity::with_uid)
        .chain(workloads)
        .map(|entity| (entity.uid(), entity))
        .collect()
}

/// Notes which workloads a statement names, and warns of names that nothing has.
fn check_names(
    statement: &mut Statement,
    entities: &HashMap<EntityUid, Entity>,
    report: &mut Report,
) {
    let literals = statement.policy.entity_literals();
    for literal in literals {
        if *literal.type_name() == TYPES.action {
            continue;
        }
        if entities.contains_key(&literal) {
            if *literal.type_name() == TYPES.workload {
                statement.mentions.push(literal);
            }
            continue;
        }
        let name: &str = literal.id().as_ref();
        let known = entities
            .keys()
            .filter(|uid| uid.type_name() == literal.type_name())
            .map(|uid| -> &str { uid.id().as_ref() });
        let near = nearest(name, known);
        let message = format!("nothing is declared as `{literal}`");
        report.warn(statement.place.clone(), message, near);
    }
}
