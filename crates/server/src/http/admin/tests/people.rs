//! Operators from elsewhere: which role has which route, what members may have, and who stands in the record.

use std::net::SocketAddr;

use dayfly_domain::{Cause, Name};
use dayfly_store::{Annex, Append, Document, EntryRange, Note, Store};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::super::open::Remote;
use super::super::rights::Route;
use super::*;
use crate::config::{AddressRates, Operators, Rate, Role, Who};
use crate::http::door::{Door, DoorSetup};
use crate::telemetry::Metrics;
use crate::verify::People;
use crate::verify::tests::local::LocalIssuer;

/// The admin listener of a server, and the provider of its operators.
pub(super) struct Listener {
    pub(super) served: Served,
    pub(super) issuer: LocalIssuer,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Listener {
    async fn start() -> Self {
        Self::bounded(Rate::per_minute(10_000)).await
    }

    async fn bounded(unverified: Rate) -> Self {
        let issuer = LocalIssuer::start().await;
        Self::over(Served::start().await, issuer, unverified).await
    }

    /// One whose tenant `acme` hears of the operators from their provider.
    pub(super) async fn heard() -> Self {
        let issuer = LocalIssuer::start().await;
        let served = Served::heard(Some(&issuer.url)).await;
        Self::over(served, issuer, Rate::per_minute(10_000)).await
    }

    /// The same provider, and a server that has just started over the same store and folder.
    pub(super) async fn restarted(self) -> Self {
        let served = self.served.opened_anew(&self.issuer.url).await;
        Self::over(served, self.issuer, Rate::per_minute(10_000)).await
    }

    async fn over(served: Served, issuer: LocalIssuer, unverified: Rate) -> Self {
        let role = |role: Role| (role, Who::Group(role.word().to_owned()));
        let operators = Operators {
            issuer: issuer.url.clone(),
            client_id: "dayfly".to_owned(),
            groups_claim: "groups".to_owned(),
            scopes: None,
            algs: dayfly_token::alg::Alg::DEFAULT.to_vec(),
            allow_private: true,
            roles: Role::ALL.into_iter().map(role).collect(),
        };
        let people = People::new(&operators, &KeyCache::new()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let remote = Remote {
            operators,
            people,
            rates: AddressRates {
                unverified,
                ..AddressRates::default()
            },
        };
        let ready: Ready = Arc::new(Readiness::default);
        let app = Arc::clone(&served.app);
        let router = super::super::remote(app, ready, metrics, Some(remote));
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), DoorSetup::default())
            .await
            .unwrap();
        let address = door.address().unwrap();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(door.serve(router, stopping));
        Self {
            served,
            issuer,
            address,
            _stop: stop,
        }
    }

    /// An ID token of somebody in these groups.
    pub(super) fn token(&self, sub: &str, groups: &[&str]) -> String {
        self.issuer.token(&self.claims(sub, groups))
    }

    pub(super) fn claims(&self, sub: &str, groups: &[&str]) -> Value {
        let now = self.served.app.now().seconds();
        json!({
            "iss": self.issuer.url, "sub": sub, "aud": "dayfly", "iat": now, "exp": now + 300,
            "groups": groups,
        })
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let (status, _, body) = self.ask("GET", path, &[&bearer(token)], "").await;
        (status, body)
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.ask("POST", path, &[&bearer(token)], body).await;
        (status, body)
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: dayfly\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (status, head.to_lowercase(), body)
    }
}

