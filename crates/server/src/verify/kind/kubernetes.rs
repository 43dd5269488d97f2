//! Kubernetes: a bound service account token names its pod; the tokens of old secrets do not.

use dayfly_domain::{Claims, Refusal, Rule};
use dayfly_token::excerpt::Excerpt;
use serde_json::{Map, Value};

use super::{Reading, malformed, missing, present};

/// The names under which the members of `kubernetes.io` stand. A claim of the same name at the top
/// of a token never stands for one of them.
const NAMES: [&str; 7] = [
    "namespace",
    "serviceaccount",
    "serviceaccount_uid",
    "pod",
    "pod_uid",
    "node",
    "node_uid",
];

/// The instance is the pod. The token is reusable by nature: the kubelet hands the same one to
/// every reader of its file.
pub(super) fn read(
    token: &dayfly_token::claims::Claims,
    mut claims: Claims,
) -> Result<Reading, Refusal> {
    for name in NAMES {
        claims.remove(name);
    }
    let bound = match token.get("kubernetes.io") {
        Some(Value::Object(bound)) => bound,
        Some(other) => return Err(wrong("kubernetes.io", "an object", other)),
        None => {
            return Err(
                missing("kubernetes.io", "namespace, service account and pod").hint(LEGACY),
            );
        }
    };
    let namespace = plain(bound.get("namespace"), "/kubernetes.io/namespace")?;
    let (account, account_uid) = named(bound, "serviceaccount")?
        .ok_or_else(|| missing("/kubernetes.io/serviceaccount", "name and uid"))?;
    let (pod, pod_uid) = named(bound, "pod")?.ok_or_else(|| {
        missing("/kubernetes.io/pod", "the pod that the token is bound to").hint(LEGACY)
    })?;
    let wanted = format!("system:serviceaccount:{namespace}:{account}");
    let sub = present(&claims, "sub", &wanted)?;
    if sub != wanted {
        return Err(malformed("sub", &wanted, sub));
    }
    let instance = format!("namespace={namespace},pod={pod},pod_uid={pod_uid}");
    let mut found = vec![namespace, account, account_uid, pod, pod_uid];
    if let Some((node, node_uid)) = named(bound, "node")? {
        found.extend([node, node_uid]);
    }
    // INVARIANT: `found` has the order of NAMES; without a node it is shorter, and so is the zip.
    for (name, text) in NAMES.into_iter().zip(found) {
        claims.insert(name.to_owned(), text.to_owned());
    }
    Ok(Reading {
        claims,
        instance,
        run_url: None,
        one_time: false,
    })
}

const LEGACY: &str = "mount a `serviceAccountToken` volume in the pod: tokens of secrets, and those \
    of `kubectl create token` without `--bound-object-kind Pod`, name no pod";

/// The `name` and `uid` of a member of `kubernetes.io`.
fn named<'a>(
    bound: &'a Map<String, Value>,
    member: &str,
) -> Result<Option<(&'a str, &'a str)>, Refusal> {
    let path = format!("/kubernetes.io/{member}");
    match bound.get(member) {
        None => Ok(None),
        Some(Value::Object(object)) => {
            let part = |name: &str| plain(object.get(name), &format!("{path}/{name}"));
            Ok(Some((part("name")?, part("uid")?)))
        }
        Some(other) => Err(wrong(&path, "an object with `name` and `uid`", other)),
    }
}

/// A name or uid, in characters that leave no doubt where it ends within an instance or a subject.
fn plain<'a>(value: Option<&'a Value>, path: &str) -> Result<&'a str, Refusal> {
    const WANTED: &str = "a name of 1 to 253 letters, digits, `-`, `_` and `.`";
    let value = value.ok_or_else(|| missing(path, WANTED))?;
    let fits = |text: &&str| {
        (1..=253).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    value
        .as_str()
        .filter(fits)
        .ok_or_else(|| wrong(path, WANTED, value))
}

