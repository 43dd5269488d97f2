//! Malformed requests: the right error, nothing written, no panic.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::job::{ASSERTION_TYPE, EXCHANGE, JWT_BEARER, claims, new_key, signed};
use super::world::{FORM, World, encoded};

/// Headers and body of a request, and the status and rule that refuse it.
type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str);

/// Sends bytes as they are and answers the status of the first response.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(world.address())
        .await
        .unwrap();
    // The server may answer and close before all of it is written.
    let _closed = stream.write_all(bytes).await;
    let mut answer = vec![0; 512];
    let read = stream.read(&mut answer).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn malformed_forms_are_refused_and_nothing_is_written() {
    let world = World::new().await;
    let before = world.size();
    let proof = signed(&claims(&world, 1, 1));
    let good = encoded(&[("grant_type", JWT_BEARER), ("assertion", &proof)]);
    let large = format!("{good}&x={}", "y".repeat(65_536));
    let many = (0..100).map(|n| format!("p{n}=1&")).collect::<String>();
    let form = [("content-type", FORM)];
    let latin = [(
        "content-type",
        "application/x-www-form-urlencoded; charset=ISO-8859-1",
    )];
    let cases: Vec<Case<'_>> = vec![
        (&form, large.into(), 413, "body_size"),
        (&form, many.into(), 413, "body_size"),
        (&form, vec![b'a'; 65_537], 413, "body_size"),
        (&form, Vec::new(), 400, "missing_parameter"),
        (&form, vec![b'&'; 60_000], 400, "missing_parameter"),
        (&form, b"grant_type=".to_vec(), 400, "missing_parameter"),
        (&form, b"grant_type=%ff".to_vec(), 400, "encoding"),
        (&form, b"grant_type=\xff\xfe".to_vec(), 400, "encoding"),
        (&form, b"grant_type=%c0%af".to_vec(), 400, "encoding"),
        (&form, b"grant_type=%ed%a0%80".to_vec(), 400, "encoding"),
        (&form, b"grant_type=%".to_vec(), 400, "encoding"),
        (&form, b"grant_type=%u0041".to_vec(), 400, "encoding"),
        (&form, b"%ff=1".to_vec(), 400, "encoding"),
        (
            &form,
            format!("{good}&grant_type={JWT_BEARER}").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            format!("{good}&assertion=x").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            format!("{good}&scope=a&scope=b").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            format!("{good}&scope=&scope=").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            format!("{good}&sc%6fpe=a&scope=b").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            format!("{good}&x=1&x=2").into(),
            400,
            "repeated_parameter",
        ),
        (
            &form,
            b"grant_type=password&username=a&password=b".to_vec(),
            400,
            "grant_type",
        ),
        (
            &form,
            b"grant_type=authorization_code&code=x".to_vec(),
            400,
            "grant_type",
        ),
        (
            &form,
            b"grant_type=refresh_token&refresh_token=x".to_vec(),
            400,
            "grant_type",
        ),
        (
            &form,
            b"grant_type=client_credentials%00".to_vec(),
            400,
            "grant_type",
        ),
        (
            &form,
            format!("grant_type={JWT_BEARER}").into(),
            400,
            "missing_parameter",
        ),
        (
            &form,
            format!("grant_type={EXCHANGE}").into(),
            400,
            "missing_parameter",
        ),
        (
            &[("content-type", "application/json")],
            json!({"grant_type": JWT_BEARER, "assertion": proof})
                .to_string()
                .into(),
            400,
            "content_type",
        ),
        (
            &[("content-type", "text/plain")],
            good.clone().into(),
            400,
            "content_type",
        ),
        (
            &[("content-type", "multipart/form-data; boundary=x")],
            good.clone().into(),
            400,
            "content_type",
        ),
        (&[], good.clone().into(), 400, "content_type"),
        (
            &[("content-type", FORM), ("content-type", FORM)],
            good.clone().into(),
            400,
            "content_type",
        ),
        (
            &[("content-type", "application/x-www-form-urlencodedx")],
            good.clone().into(),
            400,
            "content_type",
        ),
        (&latin, b"grant_type=password".to_vec(), 400, "grant_type"),
    ];
    for (headers, body, status, rule) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        for path in ["/token", "/introspect", "/revoke"] {
            let reply = world.send("POST", path, headers, body.clone()).await;
            if path == "/token" {
                assert_eq!((reply.status, reply.rule()), (status, rule), "{shown}");
                assert!(reply.header("cache-control").contains("no-store"));
            }
            assert!(
                (400..500).contains(&reply.status),
                "{path} {shown}: {}",
                reply.text
            );
            assert_eq!(reply.header("content-type"), "application/json");
            let said = reply.str("error_description");
            assert!(
                said.bytes()
                    .all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e))
            );
        }
    }
    assert_eq!(world.size(), before);
    // An unknown parameter alone is no mistake (RFC 6749, section 3.2).
    let reply = world
        .ask(
            &proof,
            Some(&new_key()),
            &[("unknown", "1"), ("scope", "queue:read")],
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn other_methods_and_paths_lead_nowhere() {
    let world = World::new().await;
    let before = world.size();
    for (method, path, status) in [
        ("GET", "/acme/token", 405),
        ("PUT", "/acme/token", 405),
        ("DELETE", "/acme/revoke", 405),
        ("GET", "/acme/introspect", 405),
        ("POST", "/acme/jwks", 405),
        ("GET", "/acme/tasks/x/end", 405),
        ("DELETE", "/acme/tasks/x", 405),
        ("GET", "/nobody/token", 405),
        ("POST", "/nobody/token", 404),
        ("POST", "/ACME/token", 404),
        ("POST", "/%61cme/token", 404),
        ("POST", "/acme%2ftoken", 404),
        ("POST", "//acme/token", 404),
        ("POST", "/acme/token/", 404),
        ("POST", "/acme//token", 404),
        ("GET", "/.well-known/oauth-authorization-server/nobody", 404),
        ("GET", "/.well-known/oauth-authorization-server", 404),
        ("GET", "/.well-known/oauth-authorization-server/acme/x", 404),
        ("GET", "/.well-known/.well-known/openid-configuration", 404),
        ("GET", "/acme/ledger/tile/0/000.p/0", 404),
        ("GET", "/acme/ledger/tile/0/x000/000", 404),
        ("GET", "/acme/ledger/tile/entries/000", 404),
        ("GET", "/acme/ledger/tile/0/000", 404),
        ("GET", "/acme/ledger/tile/-1/000", 404),
        ("GET", "/acme/ledger/tile/63/000", 404),
        (
            "GET",
            "/acme/ledger/tile/255/x999/x999/x999/x999/x999/x999/999",
            404,
        ),
        ("GET", "/acme/ledger/tile/0/../../token", 404),
        (
            "POST",
            "/acme/authorize?redirect_uri=https://evil.example",
            400,
        ),
        (
            "GET",
            "/acme/authorize?redirect_uri=https://evil.example&response_type=code",
            400,
        ),
    ] {
        let reply = world
            .send_to(
                method,
                path,
                &[("content-type", FORM)],
                "grant_type=password",
            )
            .await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert!(!reply.headers.contains_key("location"));
    }
    assert_eq!(world.size(), before);
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused_before_anything_else() {
    let world = World::new().await;
    let before = world.size();
    let job = world.job(1).await;
    let after = world.size();
    assert!(after > before);
    let task = &job.task;
    for request in [
        "POST /acme/token HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "POST /acme/token HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
            .to_owned(),
        "POST /acme/token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
            .to_owned(),
        format!("GET /acme/tasks/{task}\u{0} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /acme/tasks/{task} HTTP/1.1\r\nhost: x\r\nauthorization: DPoP \u{1}\r\n\r\n"),
        format!("GET /acme/tasks/{}%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n", task),
        format!("GET http://evil.example/acme/tasks/{task} HTTP/1.1\r\nhost: evil.example\r\n\r\n"),
        format!(
            "GET /acme/tasks/{task} HTTP/1.1\r\nhost: x\r\nauthorization: DPoP a\r\nauthorization: DPoP b\r\n\r\n"
        ),
        "GET acme HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let status = raw(&world, request.as_bytes()).await;
        assert!(
            status.is_empty() || status.starts_with('4'),
            "{status}: {request}"
        );
    }
    assert_eq!(world.size(), after);
    assert_eq!(world.renew(&job, &[]).await.status, 200, "it still serves");
}

#[tokio::test]
async fn an_end_wants_its_one_outcome_and_an_id_its_one_spelling() {
    let world = World::new().await;
    let job = world.job(1).await;
    let before = world.size();
    let path = format!("/tasks/{}/end", job.task);
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"outcome\":\"operator\"}",
        "{\"outcome\":\"Completed\"}",
        "{\"outcome\":null}",
        "{\"outcome\":\"completed\",\"cause\":\"operator\"}",
        "{\"outcome\":\"completed\",\"outcome\":\"failed\"}",
        "{\"outcome\":\"completed\"} x",
        "outcome=completed",
        "\u{feff}{\"outcome\":\"completed\"}",
    ] {
        let reply = world.call(&job, "POST", &path, body).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "invalid_parameter"),
            "{body}"
        );
    }
    let reply = world.call(&job, "POST", &path, &"[".repeat(60_000)).await;
    assert_eq!(reply.rule(), "invalid_parameter");
    let reply = world.call(&job, "POST", &path, &" ".repeat(70_000)).await;
    assert_eq!((reply.status, reply.rule()), (413, "body_size"));
    for id in [
        job.task.to_uppercase(),
        job.task.replace("task_0", "task_8"),
        format!("{}0", job.task),
        job.task.replace("task_", "client_"),
        "task_".to_owned(),
        "%00".to_owned(),
        format!("{}%20", job.task),
        job.task.replace('0', "o"),
    ] {
        let path = format!("/tasks/{id}/end");
        let reply = world
            .call(&job, "POST", &path, "{\"outcome\":\"completed\"}")
            .await;
        assert_eq!(reply.status, 404, "{id}: {}", reply.text);
    }
    for suffix in ["_0", "_01", "_+1", "_4294967296", "_2", "", "_1_1"] {
        let path = format!("/clients/{}{suffix}/end", job.client.trim_end_matches("_1"));
        let reply = world
            .call(&job, "POST", &path, "{\"outcome\":\"completed\"}")
            .await;
        assert!(
            matches!(reply.status, 401 | 403 | 404),
            "{suffix}: {}",
            reply.text
        );
    }
    assert!(world.is_open(&job.task));
    let done = world.leaves()[before as usize..]
        .iter()
        .filter(|leaf| leaf["kind"] != "refused")
        .count();
    assert_eq!(done, 0);
}