fn client_of(task: &TaskId) -> dayfly_domain::ClientId {
    let (task, number) = (*task, 1);
    dayfly_domain::ClientId { task, number }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Which roles have which route, written out once more; `-` is somebody without a role.
const TABLE: &str = "
    Myself          admin operator approver auditor -
    Tenants         admin operator approver auditor
    Tasks           admin operator approver auditor
    Task            admin operator approver auditor
    TaskEnd         admin operator
    TaskApprove     approver
    TaskDeny        admin operator approver
    ClientEnd       admin operator
    InstanceEnd     admin operator
    Why             admin operator auditor
    Trace           admin operator auditor
    Reach           admin operator auditor
    Findings        admin operator auditor
    Receipt         admin operator auditor
    LedgerHead      admin operator auditor
    LedgerEntries   admin operator auditor
    LedgerBundle    admin operator auditor
    LedgerVerify    admin operator auditor
    LedgerErase     admin
    Keys            admin operator auditor
    KeysRotate      admin operator
    KeysCompromise  admin
    Blocks          admin operator auditor
    BlockSet        admin operator
    Unblock         admin operator
    Owners          admin operator auditor
    OwnerEnd        admin operator
    OwnerOffboard   admin operator
    OwnerRestore    admin operator
    Review          admin operator auditor
    ReviewSign      admin operator
    Workloads       admin operator auditor
    WorkloadEnd     admin operator
    WorkloadDisable admin operator
    WorkloadEnable  admin operator
    IssuerEnd       admin operator
    TenantEnd       admin operator
    Freeze          admin operator
    Unfreeze        admin operator
    Apply           admin
    PolicyExplain   admin operator auditor
    PolicyDecisions admin operator auditor
";

#[tokio::test]
async fn every_route_is_for_the_roles_of_its_row_and_for_nobody_else() {
    let listener = Listener::start().await;
    let rows: Vec<Vec<&str>> = TABLE
        .trim()
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), Route::ALL.len(), "a route without a row");
    for (route, row) in Route::ALL.iter().zip(&rows) {
        assert_eq!(format!("{route:?}"), row[0]);
        let (method, path) = route.place();
        let path = path
            .replace("{tenant}", "acme")
            .replace("{task}", "task_00000000000000000000000000")
            .replace("{client}", "client_00000000000000000000000000_1")
            .replace("{id}", "task_00000000000000000000000000")
            .replace("{refusal}", "ref_00000000000000000000000000")
            .replace("{name}", "team-platform");
        let method = method.to_uppercase();
        let body = if method == "POST" { "{}" } else { "" };
        let (status, head, _) = listener.ask(&method, &path, &[], body).await;
        assert_eq!(status, 401, "{route:?} without a token");
        assert!(head.contains("www-authenticate: bearer realm=\"dayfly\""));
        for who in ["admin", "operator", "approver", "auditor", "-"] {
            let token = listener.token("mona", &[who]);
            let headers = [bearer(&token)];
            let (status, _, said) = listener.ask(&method, &path, &[&headers[0]], body).await;
            let may = row[1..].contains(&who);
            assert_eq!(status != 403, may, "{route:?} {who}: {status} {said}");
            assert_ne!(status, 401, "{route:?} {who}: {said}");
        }
        let (status, said) = listener.served.ask(&method, &path, body).await;
        assert!(!matches!(status, 401 | 403), "{route:?} here: {said}");
    }
}

#[tokio::test]
async fn who_lacks_a_role_is_told_which_would_do() {
    let listener = Listener::start().await;
    let auditor = listener.token("mona", &["auditor"]);
    let reason = r#"{"reason":"tired of it"}"#;
    let (status, said) = listener.post("/admin/acme/freeze", &auditor, reason).await;
    assert_eq!((status, &said["error"]), (403, &json!("access_denied")));
    assert_eq!(
        said["message"],
        "this takes the role admin or operator; your roles: auditor"
    );
    assert_eq!(
        listener.get("/admin/acme/blocks", &auditor).await.1,
        json!([])
    );
}

#[tokio::test]
async fn health_and_the_provider_are_told_to_everybody() {
    let listener = Listener::start().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(listener.ask("GET", path, &[], "").await.0, 200, "{path}");
    }
    let (_, _, told) = listener.ask("GET", "/operators", &[], "").await;
    let provider = json!({"issuer": listener.issuer.url, "client_id": "dayfly"});
    assert_eq!(told, provider);
    for path in ["/", "/admin/acme", "/admin/acme/nothing"] {
        let (status, _, said) = listener.ask("GET", path, &[], "").await;
        assert_eq!((status, &said["error"]), (401, &json!("unauthenticated")));
    }
    let operator = listener.token("mona", &["operator", "auditor"]);
    let (_, myself) = listener.get("/operators/me", &operator).await;
    assert_eq!(myself["sub"], "mona");
    assert_eq!(myself["roles"], json!(["operator", "auditor"]));
}

