//! The front door of the binary: a certificate that changes, a stop that drains, and the admin listener.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::client::{Client, Outcome};
use crate::stage::{Stage, TENANT, client, free_port};

/// Makes a certificate for this machine, and its key.
fn pair() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn put(folder: &Path, (cert, key): &(String, String)) {
    fs::write(folder.join("tls.crt"), cert).unwrap();
    fs::write(folder.join("tls.key"), key).unwrap();
}

#[tokio::test]
async fn a_certificate_changes_without_a_restart() {
    let (first, second) = (pair(), pair());
    let lines = "tls = { cert = \"tls.crt\", key = \"tls.key\" }\n";
    let mut stage = Stage::configured("https", lines, TENANT, client([first.0.as_str()]));
    put(stage.folder(), &first);
    stage.start().await;
    let jwks = format!("{}/jwks", stage.shared().issuer);

    put(stage.folder(), &second);
    stage.signal(Signal::SIGHUP);
    let new = client([second.0.as_str()]);
    while new.get(&jwks).send().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(stage.shared().http.get(&jwks).send().await.is_err());

    fs::write(stage.folder().join("tls.key"), &first.1).unwrap();
    stage.signal(Signal::SIGHUP);
    while !stage.log().contains("the former one stays in force") {
        tokio::task::yield_now().await;
    }
    assert!(new.get(&jwks).send().await.unwrap().status().is_success());

    stage.signal(Signal::SIGTERM);
    assert!(stage.ended().await.success());
}

/// A request whose body is not complete: the server is in the middle of it.
async fn open_request(stage: &Stage) -> TcpStream {
    let issuer = stage.shared().issuer.clone();
    let address = issuer.strip_prefix("http://").unwrap();
    let mut line = TcpStream::connect(address.split('/').next().unwrap())
        .await
        .unwrap();
    let head = "POST /acme/token HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\
                Expect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n";
    line.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    // It is said when the body is first waited for.
    line.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    line.write_all(b"grant_").await.unwrap();
    line
}

async fn stopping(port: u16) -> Stage {
    let mut stage = Stage::configured(
        "http",
        &format!("admin = \"127.0.0.1:{port}\"\n"),
        TENANT,
        client([]),
    );
    stage.start().await;
    stage
}

async fn ready(stage: &Stage, port: u16) -> (u16, Value) {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let answer = stage.shared().http.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_stop_lets_open_requests_finish_and_says_so() {
    let port = free_port();
    let mut stage = stopping(port).await;
    assert_eq!(ready(&stage, port).await.0, 200);
    let mut open = open_request(&stage).await;
    stage.signal(Signal::SIGTERM);
    loop {
        let (status, body) = ready(&stage, port).await;
        if status == 503 {
            assert_eq!(body["reasons"][0], "the server is stopping");
            break;
        }
    }
    let jwks = format!("{}/jwks", stage.shared().issuer);
    while stage.shared().http.get(&jwks).send().await.is_ok() {
        tokio::task::yield_now().await;
    }
    open.write_all(b"type=xxx").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("unsupported_grant_type"), "{answer}");
    assert!(stage.ended().await.success(), "{}", stage.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let port = free_port();
    let mut stage = stopping(port).await;
    let mut open = open_request(&stage).await;
    stage.signal(Signal::SIGTERM);
    while ready(&stage, port).await.0 != 503 {}
    stage.signal(Signal::SIGINT);
    assert_eq!(stage.ended().await.code(), Some(1));
    let mut answer = String::new();
    let _reset = open.read_to_string(&mut answer).await;
    assert_eq!(answer, "");
}

/// Asks on the admin socket.
async fn on_the_socket(stage: &Stage, path: &str) -> String {
    let socket = stage.folder().join("data/admin.sock");
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_network_gets_health_and_metrics_and_nothing_else() {
    let port = free_port();
    let mut stage = stopping(port).await;
    let shared = stage.shared();
    let Outcome::Answered(job) = Client::grant(&shared, 1).await else {
        panic!("no answer");
    };
    let Outcome::Answered(()) = job.end(&shared).await else {
        panic!("no answer");
    };
    let base = format!("http://127.0.0.1:{port}");
    let get = async |path: &str| {
        let answer = shared
            .http
            .get(format!("{base}{path}"))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "dayfly_requests_total{route=\"/{tenant}/token\",status=\"200\"} 1",
        "dayfly_entries_total{kind=\"credential.issued\"} 1",
        "dayfly_entries_total{kind=\"task.started\"} 1",
        "dayfly_ends_total{cause=\"completed\"} 2",
        "dayfly_refusals_total{stage=\"binding\",rule=\"dpop_nonce\"} 1",
        "dayfly_open_tasks{tenant=\"acme\"} 0",
        "dayfly_ledger_entries{tenant=\"acme\"} ",
        "dayfly_append_duration_seconds_count{outcome=\"committed\"} ",
        "dayfly_key_age_seconds{tenant=\"acme\",use=\"ledger\",kid=",
        "dayfly_issuer_keys_failing{origin=",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // Nothing of a caller is a label.
    assert!(
        !metrics.contains(&job.task) && !metrics.contains("octo"),
        "{metrics}"
    );

    for path in [
        "/admin",
        "/admin/acme/tasks",
        "/admin/acme/why/x",
        "/",
        "/acme/jwks",
    ] {
        let (status, body) = get(path).await;
        assert_eq!(status, 401, "{path}: {body}");
        assert!(
            body.contains("unauthenticated") && body.contains("admin.sock"),
            "{body}"
        );
    }
    let end = format!("{base}/admin/acme/tasks/{}/end", job.task);
    let answer = shared.http.post(end).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 401);

    assert!(
        on_the_socket(&stage, "/metrics")
            .await
            .contains("dayfly_requests_total")
    );
    assert!(
        on_the_socket(&stage, "/admin/acme/tasks")
            .await
            .starts_with("HTTP/1.1 200")
    );
    stage.stop();
}