#[tokio::test]
async fn two_ways_of_authentication_are_one_too_many() {
    let world = World::new().await;
    let before = world.size();
    let job = world.job(1).await;
    let after = world.size();
    let proof = signed(&claims(&world, 1, 2));
    let own = super::job::assertion(&world, &job.key, &job.client);
    let basic = ("authorization", "Basic YTpi");
    let client = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own.as_str()),
    ];
    let [kind, assertion] = client;
    for (form, headers, refusal) in [
        (
            vec![("grant_type", "client_credentials"), kind, assertion],
            vec![basic],
            (400, "invalid_request", "several_authentications"),
        ),
        (
            vec![
                ("grant_type", "client_credentials"),
                kind,
                assertion,
                ("client_secret", "x"),
            ],
            vec![],
            (400, "invalid_request", "several_authentications"),
        ),
        (
            vec![
                ("grant_type", "client_credentials"),
                ("client_id", "a"),
                ("client_secret", "b"),
            ],
            vec![basic],
            (400, "invalid_request", "several_authentications"),
        ),
        (
            vec![("grant_type", "client_credentials")],
            vec![basic],
            (401, "invalid_client", "authentication"),
        ),
        (
            vec![("grant_type", JWT_BEARER), ("assertion", proof.as_str())],
            vec![basic],
            (401, "invalid_client", "authentication"),
        ),
        (
            vec![
                ("grant_type", JWT_BEARER),
                ("assertion", proof.as_str()),
                kind,
                assertion,
            ],
            vec![],
            (401, "invalid_client", "authentication"),
        ),
        (
            vec![("grant_type", "client_credentials"), assertion],
            vec![],
            (400, "invalid_client", "assertion"),
        ),
        (
            vec![("grant_type", "client_credentials"), kind],
            vec![],
            (400, "invalid_client", "assertion"),
        ),
        (
            vec![
                ("grant_type", "client_credentials"),
                ("client_assertion_type", "x"),
                assertion,
            ],
            vec![],
            (400, "invalid_client", "assertion"),
        ),
    ] {
        let reply = world.form("/token", &form, &headers).await;
        assert_eq!(reply.refusal(), refusal, "{form:?}");
        if reply.status == 401 {
            assert!(reply.header("www-authenticate").starts_with("Basic"));
        }
    }
    let twice = world
        .form(
            "/introspect",
            &[
                ("token", "x"),
                ("client_id", "artifacts"),
                ("client_secret", "secret of artifacts"),
            ],
            &[basic],
        )
        .await;
    assert_eq!(
        twice.refusal(),
        (400, "invalid_request", "several_authentications")
    );
    assert!(after > before && world.size() == after);
}