#[tokio::test]
async fn a_token_that_is_not_for_operators_opens_nothing() {
    let listener = Listener::start().await;
    let good = listener.claims("mona", &["admin"]);
    let but = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        listener.issuer.token(&claims)
    };
    let unsigned = {
        let token = listener.issuer.token(&good);
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    for (token, rule) in [
        (but("aud", json!("somebody-else")), "audience"),
        (but("exp", json!(1)), "times"),
        (but("iss", json!("https://idp.example")), "issuer"),
        (unsigned, "signature"),
        ("a.b.c".to_owned(), "token_form"),
    ] {
        let (status, said) = listener.get("/admin", &token).await;
        assert_eq!((status, &said["error"]), (401, &json!("invalid_token")));
        assert_eq!(said["refused"]["rule"], rule, "{said}");
    }
    let admin = listener.token("mona", &["admin"]);
    for headers in [
        vec![format!("authorization: Basic {admin}")],
        vec!["authorization: Bearer ".to_owned()],
        vec![bearer(&admin), bearer(&admin)],
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(listener.ask("GET", "/admin", &headers, "").await.0, 401);
    }
}

#[tokio::test]
async fn an_address_whose_tokens_prove_nothing_has_to_wait() {
    let listener = Listener::bounded(Rate::per_minute(3)).await;
    let admin = listener.token("mona", &["admin"]);
    for _ in 0..3 {
        assert_eq!(listener.get("/admin", "a.b.c").await.0, 401);
    }
    let (status, head, _) = listener.ask("GET", "/admin", &[&bearer(&admin)], "").await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(listener.ask("GET", "/healthz", &[], "").await.0, 200);
}

