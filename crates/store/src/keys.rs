//! Under which keys an entry is found: part of the contract, the same for every backend.

use dayfly_domain::{BlockOn, Digest, Name, TaskId, ids_in};
use dayfly_ledger::RawValue;
use serde::Deserialize;

use crate::SearchKey;

/// The members of an event's data that entries are found by, whatever else they are.
#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    owner: Option<&'a RawValue>,
    #[serde(borrow)]
    workload: Option<&'a RawValue>,
    #[serde(borrow)]
    issuer: Option<&'a RawValue>,
    #[serde(borrow)]
    instance: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    series: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    jkt: Option<&'a RawValue>,
    #[serde(borrow)]
    hash: Option<&'a RawValue>,
    #[serde(borrow)]
    proof: Option<&'a RawValue>,
    #[serde(borrow)]
    about: Option<&'a RawValue>,
    #[serde(borrow)]
    on: Option<&'a RawValue>,
    #[serde(borrow)]
    own: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
}

/// Whose a delegated client is by its own proof.
#[derive(Deserialize)]
struct Own {
    workload: Name,
    owner: Name,
    issuer: Name,
    /// The key of its own run; empty in an entry of before it was recorded.
    #[serde(default)]
    key: String,
}

/// The members of an annex that entries are found by: who came in, and on whose behalf.
#[derive(Deserialize)]
struct AnnexData {
    claims: Option<Claims>,
    subject: Option<Person>,
}

/// The person on whose behalf a client came in. An event names the issuer and no claims.
#[derive(Deserialize)]
struct Person {
    issuer: Name,
    claims: Option<Claims>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
}

/// What of a leaf its keys are read from. Whether the leaf is one at all is for others to check.
#[derive(Default, Deserialize)]
struct Stored<'a> {
    #[serde(borrow, default)]
    kind: &'a str,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(borrow, default)]
    data: Data<'a>,
}

/// The kinds of a task's first entry; it starts once more where it was asked for first.
const FIRST: [&str; 2] = ["task.started", "task.requested"];

/// The kinds of entries that record a use.
const USES: [&str; 2] = ["use.allowed", "use.denied"];

