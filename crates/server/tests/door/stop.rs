//! Stopping: what is open is finished within its bound, and nothing new is begun.

use dayfly_domain::Span;
use dayfly_server::config::Connections;
use dayfly_server::http::door::DoorSetup;
use tokio::net::TcpStream;

use crate::house::House;

#[tokio::test]
async fn open_requests_finish_and_idle_connections_are_closed() {
    let house = House::open(DoorSetup::default()).await;
    let mut idle = house.call().await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.until("here").await;
    let mut open = house.call().await;
    open.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    house.came.notified().await;

    house.stop.send_replace(true);
    assert_eq!(idle.rest().await, "");
    // Nobody is received any more, while the open request is still open.
    while TcpStream::connect(house.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!house.served.is_finished());
    house.go.add_permits(1);
    let answer = open.rest().await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("waited"),
        "{answer:?}"
    );
    house.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_is_cut() {
    let house = House::open(DoorSetup {
        connections: Connections {
            drain_timeout: Span::from_seconds(3),
            ..Connections::default()
        },
        ..DoorSetup::default()
    })
    .await;
    let mut open = house.call().await;
    open.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    house.came.notified().await;
    house.stop.send_replace(true);
    let start = tokio::time::Instant::now();
    assert_eq!(open.rest().await, "");
    house.served.await.unwrap();
    assert!(start.elapsed().as_secs() >= 3);
}