#[tokio::test]
async fn an_operator_stands_in_the_record_in_clear_beside_the_leaf_and_hashed_in_it() {
    let mut listener = Listener::start().await;
    let task = listener.served.hand.start(at(3, 0, 0), &Spec::default());
    let operator = listener.token("mona", &["operator"]);
    let end = format!("/admin/acme/tasks/{task}/end");
    for body in ["", "{}", r#"{"reason":"  "}"#] {
        assert_eq!(listener.post(&end, &operator, body).await.0, 400, "{body}");
    }
    let reason = r#"{"reason":"leaked"}"#;
    assert_eq!(listener.post(&end, &operator, reason).await.0, 200);
    let (_, trace) = listener
        .get(&format!("/admin/acme/trace?key={task}"), &operator)
        .await;
    let by = format!("mona of {}", listener.issuer.url);
    assert_eq!(trace["tasks"][0]["by"], by);
    assert_eq!(trace["tasks"][0]["reason"], "leaked");
    let rotate = r#"{"use":"token","reason":"due"}"#;
    let (status, said) = listener
        .post("/admin/acme/keys/rotate", &operator, rotate)
        .await;
    assert_eq!(status, 200, "{said}");
    let offboard = "/admin/acme/owners/team-data/offboard";
    let (status, said) = listener.post(offboard, &operator, reason).await;
    assert_eq!(status, 200, "{said}");
    let acme: Name = "acme".parse().unwrap();
    let store = &listener.served.hand.store;
    let entries = store.entries(&acme, EntryRange::From(0), 100).unwrap();
    let mut kinds = Vec::new();
    for entry in entries {
        assert!(!entry.leaf.contains("mona"), "{}", entry.leaf);
        assert!(!entry.leaf.contains("leaked"), "{}", entry.leaf);
        let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
        if leaf["data"]["by"].is_string() {
            let annex: Value = serde_json::from_str(&entry.annex.unwrap().data).unwrap();
            assert_eq!(annex["by"]["sub"], "mona");
            assert_eq!(annex["by"]["iss"], listener.issuer.url);
            kinds.push(leaf["kind"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(
        kinds,
        ["task.ended", "block.set", "key.rotated", "block.set"]
    );
}

#[tokio::test]
async fn a_member_has_what_is_of_the_own_owner_and_nothing_of_another() {
    let mut listener = Listener::start().await;
    let own = listener.served.hand.start(at(3, 0, 0), &Spec::default());
    let others = Spec {
        owner: "team-data",
        workload: "report",
        key: "1296269/78/902",
        series: "1296269/78",
        instance: "run 78 attempt 1 job 902",
        ..Spec::default()
    };
    let others = listener.served.hand.start(at(3, 0, 0), &others);
    let mona = listener.token("mona", &["platform"]);
    let dora = listener.token("dora", &[]);
    let nobody = listener.token("otto", &["other"]);
    let reason = r#"{"reason":"leaked"}"#;
    let reads = |task: &TaskId| {
        [
            format!("/admin/acme/tasks/{task}"),
            format!("/admin/acme/trace?key={task}"),
        ]
    };
    for (task, may, may_not) in [(&own, &mona, &dora), (&others, &dora, &mona)] {
        for path in reads(task) {
            assert_eq!(listener.get(&path, may).await.0, 200, "{path}");
            assert_eq!(listener.get(&path, may_not).await.0, 403, "{path}");
            assert_eq!(listener.get(&path, &nobody).await.0, 403, "{path}");
        }
    }
    for key in ["https%3A%2F%2Fartifacts.example", "no-such-thing"] {
        let path = format!("/admin/acme/trace?key={key}");
        assert_eq!(listener.get(&path, &mona).await.0, 403, "{path}");
    }
    let end = |task| format!("/admin/acme/tasks/{task}/end");
    for (task, token) in [(&others, &mona), (&own, &dora), (&own, &nobody)] {
        assert_eq!(listener.post(&end(task), token, reason).await.0, 403);
    }
    // What is not there and what is not theirs are answered alike.
    let foreign = listener.post(&end(&others), &mona, reason).await;
    let unknown = TaskId([0; 16]);
    assert_eq!(listener.post(&end(&unknown), &mona, reason).await, foreign);
    assert_eq!(listener.post(&end(&own), &mona, "{}").await.0, 400);
    assert_eq!(listener.post(&end(&own), &mona, reason).await.0, 200);
    let (_, refused) = listener.post(&end(&own), &mona, reason).await;
    let why = format!("/admin/acme/why/{}", refused["refusal"].as_str().unwrap());
    assert_eq!(listener.get(&why, &mona).await.0, 200);
    assert_eq!(listener.get(&why, &dora).await.0, 403);
    let (_, standing) = listener.get(&reads(&others)[0], &dora).await;
    assert_eq!(standing["state"], "open");
    for path in [
        "/admin/acme/tasks",
        "/admin/acme/blocks",
        "/admin/acme/ledger/entries",
    ] {
        assert_eq!(listener.get(path, &mona).await.0, 403, "{path}");
    }
    assert_eq!(listener.get("/admin/other/tasks/x", &mona).await.0, 403);
    let (_, tenants) = listener.get("/admin", &mona).await;
    assert_eq!(tenants["tenants"][0]["tenant"], "acme");
    assert_eq!(listener.get("/admin", &nobody).await.0, 403);
}

/// A client of theirs came into a task of somebody else: that it did is told, and nothing of the task.
#[tokio::test]
async fn a_member_is_not_told_of_the_task_that_an_own_client_came_into() {
    let mut listener = Listener::start().await;
    let others = listener.served.hand.start(at(3, 0, 0), &Spec::default());
    listener.served.hand.delegate(at(3, 1, 0), others, 90);
    let own = Spec {
        owner: "team-data",
        workload: "report",
        ..Spec::default()
    };
    let own = listener.served.hand.start(at(3, 2, 0), &own);
    let dora = listener.token("dora", &[]);
    let path = "/admin/acme/trace?key=owner:team-data";
    let (status, trace) = listener.get(path, &dora).await;
    assert_eq!(status, 200, "{trace}");
    assert_eq!(trace["counts"]["live"], 2);
    let shown = trace["tasks"].as_array().unwrap();
    assert_eq!(
        (shown.len(), &shown[0]["task"]),
        (1, &own.to_string().into())
    );
    let words = trace.to_string();
    assert!(!words.contains(&others.to_string()), "{words}");
    assert!(words.contains("tasks of others that clients of team-data came into"));
    let (status, trace) = listener.get("/admin/acme/trace?key=scan", &dora).await;
    assert_eq!(status, 403, "{trace}");
    let hugo = listener.token("hugo", &["operator"]);
    let (_, trace) = listener.get(path, &hugo).await;
    assert_eq!(trace["tasks"].as_array().unwrap().len(), 2);
}

/// A newer attempt that another owner answers for is nobody else's affair, and what is a member's own
/// is shown on both sides.
#[tokio::test]
async fn a_member_sees_of_related_tasks_those_of_the_own_owner() {
    let mut listener = Listener::start().await;
    let first = listener.served.hand.start(at(3, 0, 0), &Spec::default());
    let newer = Spec {
        attempt: Some(2),
        supersedes: vec![first],
        ..Spec::default()
    };
    let own = listener.served.hand.start(at(3, 1, 0), &newer);
    let others = Spec {
        owner: "team-data",
        workload: "report",
        ..newer
    };
    let others = listener.served.hand.start(at(3, 2, 0), &others);
    let related = async |who: &str| {
        let path = format!("/admin/acme/trace?key={first}");
        let (status, trace) = listener.get(&path, who).await;
        assert_eq!(status, 200, "{trace}");
        let found = trace["related"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<String> = found
            .iter()
            .map(|other| other["task"].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        found
    };
    let member = listener.token("mona", &["platform"]);
    assert_eq!(related(&member).await, [own.to_string()]);
    let operator = listener.token("hugo", &["operator"]);
    assert_eq!(
        related(&operator).await,
        [own.to_string(), others.to_string()]
    );
}

/// A task of one owner may end by what was another's, or the operators' alone to stop: a member hears
/// the cause, and the words only where they are about the own owner.
#[tokio::test]
async fn a_member_reads_no_words_about_what_is_of_another() {
    let acme: Name = "acme".parse().unwrap();
    for (data, told) in [
        (
            r#"{"on":"owner:team-platform","owner":"team-platform"}"#,
            true,
        ),
        (r#"{"on":"owner:team-data","owner":"team-data"}"#, false),
        (r#"{"on":"workload:report","workload":"report"}"#, false),
        (r#"{"on":"workload:release","workload":"release"}"#, true),
        (r#"{"on":"issuer:github","issuer":"github"}"#, false),
        (r#"{"on":"tenant"}"#, false),
    ] {
        let mut listener = Listener::start().await;
        let operator = listener.token("hugo", &["operator"]);
        let member = listener.token("mona", &["platform"]);
        let hand = &mut listener.served.hand;
        let task = hand.start(at(3, 0, 0), &Spec::default());
        let pos = hand.store.head(&acme).unwrap().size;
        hand.commit(Append {
            now: at(3, 1, 0),
            notes: vec![Note {
                kind: "block.set",
                data: data.to_owned(),
                annex: Some(Annex {
                    salt: [7; 16],
                    data: r#"{"by":{"uid":7},"reason":"stole a laptop"}"#.to_owned(),
                }),
            }],
            ..Append::default()
        });
        let said_in = format!(r#"{{"said_in":{pos}}}"#);
        hand.end(at(3, 1, 1), task, Cause::OwnerOffboarded, Some(&said_in));
        for path in [
            format!("/admin/acme/trace?key={task}"),
            format!("/admin/acme/trace?key=client_{}_1", &task.to_string()[5..]),
            format!("/admin/acme/tasks/{task}"),
        ] {
            let (status, whole) = listener.get(&path, &operator).await;
            assert_eq!(status, 200, "{whole}");
            assert!(whole.to_string().contains("stole a laptop"), "{whole}");
            let (status, seen) = listener.get(&path, &member).await;
            assert_eq!(status, 200, "{seen}");
            let text = seen.to_string();
            assert!(text.contains("owner_offboarded"), "{text}");
            for words in ["stole a laptop", "uid 7"] {
                assert_eq!(text.contains(words), told, "{data} {path}: {text}");
            }
            if told {
                assert_eq!(seen, whole);
            } else {
                assert!(
                    !text.contains("block.set") && !text.contains("said_in"),
                    "{text}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_member_ends_what_is_of_the_own_owner_and_blocks_nothing() {
    let mut listener = Listener::start().await;
    let own = listener.served.hand.start(at(3, 0, 0), &Spec::default());
    let others = Spec {
        owner: "team-data",
        workload: "report",
        key: "1296269/78/902",
        series: "1296269/78",
        instance: "run 78 attempt 1 job 902",
        ..Spec::default()
    };
    let others = listener.served.hand.start(at(3, 0, 0), &others);
    let mona = listener.token("mona", &["platform"]);
    let dora = listener.token("dora", &[]);
    let nobody = listener.token("otto", &["other"]);
    let reason = r#"{"reason":"leaked"}"#;
    let client = |task: &TaskId| format!("/admin/acme/clients/{}/end", client_of(task));
    assert_eq!(listener.post(&client(&others), &mona, reason).await.0, 403);
    assert_eq!(listener.post(&client(&own), &mona, "{}").await.0, 400);
    // Others may share the instance: to block it takes the role.
    let blocking = r#"{"reason":"leaked","block":true}"#;
    assert_eq!(listener.post(&client(&own), &mona, blocking).await.0, 403);
    let (status, ended) = listener.post(&client(&own), &mona, reason).await;
    assert_eq!((status, &ended["cause"]), (200, &json!("operator")));
    let (status, over) = listener.post(&client(&own), &mona, reason).await;
    assert_eq!(
        (status, &over["refused"]["rule"]),
        (409, &json!("task_ended"))
    );
    let end_owner = "/admin/acme/owners/team-platform/end";
    for (token, body) in [(&dora, reason), (&nobody, reason), (&mona, blocking)] {
        assert_eq!(listener.post(end_owner, token, body).await.0, 403);
    }
    let counting = r#"{"dry_run":true}"#;
    let (status, would) = listener.post(end_owner, &mona, counting).await;
    assert_eq!((status, &would["applied"]), (200, &json!(false)), "{would}");
    let (status, ended) = listener.post(end_owner, &mona, reason).await;
    assert_eq!((status, &ended["on"]), (200, &json!("owner:team-platform")));
    for path in ["issuers/github/end", "end", "instances/end", "blocks"] {
        let path = format!("/admin/acme/{path}");
        assert_eq!(listener.post(&path, &mona, reason).await.0, 403, "{path}");
    }
}

/// Keeps findings of both teams and of nobody, as a look would.
async fn kept_findings(listener: &Listener) {
    let finding = |id: &str, data: Value| Document {
        name: format!("finding/open/{id}"),
        bytes: Some(data.to_string().into_bytes()),
    };
    let of = |owner: &str| {
        let data = json!({
            "opened": 1, "finding": "one_person_owner", "owner": owner, "workloads": 1,
        });
        finding(&format!("one_person_owner/owner:{owner}"), data)
    };
    let documents = vec![
        of("team-platform"),
        of("team-data"),
        finding(
            "low_disk/data",
            json!({"opened": 2, "finding": "low_disk", "free_mib": 64}),
        ),
        Document {
            name: "finding/waiting".to_owned(),
            bytes: Some(b"7".to_vec()),
        },
    ];
    let append = Append {
        documents,
        ..Append::default()
    };
    let store = &listener.served.hand.store;
    store
        .append(&"acme".parse().unwrap(), append)
        .await
        .unwrap();
}

#[tokio::test]
async fn findings_are_shown_to_members_as_far_as_they_are_their_own() {
    let listener = Listener::start().await;
    kept_findings(&listener).await;
    let seen = async |sub: &str, groups: &[&str]| {
        let token = listener.token(sub, groups);
        let (status, said) = listener.get("/admin/acme/findings", &token).await;
        assert_eq!(status, 200, "{said}");
        let all = said["findings"].as_array().unwrap().iter();
        let ids: Vec<_> = all
            .map(|view| view["id"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), said["waiting"].clone())
    };
    let own = |owner: &str| format!("one_person_owner/owner:{owner}");
    let (platform, data) = (own("team-platform"), own("team-data"));
    assert_eq!(
        seen("mona", &["platform"]).await,
        (platform.clone(), json!(0))
    );
    assert_eq!(seen("dora", &[]).await, (data.clone(), json!(0)));
    let all = format!("{data} {platform} low_disk/data");
    assert_eq!(seen("ann", &["auditor"]).await, (all, json!(7)));
}

#[tokio::test]
async fn a_member_reviews_and_signs_off_the_own_owner_and_the_record_says_so() {
    let listener = Listener::start().await;
    kept_findings(&listener).await;
    let mona = listener.token("mona", &["platform"]);
    let dora = listener.token("dora", &[]);
    let operator = listener.token("otto", &["operator"]);
    let auditor = listener.token("ann", &["auditor"]);
    let path = "/admin/acme/owners/team-platform/review";
    let sign = format!("{path}/sign");
    let (status, review) = listener.get(path, &mona).await;
    assert_eq!(status, 200, "{review}");
    assert_eq!(review["findings"][0]["owner"], "team-platform");
    assert_eq!(review["findings"].as_array().unwrap().len(), 1);
    assert_eq!(review.get("last"), None);
    assert_eq!(listener.get(path, &dora).await.0, 403);
    let revision = review["revision"].as_u64().unwrap();
    let over = |revision: u64, hash: &Value, reason: &str| {
        let since = &review["since"];
        json!({"since": since, "hash": hash, "revision": revision, "reason": reason}).to_string()
    };
    let body = |hash: &Value, reason: &str| over(revision, hash, reason);
    let good = body(&review["hash"], "all still needed");
    assert_eq!(listener.post(&sign, &dora, &good).await.0, 403);
    assert_eq!(listener.post(&sign, &auditor, &good).await.0, 403);
    let other = body(&json!("A".repeat(43)), "all still needed");
    assert_eq!(listener.post(&sign, &mona, &other).await.0, 409);
    // The same files under another revision: who answers for what may have changed.
    let later = over(revision + 1, &review["hash"], "all still needed");
    assert_eq!(listener.post(&sign, &mona, &later).await.0, 409);
    let silent = body(&review["hash"], " ");
    assert_eq!(listener.post(&sign, &mona, &silent).await.0, 400);
    let nobody = "/admin/acme/owners/nobody/review";
    assert_eq!(listener.get(nobody, &auditor).await.0, 404);
    assert_eq!(listener.get(nobody, &mona).await.0, 403);
    for (token, member) in [(&mona, true), (&operator, false)] {
        let (status, said) = listener.post(&sign, token, &good).await;
        assert_eq!((status, &said["member"]), (200, &json!(member)), "{said}");
    }
    let (_, review) = listener.get(path, &auditor).await;
    assert_eq!(review["last"]["hash"], review["hash"]);
    let acme: Name = "acme".parse().unwrap();
    let store = &listener.served.hand.store;
    let entries = store.entries(&acme, EntryRange::From(0), 100).unwrap();
    let mut signed = Vec::new();
    for entry in entries {
        let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
        if leaf["kind"] == "review.signed" {
            assert!(!entry.leaf.contains("mona") && !entry.leaf.contains("needed"));
            let annex: Value = serde_json::from_str(&entry.annex.unwrap().data).unwrap();
            assert_eq!(annex["reason"], "all still needed");
            assert!(leaf["data"]["by"].is_string());
            assert_eq!(leaf["data"]["hash"], review["hash"]);
            let who = annex["by"]["sub"].as_str().unwrap().to_owned();
            signed.push((who, leaf["data"]["member"].clone()));
        }
    }
    assert_eq!(
        signed,
        [
            ("mona".to_owned(), json!(true)),
            ("otto".to_owned(), json!(false))
        ]
    );
}
