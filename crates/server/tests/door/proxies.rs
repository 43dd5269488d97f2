//! The caller's address through proxies, over real connections.

use dayfly_server::http::door::DoorSetup;

use crate::house::House;

async fn who(trusted: &[&str], lines: &str) -> String {
    let house = House::open(DoorSetup {
        trusted_proxies: trusted.iter().map(|text| text.parse().unwrap()).collect(),
        ..DoorSetup::default()
    })
    .await;
    let answer = house
        .say(format!(
            "GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"
        ))
        .await;
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn only_a_trusted_proxy_says_where_a_request_comes_from() {
    let line = "X-Forwarded-For: 192.0.2.9\r\n";
    assert_eq!(who(&[], line).await, "127.0.0.1");
    assert_eq!(who(&["10.0.0.0/8"], line).await, "127.0.0.1");
    assert_eq!(who(&["127.0.0.0/8"], line).await, "192.0.2.9");
    let line = "Forwarded: for=6.6.6.6, for=\"[2001:db8::7]:1\";proto=https\r\n";
    assert_eq!(who(&["127.0.0.0/8"], line).await, "2001:db8::7");
}