/// The keys of an entry. `issuer` tells who vouched for its task where its own data does not.
pub(crate) fn keys_of(
    leaf: &str,
    annex: Option<&str>,
    issuer: impl FnOnce() -> Option<Name>,
) -> Vec<SearchKey> {
    let Stored { kind, seq, data } = serde_json::from_str(leaf).unwrap_or_default();
    if USES.contains(&kind) {
        return value(data.about).map(SearchKey::Uses).into_iter().collect();
    }
    let mut keys = Vec::with_capacity(8);
    keys.extend(value(data.owner).map(SearchKey::Owner));
    keys.extend(value(data.workload).map(SearchKey::Workload));
    if let Some(instance) = value::<String>(data.instance) {
        // The key of a task may hold fewer: that of a job of GitLab does not hold its pipeline.
        keys.extend(ids_in(&instance).map(|id| SearchKey::Part(id.to_owned())));
        keys.push(SearchKey::Instance(instance));
    }
    keys.extend(blocked_instance(data.on).map(SearchKey::Instance));
    keys.extend(value(data.resource).map(SearchKey::Resource));
    keys.extend(value(data.jkt).map(SearchKey::Key));
    keys.extend(value::<Digest>(data.hash).map(SearchKey::Token));
    keys.extend(value::<Digest>(data.proof).map(SearchKey::Proof));
    if let Some(key) = value::<String>(data.key) {
        push_run(&mut keys, key);
    }
    keys.extend(value(data.series).map(SearchKey::Run));
    keys.extend(value::<TaskId>(data.about).map(SearchKey::About));
    if FIRST.contains(&kind) && seq == Some(1) {
        keys.extend(value(data.issuer).map(SearchKey::Issuer));
        // An end of whoever vouches for the person ends the task too.
        let person: Option<Person> = value(data.subject);
        keys.extend(person.map(|person| SearchKey::Issuer(person.issuer)));
    }
    let own: Option<Own> = value(data.own);
    let mut vouched = value(data.issuer);
    if let Some(own) = own {
        keys.push(SearchKey::Workload(own.workload));
        keys.push(SearchKey::Owner(own.owner));
        keys.push(SearchKey::Issuer(own.issuer.clone()));
        if !own.key.is_empty() {
            push_run(&mut keys, own.key);
        }
        vouched = Some(own.issuer);
    }
    let annex: Option<AnnexData> = annex.and_then(|annex| serde_json::from_str(annex).ok());
    let (claims, person) = annex.map_or((None, None), |annex| (annex.claims, annex.subject));
    if let Some(sub) = claims.and_then(|claims| claims.sub)
        && let Some(issuer) = vouched.or_else(issuer)
    {
        keys.push(SearchKey::Subject(issuer, sub));
    }
    if let Some(Person { issuer, claims }) = person
        && let Some(sub) = claims.and_then(|claims| claims.sub)
    {
        keys.push(SearchKey::Subject(issuer, sub));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A key of a run as a whole, and its values.
fn push_run(keys: &mut Vec<SearchKey>, key: String) {
    // The parts of a key are escaped as RFC 6901 does.
    let parts = key
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"));
    keys.extend(parts.map(SearchKey::Run));
    keys.push(SearchKey::Run(key));
}

/// The name of the issuer that an event itself names.
pub(crate) fn issuer_of(leaf: &str) -> Option<Name> {
    let Stored { data, .. } = serde_json::from_str(leaf).ok()?;
    value(data.issuer)
}

/// The instance that a block stands on.
fn blocked_instance(on: Option<&RawValue>) -> Option<String> {
    match value::<String>(on)?.parse().ok()? {
        BlockOn::Instance { instance, .. } => Some(instance),
        BlockOn::Series { .. }
        | BlockOn::Key { .. }
        | BlockOn::Person(_)
        | BlockOn::Barred(_)
        | BlockOn::Issuer(_)
        | BlockOn::Owner(_)
        | BlockOn::Workload(_)
        | BlockOn::Tenant => None,
    }
}

/// A member of the wanted type; one of another type is not what is looked for.
fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(data: &str, annex: Option<&str>) -> Vec<SearchKey> {
        let leaf = format!(
            r#"{{"v":1,"tenant":"acme","seq":1,"kind":"task.started","data":{data},"h":null}}"#
        );
        keys_of(&leaf, annex, || "asked".parse().ok())
    }

    #[test]
    fn a_key_is_found_whole_and_by_its_values() {
        let run = |text: &str| SearchKey::Run(text.into());
        let found = keys(r#"{"key":"a~1b/7","series":"a~1b"}"#, None);
        assert_eq!(found, [run("7"), run("a/b"), run("a~1b"), run("a~1b/7")]);
    }

    #[test]
    fn a_block_on_an_instance_is_found_by_the_instance() {
        let found = keys(r#"{"on":"instance:github:run_id=7,job=1"}"#, None);
        assert_eq!(found, [SearchKey::Instance("run_id=7,job=1".into())]);
        assert_eq!(keys(r#"{"on":"workload release"}"#, None), []);
    }

    #[test]
    fn a_use_is_found_by_its_task_alone() {
        let task = TaskId([7; 16]);
        let data = format!(r#"{{"about":"{task}","workload":"release","resource":"artifacts"}}"#);
        for kind in USES {
            let leaf = format!(r#"{{"v":1,"seq":null,"kind":"{kind}","data":{data},"h":null}}"#);
            let found = keys_of(&leaf, Some(r#"{"claims":{"sub":"x"}}"#), || {
                "asked".parse().ok()
            });
            assert_eq!(found, [SearchKey::Uses(task)]);
        }
    }

    #[test]
    fn an_instance_is_found_by_each_of_its_ids() {
        let instance = "repository_id=1,run_id=7,run_attempt=2,check_run_id=70";
        let part = |text: &str| SearchKey::Part(text.into());
        let whole = SearchKey::Instance(instance.into());
        let found = keys(&format!(r#"{{"instance":"{instance}"}}"#), None);
        assert_eq!(found, [whole, part("1"), part("7"), part("70")]);
    }

    #[test]
    fn whoever_vouches_for_the_person_is_found_as_an_issuer() {
        let vouched = |name: &str| SearchKey::Issuer(name.parse().unwrap());
        let data = r#"{"issuer":"github","subject":{"issuer":"staff","person":"x"}}"#;
        assert_eq!(keys(data, None), [vouched("github"), vouched("staff")]);
    }

    #[test]
    fn a_proof_is_found_by_its_digest() {
        let digest = Digest([7; 32]);
        let found = keys(&format!(r#"{{"proof":"{digest}"}}"#), None);
        assert_eq!(found, [SearchKey::Proof(digest)]);
    }

    #[test]
    fn members_of_other_types_are_passed_over() {
        assert_eq!(
            keys(r#"{"key":7,"owner":{"a":1},"workload":"Not A Name"}"#, None),
            []
        );
        assert_eq!(keys("{}", Some("not json")), []);
    }

    #[test]
    fn a_subject_needs_its_issuer() {
        let annex = Some(r#"{"claims":{"sub":"repo:o/r","iss":"x"}}"#);
        let subject = |issuer: &str| SearchKey::Subject(issuer.parse().unwrap(), "repo:o/r".into());
        let vouched = SearchKey::Issuer("github".parse().unwrap());
        assert_eq!(
            keys(r#"{"issuer":"github"}"#, annex),
            [subject("github"), vouched]
        );
        assert_eq!(keys("{}", annex), [subject("asked")]);
    }
}
