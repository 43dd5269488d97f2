//! Callers that take their time: each part of a request has its own bound.

use std::time::Duration;

use dayfly_domain::Span;
use dayfly_server::config::Connections;
use dayfly_server::http::door::DoorSetup;
use tokio::time::Instant;

use crate::house::{House, statuses};

async fn house() -> House {
    House::open(DoorSetup {
        connections: Connections {
            header_timeout: Span::from_seconds(5),
            body_timeout: Span::from_seconds(7),
            request_timeout: Span::from_seconds(20),
            idle_timeout: Span::from_seconds(60),
            ..Connections::default()
        },
        ..DoorSetup::default()
    })
    .await
}

/// That the time since `start` is this many seconds, by a clock that jumps where all wait.
#[track_caller]
fn after(start: Instant, seconds: u64) {
    let passed = start.elapsed();
    let wanted = Duration::from_secs(seconds);
    let until = wanted + Duration::from_secs(1);
    assert!((wanted..until).contains(&passed), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let house = house().await;
    for part in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let start = Instant::now();
        assert_eq!(house.say(part).await, "", "{part:?}");
        after(start, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_at_the_same_time() {
    let house = house().await;
    let mut line = house.call().await;
    let start = Instant::now();
    line.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        line.send("X: y\r\n").await;
    }
    assert_eq!(line.rest().await, "");
    after(start, 5);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_answered_408() {
    let house = house().await;
    for head in [
        "Content-Length: 5\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhi",
    ] {
        let start = Instant::now();
        let answer = house
            .say(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{head}"))
            .await;
        assert_eq!(statuses(&answer), [408], "{answer:?}");
        after(start, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_answered_503() {
    let house = house().await;
    let start = Instant::now();
    let answer = house.say("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(statuses(&answer), [503], "{answer:?}");
    assert!(answer.contains("retry-after: 2"), "{answer:?}");
    after(start, 20);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    let house = house().await;
    let start = Instant::now();
    assert_eq!(house.say("").await, "");
    after(start, 60);

    let mut line = house.call().await;
    line.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    line.until("here").await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    line.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    line.until("here").await;
    let start = Instant::now();
    assert_eq!(line.rest().await, "");
    after(start, 60);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_dropped() {
    let house = house().await;
    let mut line = house.call().await;
    line.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // More than the system's buffers hold: the server waits for the caller, and not for ever.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let taken = line.rest().await;
    assert!(taken.len() < 16 << 20, "{}", taken.len());
}
