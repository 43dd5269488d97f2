//! Requests that two programs could read in two ways are refused, and nothing after them is read.

use dayfly_server::http::door::DoorSetup;

use crate::house::{House, statuses};

/// A request that would be answered if the bytes before it were taken to end before it.
const SMUGGLED: &str = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n";

async fn house() -> House {
    House::open(DoorSetup::default()).await
}

/// That this is answered once, by this status, and the connection is closed.
async fn refused(house: &House, status: u16, request: &str) {
    let answer = house.say(format!("{request}{SMUGGLED}")).await;
    assert_eq!(statuses(&answer), [status], "{request:?}: {answer:?}");
    assert!(!answer.contains("127.0.0.1"), "{request:?}: {answer:?}");
}

#[tokio::test]
async fn what_is_said_plainly_is_answered() {
    let house = house().await;
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for request in [
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:2\r\n\r\nhi",
    ] {
        let answer = house.say(format!("{request}{last}")).await;
        assert_eq!(statuses(&answer), [200, 200], "{request:?}: {answer:?}");
        assert!(
            answer.contains("[hi]") && answer.ends_with("here"),
            "{answer:?}"
        );
    }
    let old = house.say("GET / HTTP/1.0\r\n\r\n").await;
    assert!(
        old.starts_with("HTTP/1.0 200") && old.ends_with("here"),
        "{old:?}"
    );
}

#[tokio::test]
async fn a_chunked_body_is_read_and_is_the_last_of_its_connection() {
    let house = house().await;
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = house
        .say(format!("{chunked}2;a=b\r\nhi\r\n0\r\n\r\n{SMUGGLED}"))
        .await;
    assert_eq!(statuses(&answer), [200], "{answer:?}");
    assert!(
        answer.contains("[hi]") && answer.contains("connection: close"),
        "{answer:?}"
    );
    // Whatever stands in for a chunk's size, nothing behind it is taken for a request.
    for body in [
        "0x2\r\nhi\r\n0\r\n\r\n".to_owned(),
        "-2\r\nhi\r\n0\r\n\r\n".to_owned(),
        "fffffffffffffffff\r\nhi\r\n0\r\n\r\n".to_owned(),
        "2\nhi\n0\n\n".to_owned(),
        format!("2;{}\r\nhi\r\n0\r\n\r\n", "a=b;".repeat(100_000)),
        format!("2\r\nhi\r\n0\r\n{}\r\n", "A: b\r\n".repeat(100_000)),
    ] {
        let answer = house.say(format!("{chunked}{body}{SMUGGLED}")).await;
        assert!(!answer.contains("127.0.0.1"), "{answer:?}");
        assert!(statuses(&answer).len() <= 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_has_one_length() {
    let house = house().await;
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 0, 0\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 0x0\r\n\r\n",
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Content-Length:\r\n\r\n",
        "Content-Length : 0\r\n\r\n",
        "Content-Length\t: 0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        " Content-Length: 0\r\n\r\n",
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{lines}");
        refused(&house, 400, &request).await;
    }
}

#[tokio::test]
async fn only_the_coding_that_is_spoken_is_taken() {
    let house = house().await;
    for (coding, status) in [
        ("gzip, chunked", 501),
        ("chunked, chunked", 501),
        ("\"chunked\"", 400),
        ("xchunked", 400),
        ("chunked, identity", 400),
        ("identity", 400),
        ("", 400),
        ("\x0bchunked", 400),
    ] {
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        refused(&house, status, &request).await;
    }
    let old = "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = house.say(format!("{old}{SMUGGLED}")).await;
    assert!(
        !answer.contains("127.0.0.1") && !answer.contains("200"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn lines_end_in_one_way_and_are_not_folded() {
    let house = house().await;
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    ] {
        refused(&house, 400, request).await;
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let house = house().await;
    refused(&house, 400, "GET / HTTP/1.1\r\n\r\n").await;
    refused(&house, 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_lines() {
    let house = house().await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    refused(&house, 431, &large).await;
    let endless = "x".repeat(1 << 20);
    let answer = house.say(format!("GET /{endless}")).await;
    assert!(
        matches!(statuses(&answer)[..], [] | [414 | 431]),
        "{answer:?}"
    );
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(70));
    refused(&house, 431, &many).await;
    let enough = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n",
        "X: y\r\n".repeat(60)
    );
    assert_eq!(statuses(&house.say(enough).await), [200]);
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let house = house().await;
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS, then a HEADERS frame that a server of HTTP/2 would answer.
    preface.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    preface.extend([0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86]);
    let answer = house.say(preface).await;
    assert!(matches!(statuses(&answer)[..], [] | [400]), "{answer:?}");
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = house.say(upgrade).await;
    assert_eq!(statuses(&answer), [200], "{answer:?}");
    let tunnel = house
        .say("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n")
        .await;
    assert!(matches!(statuses(&tunnel)[..], [404 | 405]), "{tunnel:?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    let house = house().await;
    let mut flood = String::new();
    for n in 0..2000 {
        let body = n.to_string();
        flood.push_str(&format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    flood.push_str("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let line = house.call().await;
    let (mut read, mut write) = line.0.into_split();
    let writing = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, flood.as_bytes())
            .await
            .unwrap();
        write
    });
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer)
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let bodies: Vec<&str> = answer.split('[').skip(1).collect();
    assert_eq!(bodies.len(), 2000);
    for (n, body) in bodies.iter().enumerate() {
        assert!(body.starts_with(&format!("{n}]")), "{n}: {body}");
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_leaves_half_way_is_let_go() {
    let house = house().await;
    for half in [
        "GET / HT",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhi",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhi",
    ] {
        let mut line = house.call().await;
        line.send(half).await;
        tokio::io::AsyncWriteExt::shutdown(&mut line.0)
            .await
            .unwrap();
        let answer = line.rest().await;
        assert!(!answer.contains("[hi]"), "{half:?}: {answer:?}");
    }
}
