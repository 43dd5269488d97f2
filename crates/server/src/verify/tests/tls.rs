//! Keys over https: whom a certificate must lead to.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::local::{key, mint, published};
use super::*;

/// A certificate for `localhost`.
fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Serves a key set to every request; answers its URL.
async fn serve(certified: &CertifiedKey<KeyPair>) -> String {
    let key_der = certified.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key_der)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = json!({"keys": [published("rsa", key(0))]}).to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    format!("https://localhost:{port}/keys")
}

async fn shown(url: &str, ca_file: Option<PathBuf>) -> Result<VerifiedProof, Refusal> {
    let mut declared = issuer(IssuerKind::Github, "https://issuer.example");
    declared.jwks = JwksSource::Url {
        url: url.to_owned(),
        token_file: None,
        ca_file,
    };
    let token = mint(
        key(0),
        "rsa",
        &claims(IssuerKind::Github, "https://issuer.example"),
    );
    show(&verifier(&declared), &token).await
}

#[tokio::test]
async fn a_certificate_must_lead_to_the_declared_roots() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, certified: &CertifiedKey<KeyPair>| {
        let path = folder.path().join(name);
        std::fs::write(&path, certified.cert.pem()).unwrap();
        Some(path)
    };
    let own = certificate();
    let url = serve(&own).await;
    let verified = shown(&url, file("own.pem", &own)).await.unwrap();
    assert_eq!(verified.proof().claims["run_id"], "30433642");
    for ca_file in [None, file("other.pem", &certificate())] {
        let refusal = shown(&url, ca_file).await.unwrap_err();
        assert_eq!(refusal.rule, Rule::KeysUnavailable);
        assert!(refusal.hint.contains("certificate"), "{}", refusal.hint);
    }
    // The name counts as well: the certificate is for `localhost`.
    let by_address = url.replace("localhost", "127.0.0.1");
    let refusal = shown(&by_address, file("own.pem", &own)).await.unwrap_err();
    assert!(refusal.hint.contains("certificate"), "{}", refusal.hint);
}