fn wrong(path: &str, wanted: &str, got: &Value) -> Refusal {
    let got = Excerpt::of_json(got);
    Refusal::new(Rule::ClaimForm)
        .field(path)
        .wanted(wanted)
        .got(got.text().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::flatten::flatten;
    use serde_json::json;

    fn token() -> Value {
        json!({
            "sub": "system:serviceaccount:payments:settler",
            "kubernetes.io": {
                "namespace": "payments",
                "node": {"name": "worker-1", "uid": "646e7c5e"},
                "pod": {"name": "settler-7d9", "uid": "5e0bd49b"},
                "serviceaccount": {"name": "settler", "uid": "14ee3fa4"},
                "warnafter": 1_700_003_607,
            },
        })
    }

    fn try_read(token: &Value) -> Result<Reading, Refusal> {
        let claims = dayfly_token::claims::Claims::parse(token.to_string().as_bytes()).unwrap();
        read(&claims, flatten(&claims).unwrap())
    }

    fn refused(token: &Value) -> (Rule, String) {
        let refusal = try_read(token).unwrap_err();
        (refusal.rule, refusal.field.to_string())
    }

    #[test]
    fn members_stand_under_plain_names_and_the_pod_is_the_instance() {
        let reading = try_read(&token()).unwrap();
        assert_eq!(
            reading.instance,
            "namespace=payments,pod=settler-7d9,pod_uid=5e0bd49b"
        );
        assert!(!reading.one_time);
        let names = NAMES.map(|name| reading.claims.get(name).unwrap().as_str());
        let wanted = [
            "payments",
            "settler",
            "14ee3fa4",
            "settler-7d9",
            "5e0bd49b",
            "worker-1",
            "646e7c5e",
        ];
        assert_eq!(names, wanted);
        assert_eq!(
            reading.claims.get("/kubernetes.io/pod/uid").unwrap(),
            "5e0bd49b"
        );
    }

    #[test]
    fn a_claim_at_the_top_shadows_nothing() {
        let mut hostile = token();
        for name in NAMES {
            hostile[name] = json!("kube-system");
        }
        hostile["/kubernetes.io/namespace"] = json!("kube-system");
        hostile["kubernetes.io"]
            .as_object_mut()
            .unwrap()
            .remove("node");
        let reading = try_read(&hostile).unwrap();
        assert_eq!(reading.claims.get("namespace").unwrap(), "payments");
        assert_eq!(
            reading.claims.get("/kubernetes.io/namespace").unwrap(),
            "payments"
        );
        assert_eq!(reading.claims.get("node"), None);
        assert_eq!(reading.claims.get("node_uid"), None);
    }

    #[test]
    fn a_token_without_a_pod_is_refused_with_what_to_do() {
        let mut legacy = token();
        legacy["kubernetes.io"]
            .as_object_mut()
            .unwrap()
            .remove("pod");
        let refusal = try_read(&legacy).unwrap_err();
        assert_eq!(
            (refusal.rule, &*refusal.field),
            (Rule::ClaimMissing, "/kubernetes.io/pod")
        );
        assert!(refusal.hint.contains("serviceAccountToken"));
        let of_a_secret = json!({
            "sub": "system:serviceaccount:payments:settler",
            "kubernetes.io/serviceaccount/namespace": "payments",
        });
        assert_eq!(
            refused(&of_a_secret),
            (Rule::ClaimMissing, "kubernetes.io".to_owned())
        );
    }

    #[test]
    fn the_subject_agrees_and_names_are_plain() {
        let mut other = token();
        other["sub"] = json!("system:serviceaccount:payments:admin");
        assert_eq!(refused(&other), (Rule::ClaimForm, "sub".to_owned()));
        let mut odd = token();
        odd["kubernetes.io"]["namespace"] = json!("a,pod_uid=1");
        assert_eq!(
            refused(&odd),
            (Rule::ClaimForm, "/kubernetes.io/namespace".to_owned())
        );
        let mut odd = token();
        odd["kubernetes.io"]["pod"]["uid"] = json!(7);
        assert_eq!(
            refused(&odd),
            (Rule::ClaimForm, "/kubernetes.io/pod/uid".to_owned())
        );
        let mut odd = token();
        odd["kubernetes.io"]["pod"] = json!("settler");
        assert_eq!(
            refused(&odd),
            (Rule::ClaimForm, "/kubernetes.io/pod".to_owned())
        );
    }
}
