//! The wire shape of each event, byte for byte: a change here changes ledgers that exist.

#![cfg(test)]

use std::collections::BTreeMap;

use dayfly_domain::access::{Detail, Field, Pattern, Scalar};
use dayfly_domain::*;

const ACCESS: &str = r#"[{"type":"artifact","resource":"artifacts","fields":{"actions":{"set":["publish","read"]},"age":{"min":18},"identifier":{"path":["octo-repo/*","x"]},"size":{"max":-10},"tier":{"exact":["gold",2,true]}}},{"type":"bare","resource":"artifacts"}]"#;

#[test]
fn each_event_has_its_bytes() {
    for (event, kind, wanted) in events() {
        assert_eq!(event.kind(), kind);
        let bytes = serde_json::to_string(&event).unwrap();
        assert_eq!(bytes, wanted.replace("ACCESS", ACCESS), "{kind}");
        let mut reader = serde_json::Deserializer::from_str(&bytes);
        assert_eq!(Event::read(kind, &mut reader).unwrap(), Ok(event));
    }
}

#[test]
fn what_is_no_event_of_a_task_is_said_to_be_none() {
    let mut reader = serde_json::Deserializer::from_str("{}");
    assert_eq!(
        Event::read("use.allowed", &mut reader).unwrap(),
        Err(UnknownKind)
    );
    let mut reader = serde_json::Deserializer::from_str("{}");
    assert!(Event::read("task.ended", &mut reader).is_err());
}

