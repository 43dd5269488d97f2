//! The question and the answer as Kubernetes writes them (`authentication.k8s.io/v1`, kind `TokenReview`), and what an answer is worth.

use std::collections::BTreeMap;

use dayfly_domain::{Refusal, Rule};
use dayfly_token::excerpt::Excerpt;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{PodToken, unasked};

/// Where a cluster is asked, below the URL of its API server.
pub(super) const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";
/// The extra of a user under which the authenticator of service accounts names the pod.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// What the authenticator of service accounts says of a token whose pod it does not find, or finds to be
/// deleted for a minute: Kubernetes `pkg/serviceaccount/claims.go`, in the words that 1.23 has already, and in
/// older ones.
const INVALIDATED: [&str; 2] = [
    "service account token has been invalidated",
    "Token has been invalidated",
];
/// How many names an explanation lists.
const LISTED: usize = 8;
/// How much of what a cluster says of an error is told.
const TOLD_BYTES: usize = 256;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    token: &'a str,
    audiences: [&'a str; 1],
}

/// What is read of an answer. It repeats the question, and with it the token, which is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: String,
    kind: String,
    status: Status,
}

/// An absent member is what Go leaves out: false, nothing, nobody.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    error: String,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// The question about a token, which names the one audience that it was made for.
pub(super) fn question(about: &PodToken) -> Zeroizing<Vec<u8>> {
    let token = str::from_utf8(about.text.expose()).unwrap_or_default();
    let question = Question {
        api_version: API_VERSION,
        kind: KIND,
        spec: Spec {
            token,
            audiences: [&about.audience],
        },
    };
    // As much at once as it takes: what grows leaves copies behind.
    let room = 2 * (token.len() + about.audience.len()) + 256;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    // Texts alone are written into memory, which cannot fail; an empty question would be refused.
    let _written = serde_json::to_writer(&mut *text, &question);
    text
}

/// What an answer is worth: the cluster vouches for this very token, or it does not, or nobody
/// knows.
pub(super) fn judge(answer: &[u8], about: &PodToken) -> Result<(), Refusal> {
    // What does not fit may stand within the token that is repeated, so where it does not fit is all
    // that is told.
    let answer: Answer = serde_json::from_slice(answer).map_err(|why| {
        let place = format!("line {}, column {}", why.line(), why.column());
        unasked(&format!("the answer is no {KIND}: {place}"))
    })?;
    if answer.api_version != API_VERSION || answer.kind != KIND {
        return Err(unasked(&format!(
            "the answer is no {KIND} of {API_VERSION}"
        )));
    }
    let status = answer.status;
    if !status.authenticated {
        let said = said(&status.error, about);
        if is_gone(&status.error, about) {
            return Err(fell("status.authenticated", "true", "false").hint(said));
        }
        // It answers 201 also where it could not check.
        return Err(unasked(&format!("not vouched for: {said}")));
    }
    if !status.error.is_empty() {
        let said = said(&status.error, about);
        return Err(unasked(&format!("the answer contradicts itself: {said}")));
    }
    let named = |audience: &String| *audience == about.audience;
    if !status.audiences.iter().any(named) {
        let got = listed(&status.audiences);
        return Err(fell("status.audiences", &about.audience, &got)
            .hint("an API server that does not know of audiences cannot confirm one"));
    }
    let User {
        username,
        uid,
        extra,
    } = &status.user;
    let pod = extra.get(POD_UID).map(Vec::as_slice).unwrap_or_default();
    let pod = match pod {
        [only] => only.as_str(),
        [] | [_, _, ..] => "",
    };
    for (field, claim, got) in [
        ("status.user.username", "sub", username.as_str()),
        ("status.user.uid", "serviceaccount_uid", uid),
        ("status.user.extra.pod-uid", "pod_uid", pod),
    ] {
        let wanted = about.claim(claim);
        if wanted.is_empty() || got != wanted {
            let got = Excerpt::of(got);
            let got = got.text().filter(|got| !got.is_empty());
            return Err(fell(field, wanted, got.unwrap_or("nothing")));
        }
    }
    Ok(())
}

/// Whether an error says that the pod or the account of this very token is gone. Other errors are of the
/// check and not of the pod: a token that has expired, a key that was not found, a look-up that failed.
/// Other authenticators of the same cluster have words of their own, which stand in the same error, so
/// whatever names what is gone must name what this token does.
///
/// The texts are those of Kubernetes `pkg/serviceaccount/claims.go`, as it stands since tokens can be bound
/// to nodes too (1.29): a pod in whose place another one of its name is, the same of its account, and an
/// account that is being deleted, each in the words of today and in older ones. An account that is deleted altogether is told by what its
/// look-up answers (`pkg/controller/serviceaccount/tokengetter.go`), which is passed on as it is. Nodes and
/// secrets are looked up for tokens that are bound to no pod, which are no proof here.
fn is_gone(error: &str, about: &PodToken) -> bool {
    let [namespace, account, account_uid, pod_uid] = [
        "namespace",
        "serviceaccount",
        "serviceaccount_uid",
        "pod_uid",
    ]
    .map(|claim| about.claim(claim));
    let named = [
        format!("does not match service account pod ref claim ({pod_uid})"),
        format!("does not match claim ({pod_uid})"),
        format!("does not match claim ({account_uid})"),
        format!(" {namespace}/{account} has been deleted"),
        format!("serviceaccounts \"{account}\" not found"),
    ];
    let mut named = named.iter().map(String::as_str);
    INVALIDATED.iter().any(|said| error.contains(said)) || named.any(|said| error.contains(said))
}

fn fell(field: &str, wanted: &str, got: &str) -> Refusal {
    Refusal::new(Rule::TokenReview)
        .field(field)
        .wanted(wanted)
        .got(got)
}

fn listed(audiences: &[String]) -> String {
    if audiences.is_empty() {
        return "none".to_owned();
    }
    let shown = audiences.iter().take(LISTED);
    let shown: Vec<String> = shown
        .map(|audience| Excerpt::of(audience).to_string())
        .collect();
    shown.join(", ")
}

/// What the cluster says of an error, unless it repeats the token.
fn said(error: &str, about: &PodToken) -> String {
    let token = str::from_utf8(about.text.expose()).unwrap_or_default();
    let repeats = token.split('.').any(|part| error.contains(part));
    if error.is_empty() || repeats {
        return "the cluster says no more".to_owned();
    }
    let plain = error.chars().filter(|c| !c.is_control());
    let mut told = String::new();
    for c in plain {
        if told.len() + c.len_utf8() > TOLD_BYTES {
            break;
        }
        told.push(c);
    }
    format!("the cluster says: {told}")
}
