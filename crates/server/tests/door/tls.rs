//! TLS: what is offered, who is cut, and a certificate that changes while the server runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dayfly_domain::Span;
use dayfly_server::config::{Connections, TlsFiles};
use dayfly_server::http::door::{DoorSetup, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};

use crate::house::House;

/// Writes a certificate and its key, and gives what a client has to trust.
fn write(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["dayfly.example".to_owned()]).unwrap();
    fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    fs::write(folder.join("tls.key"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    }
}

async fn house(tls: &Arc<Tls>) -> House {
    House::open(DoorSetup {
        tls: Some(Arc::clone(tls)),
        connections: Connections {
            tls_timeout: Span::from_seconds(4),
            ..Connections::default()
        },
        ..DoorSetup::default()
    })
    .await
}

async fn connect(
    house: &House,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(house.address).await?;
    let name = ServerName::try_from("dayfly.example").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn answered(mut stream: TlsStream<TcpStream>) -> bool {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    all.starts_with("HTTP/1.1 200") && all.ends_with("here")
}

#[tokio::test]
async fn both_versions_are_spoken_and_one_protocol_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = write(folder.path());
    let house = house(&Arc::new(Tls::load(files(folder.path())).unwrap())).await;
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let stream = connect(&house, &trusted, version, &["h2", "http/1.1"])
            .await
            .unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(number));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(answered(stream).await);
        // Without ALPN it is HTTP/1.1 as well; with HTTP/2 alone there is nothing to talk.
        assert!(answered(connect(&house, &trusted, version, &[]).await.unwrap()).await);
        let why = connect(&house, &trusted, version, &["h2"])
            .await
            .unwrap_err();
        assert!(why.to_string().contains("NoApplicationProtocol"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let house = house(&Arc::new(Tls::load(files(folder.path())).unwrap())).await;
    let start = tokio::time::Instant::now();
    assert_eq!(house.say([0x16, 3, 1, 0, 200]).await, "");
    assert!((4..6).contains(&start.elapsed().as_secs()));
    // Plain HTTP gets an alert and no answer.
    let plain = house.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!plain.contains("HTTP"), "{plain:?}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(folder.path());
    let tls = Arc::new(Tls::load(files(folder.path())).unwrap());
    let house = house(&tls).await;
    assert!(!tls.reload_if_changed().unwrap());
    assert!(connect(&house, &first, &TLS13, &[]).await.is_ok());

    let second = write(folder.path());
    assert!(tls.reload_if_changed().unwrap());
    assert!(connect(&house, &second, &TLS13, &[]).await.is_ok());
    assert!(connect(&house, &first, &TLS13, &[]).await.is_err());

    // A key of another certificate, then no certificate at all: what was there stays.
    let other = tempfile::tempdir().unwrap();
    write(other.path());
    fs::copy(other.path().join("tls.key"), folder.path().join("tls.key")).unwrap();
    let why = tls.reload_if_changed().unwrap_err().to_string();
    assert!(why.contains("tls.key") && why.contains("tls.crt"), "{why}");
    // It is said once, and again only when the files change again.
    assert!(!tls.reload_if_changed().unwrap());
    fs::write(folder.path().join("tls.crt"), "nothing").unwrap();
    let why = tls.reload().unwrap_err().to_string();
    assert!(
        why.contains("tls.crt") && why.contains("holds no certificate"),
        "{why}"
    );
    fs::remove_file(folder.path().join("tls.key")).unwrap();
    assert!(tls.reload().is_err());
    assert!(connect(&house, &second, &TLS13, &[]).await.is_ok());
}