/// What an earlier ledger left out reads as what it meant then.
#[test]
fn fields_that_were_added_have_defaults() {
    let before = r#"{"client":1,"cause":"completed","at":1767225661000}"#;
    let mut reader = serde_json::Deserializer::from_str(before);
    let Ok(Event::ClientEnded(ended)) = Event::read("client.ended", &mut reader).unwrap() else {
        panic!("it is the end of a client");
    };
    assert_eq!((ended.by, ended.last_expiry), (None, None));
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn events() -> Vec<(Event, &'static str, &'static str)> {
    let mut events = asked();
    events.extend(answered());
    events.extend(started());
    events.extend(granted());
    events.extend(acting());
    events.extend(delegated());
    events.extend(ended());
    events
}

fn asked() -> Vec<(Event, &'static str, &'static str)> {
    let requested = TaskRequested {
        workload: name("release"),
        owner: name("team-platform"),
        issuer: name("github"),
        key: "1/7/c1".into(),
        series: "1/7".into(),
        attempt: Some(2),
        subject: None,
        requested: Time::from_millis(1_767_225_600_123),
        expires: Time::from_millis(1_767_227_400_123),
        people: 2,
        asked_by: Some(Digest([6; 32])),
        code: Digest([7; 32]),
        jkt: Digest([2; 32]),
        jwk: r#"{"kty":"OKP"}"#.into(),
        instance: "job-1".into(),
        proof: Digest([3; 32]),
        request: Digest([4; 32]),
        filled: Claims::from([("repository".into(), "octo/hello".into())]),
        access: access(),
        resource: name("artifacts"),
        until: Some(Time::from_millis(1_767_229_200_123)),
        epochs: vec![Epoch {
            of: EpochOf::Tenant,
            at: 1,
        }],
        supersedes: vec![TaskId([1; 16])],
    };
    let plain = TaskRequested {
        attempt: None,
        subject: None,
        people: 1,
        asked_by: None,
        filled: Claims::new(),
        until: None,
        supersedes: Vec::new(),
        ..requested.clone()
    };
    vec![
        (
            Event::TaskRequested(Box::new(requested)),
            "task.requested",
            r#"{"workload":"release","owner":"team-platform","issuer":"github","key":"1/7/c1","series":"1/7","attempt":2,"requested":1767225600123,"expires":1767227400123,"people":2,"asked_by":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","code":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","jwk":"{\"kty\":\"OKP\"}","instance":"job-1","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","filled":{"repository":"octo/hello"},"access":ACCESS,"resource":"artifacts","until":1767229200123,"epochs":[{"of":"tenant","at":1}],"supersedes":["task_01040g2081040g2081040g2081"]}"#,
        ),
        (
            Event::TaskRequested(Box::new(plain)),
            "task.requested",
            r#"{"workload":"release","owner":"team-platform","issuer":"github","key":"1/7/c1","series":"1/7","requested":1767225600123,"expires":1767227400123,"people":1,"code":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","jwk":"{\"kty\":\"OKP\"}","instance":"job-1","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","access":ACCESS,"resource":"artifacts","epochs":[{"of":"tenant","at":1}]}"#,
        ),
    ]
}

fn answered() -> Vec<(Event, &'static str, &'static str)> {
    let approved = TaskApproved {
        at: Time::from_millis(1_767_225_700_000),
        by: Digest([8; 32]),
        fetch_by: Some(Time::from_millis(1_767_226_000_000)),
    };
    let first = TaskApproved {
        fetch_by: None,
        ..approved.clone()
    };
    let denied = TaskDenied {
        at: Time::from_millis(1_767_225_700_000),
        by: Some(Digest([8; 32])),
    };
    let local = TaskDenied {
        by: None,
        ..denied.clone()
    };
    vec![
        (
            Event::TaskApproved(approved),
            "task.approved",
            r#"{"at":1767225700000,"by":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg","fetch_by":1767226000000}"#,
        ),
        (
            Event::TaskApproved(first),
            "task.approved",
            r#"{"at":1767225700000,"by":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"}"#,
        ),
        (
            Event::TaskDenied(denied),
            "task.denied",
            r#"{"at":1767225700000,"by":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"}"#,
        ),
        (
            Event::TaskDenied(local),
            "task.denied",
            r#"{"at":1767225700000}"#,
        ),
    ]
}

fn started() -> Vec<(Event, &'static str, &'static str)> {
    let epoch = |of, at| Epoch { of, at };
    let started = TaskStarted {
        workload: name("release"),
        owner: name("team-platform"),
        issuer: name("github"),
        key: "1/7/c1".into(),
        series: "1/7".into(),
        attempt: Some(2),
        subject: None,
        repeat: Repeat::Refuse,
        opened: Time::from_millis(1_767_225_600_123),
        deadline: Time::from_millis(1_767_229_200_123),
        heartbeat: Heartbeat::default(),
        linger: Span::ZERO,
        epochs: vec![
            epoch(EpochOf::Tenant, 1),
            epoch(EpochOf::Issuer(name("github")), 2),
            epoch(EpochOf::Owner(name("team-platform")), 3),
            epoch(EpochOf::Workload(name("release")), 4),
        ],
        supersedes: vec![TaskId([1; 16])],
    };
    let plain = TaskStarted {
        attempt: None,
        subject: None,
        repeat: Repeat::Join,
        epochs: Vec::new(),
        supersedes: Vec::new(),
        ..started.clone()
    };
    let subject = TaskStarted {
        subject: Some(Subject {
            issuer: name("staff"),
            person: Digest([9; 32]),
            authenticated: Time::from_seconds(1_767_225_540),
        }),
        epochs: vec![epoch(EpochOf::Person(Digest([9; 32])), 1_767_225_540_000)],
        ..plain.clone()
    };
    vec![
        (
            Event::TaskStarted(subject),
            "task.started",
            r#"{"workload":"release","owner":"team-platform","issuer":"github","key":"1/7/c1","series":"1/7","subject":{"issuer":"staff","person":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk","authenticated":1767225540000},"repeat":"join","opened":1767225600123,"deadline":1767229200123,"heartbeat":{"mode":"auto","every":30000,"grace":300000},"linger":0,"epochs":[{"of":{"person":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk"},"at":1767225540000}]}"#,
        ),
        (
            Event::TaskStarted(started),
            "task.started",
            r#"{"workload":"release","owner":"team-platform","issuer":"github","key":"1/7/c1","series":"1/7","attempt":2,"repeat":"refuse","opened":1767225600123,"deadline":1767229200123,"heartbeat":{"mode":"auto","every":30000,"grace":300000},"linger":0,"epochs":[{"of":"tenant","at":1},{"of":{"issuer":"github"},"at":2},{"of":{"owner":"team-platform"},"at":3},{"of":{"workload":"release"},"at":4}],"supersedes":["task_01040g2081040g2081040g2081"]}"#,
        ),
        (
            Event::TaskStarted(plain),
            "task.started",
            r#"{"workload":"release","owner":"team-platform","issuer":"github","key":"1/7/c1","series":"1/7","repeat":"join","opened":1767225600123,"deadline":1767229200123,"heartbeat":{"mode":"auto","every":30000,"grace":300000},"linger":0,"epochs":[]}"#,
        ),
    ]
}

fn access() -> Vec<Detail> {
    let path = |text| Pattern::declared(text).unwrap();
    let text = |text: &str| text.to_string();
    let tier = vec![
        Scalar::Text(text("gold")),
        Scalar::Int(2),
        Scalar::Bool(true),
    ];
    let detail = Detail {
        kind: text("artifact"),
        resource: name("artifacts"),
        fields: BTreeMap::from([
            (
                text("actions"),
                Field::Set([text("read"), text("publish")].into()),
            ),
            (
                text("identifier"),
                Field::Path(vec![path("octo-repo/*"), path("x")]),
            ),
            (text("size"), Field::Max(-10)),
            (text("age"), Field::Min(18)),
            (text("tier"), Field::Exact(tier)),
        ]),
        scope: None,
    };
    let bare = Detail {
        kind: text("bare"),
        fields: BTreeMap::new(),
        ..detail.clone()
    };
    vec![detail, bare]
}

fn granted() -> Vec<(Event, &'static str, &'static str)> {
    let registered = ClientRegistered {
        client: 1,
        jkt: Some(Digest([2; 32])),
        jwk: Some(r#"{"kty":"OKP"}"#.into()),
        instance: "job-1".into(),
        proof: Digest([3; 32]),
        request: Digest([4; 32]),
        filled: Claims::from([("repository".into(), "octo/hello".into())]),
        access: access(),
        expires: Time::from_millis(1_767_229_200_123),
    };
    let bearer = ClientRegistered {
        jkt: None,
        jwk: None,
        filled: Claims::new(),
        ..registered.clone()
    };
    let issued = CredentialIssued {
        client: 1,
        credential: 2,
        resource: name("artifacts"),
        audience: "https://artifacts.example".into(),
        access: access(),
        scope: vec!["artifacts:publish".into()],
        issued: Time::from_seconds(1_767_225_600),
        expires: Time::from_seconds(1_767_225_900),
        jkt: Some(Digest([2; 32])),
        alg: "ES256".into(),
        kid: "k1".into(),
        hash: Digest([5; 32]),
        act: Vec::new(),
        may_act: Vec::new(),
        on_behalf_of: None,
    };
    let plain = CredentialIssued {
        scope: Vec::new(),
        jkt: None,
        ..issued.clone()
    };
    vec![
        (
            Event::ClientRegistered(registered),
            "client.registered",
            r#"{"client":1,"jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","jwk":"{\"kty\":\"OKP\"}","instance":"job-1","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","filled":{"repository":"octo/hello"},"access":ACCESS,"expires":1767229200123}"#,
        ),
        (
            Event::ClientRegistered(bearer),
            "client.registered",
            r#"{"client":1,"instance":"job-1","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","access":ACCESS,"expires":1767229200123}"#,
        ),
        (
            Event::CredentialIssued(issued),
            "credential.issued",
            r#"{"client":1,"credential":2,"resource":"artifacts","audience":"https://artifacts.example","access":ACCESS,"scope":["artifacts:publish"],"issued":1767225600000,"expires":1767225900000,"jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","alg":"ES256","kid":"k1","hash":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}"#,
        ),
        (
            Event::CredentialIssued(plain),
            "credential.issued",
            r#"{"client":1,"credential":2,"resource":"artifacts","audience":"https://artifacts.example","access":ACCESS,"issued":1767225600000,"expires":1767225900000,"alg":"ES256","kid":"k1","hash":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}"#,
        ),
    ]
}

fn acting() -> Vec<(Event, &'static str, &'static str)> {
    let issued = granted().pop().map(|(event, _, _)| event);
    let Some(Event::CredentialIssued(plain)) = issued else {
        panic!("the last grant is a credential without a key");
    };
    let acting = CredentialIssued {
        act: [(3, "scan"), (1, "release")]
            .map(|(client, workload)| ChainLink {
                client,
                workload: name(workload),
            })
            .into(),
        may_act: vec![name("release"), name("scan")],
        ..plain.clone()
    };
    let person = CredentialIssued {
        act: vec![ChainLink {
            client: 1,
            workload: name("release"),
        }],
        on_behalf_of: Some(OnBehalfOf::Person),
        ..plain.clone()
    };
    let pseudonym = CredentialIssued {
        on_behalf_of: Some(OnBehalfOf::Pseudonym),
        ..plain
    };
    vec![
        (
            Event::CredentialIssued(person),
            "credential.issued",
            r#"{"client":1,"credential":2,"resource":"artifacts","audience":"https://artifacts.example","access":ACCESS,"issued":1767225600000,"expires":1767225900000,"act":[{"client":1,"workload":"release"}],"on_behalf_of":"person","alg":"ES256","kid":"k1","hash":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}"#,
        ),
        (
            Event::CredentialIssued(pseudonym),
            "credential.issued",
            r#"{"client":1,"credential":2,"resource":"artifacts","audience":"https://artifacts.example","access":ACCESS,"issued":1767225600000,"expires":1767225900000,"on_behalf_of":"pseudonym","alg":"ES256","kid":"k1","hash":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}"#,
        ),
        (
            Event::CredentialIssued(acting),
            "credential.issued",
            r#"{"client":1,"credential":2,"resource":"artifacts","audience":"https://artifacts.example","access":ACCESS,"issued":1767225600000,"expires":1767225900000,"act":[{"client":3,"workload":"scan"},{"client":1,"workload":"release"}],"may_act":["release","scan"],"alg":"ES256","kid":"k1","hash":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}"#,
        ),
    ]
}

fn delegated() -> Vec<(Event, &'static str, &'static str)> {
    let delegated = ClientDelegated {
        client: 3,
        parent: 1,
        jkt: Some(Digest([2; 32])),
        jwk: Some(r#"{"kty":"OKP"}"#.into()),
        instance: "pod-1".into(),
        handover: Digest([6; 32]),
        proof: Some(Digest([3; 32])),
        request: Digest([4; 32]),
        filled: Claims::from([("repository".into(), "octo/hello".into())]),
        own: Some(Own {
            workload: name("scan"),
            owner: name("team-scan"),
            issuer: name("cluster"),
            key: "pod-1".into(),
            epochs: vec![Epoch {
                of: EpochOf::Workload(name("scan")),
                at: 4,
            }],
        }),
        access: access(),
        expires: Time::from_millis(1_767_229_200_123),
    };
    let mut without_key = delegated.clone();
    without_key.own.as_mut().unwrap().key.clear();
    let plain = ClientDelegated {
        jkt: None,
        jwk: None,
        proof: None,
        filled: Claims::new(),
        own: None,
        ..delegated.clone()
    };
    vec![
        (
            Event::ClientDelegated(delegated),
            "client.delegated",
            r#"{"client":3,"parent":1,"jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","jwk":"{\"kty\":\"OKP\"}","instance":"pod-1","handover":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","filled":{"repository":"octo/hello"},"own":{"workload":"scan","owner":"team-scan","issuer":"cluster","key":"pod-1","epochs":[{"of":{"workload":"scan"},"at":4}]},"access":ACCESS,"expires":1767229200123}"#,
        ),
        (
            Event::ClientDelegated(without_key),
            "client.delegated",
            r#"{"client":3,"parent":1,"jkt":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","jwk":"{\"kty\":\"OKP\"}","instance":"pod-1","handover":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","proof":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","filled":{"repository":"octo/hello"},"own":{"workload":"scan","owner":"team-scan","issuer":"cluster","epochs":[{"of":{"workload":"scan"},"at":4}]},"access":ACCESS,"expires":1767229200123}"#,
        ),
        (
            Event::ClientDelegated(plain),
            "client.delegated",
            r#"{"client":3,"parent":1,"instance":"pod-1","handover":"BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY","request":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","access":ACCESS,"expires":1767229200123}"#,
        ),
    ]
}

fn ended() -> Vec<(Event, &'static str, &'static str)> {
    let at = Time::from_seconds(1_767_225_661);
    let last_expiry = Some(Time::from_seconds(1_767_225_900));
    vec![
        (
            Event::CredentialRevoked(CredentialRevoked {
                client: 1,
                credential: 2,
            }),
            "credential.revoked",
            r#"{"client":1,"credential":2}"#,
        ),
        (
            Event::ClientEnded(ClientEnded {
                client: 1,
                cause: Cause::OwnerOffboarded,
                at,
                by: None,
                last_expiry,
            }),
            "client.ended",
            r#"{"client":1,"cause":"owner_offboarded","at":1767225661000,"last_expiry":1767225900000}"#,
        ),
        (
            Event::ClientEnded(ClientEnded {
                client: 2,
                cause: Cause::Operator,
                at,
                by: Some(Digest([7; 32])),
                last_expiry: None,
            }),
            "client.ended",
            r#"{"client":2,"cause":"operator","at":1767225661000,"by":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}"#,
        ),
        (
            Event::TaskEnded(TaskEnded {
                cause: Cause::Completed,
                at,
                count: 7,
                by: None,
                last_expiry,
            }),
            "task.ended",
            r#"{"cause":"completed","at":1767225661000,"count":7,"last_expiry":1767225900000}"#,
        ),
        (
            Event::TaskEnded(TaskEnded {
                cause: Cause::Deadline,
                at,
                count: 7,
                by: None,
                last_expiry: None,
            }),
            "task.ended",
            r#"{"cause":"deadline","at":1767225661000,"count":7}"#,
        ),
        (
            Event::TaskEnded(TaskEnded {
                cause: Cause::Operator,
                at,
                count: 7,
                by: Some(Digest([0; 32])),
                last_expiry: None,
            }),
            "task.ended",
            r#"{"cause":"operator","at":1767225661000,"count":7,"by":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        ),
    ]
}

#[test]
fn every_cause_has_its_word() {
    let words = "completed failed cancelled deadline heartbeat superseded parent revoked denied \
        expired owner_offboarded workload_disabled issuer_removed policy operator upstream restored";
    for word in words.split_whitespace() {
        let cause: Cause = serde_json::from_value(word.into()).unwrap();
        assert_eq!(cause.word(), word);
        assert_eq!(serde_json::to_value(cause).unwrap(), word);
    }
}
