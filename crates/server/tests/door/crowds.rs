//! Many connections: one address does not take the places of the others.

use dayfly_domain::Span;
use dayfly_server::config::Connections;
use dayfly_server::http::door::DoorSetup;
use tokio::net::TcpSocket;

use crate::house::{House, Line, statuses};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn house(trusted: &[&str]) -> House {
    House::open(DoorSetup {
        connections: Connections {
            total: 20,
            per_address: 4,
            header_timeout: Span::from_seconds(5),
            ..Connections::default()
        },
        trusted_proxies: trusted.iter().map(|text| text.parse().unwrap()).collect(),
        ..DoorSetup::default()
    })
    .await
}

/// A connection from this address of the machine.
async fn from(house: &House, address: &str) -> Line {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    Line(socket.connect(house.address).await.unwrap())
}

#[tokio::test]
async fn a_flood_of_one_address_leaves_places_for_others() {
    let house = house(&[]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut line = from(&house, "127.0.0.2").await;
        line.send("GET / HTTP/1.1\r\n").await;
        held.push(line);
    }
    for _ in 0..200 {
        let mut more = from(&house, "127.0.0.2").await;
        more.send(REQUEST).await;
        assert_eq!(more.rest().await, "");
    }
    let mut other = from(&house, "127.0.0.3").await;
    other.send(REQUEST).await;
    assert_eq!(statuses(&other.rest().await), [200]);
    // Whoever leaves makes room.
    drop(held);
    loop {
        let mut again = from(&house, "127.0.0.2").await;
        again.send(REQUEST).await;
        if statuses(&again.rest().await) == [200] {
            break;
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_have_as_many_as_there_are() {
    let house = house(&["127.0.0.2"]).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(from(&house, "127.0.0.2").await);
    }
    for line in &mut held {
        line.send(REQUEST).await;
        assert_eq!(statuses(&line.rest().await), [200]);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_when_all_places_are_taken_waits_for_one() {
    let house = house(&["127.0.0.2"]).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut line = from(&house, "127.0.0.2").await;
        line.send("GET / HTTP/1.1\r\n").await;
        held.push(line);
    }
    let mut late = from(&house, "127.0.0.3").await;
    late.send(REQUEST).await;
    // Those before it are too slow and are cut; then it is its turn.
    assert_eq!(statuses(&late.rest().await), [200]);
}
