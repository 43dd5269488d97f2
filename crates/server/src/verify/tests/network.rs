//! What a fetch does not do, whatever an issuer answers.

use axum::http::StatusCode;

use super::local::{LocalIssuer, key, published};
use super::*;

/// An issuer whose keys are at a URL, and how its good token is refused.
async fn refused(local: &LocalIssuer, url: &str, allow_private: bool) -> Refusal {
    let mut declared = issuer(IssuerKind::Github, &local.url);
    declared.jwks = at_url(url);
    declared.allow_private = allow_private;
    let token = local.token(&claims(IssuerKind::Github, &local.url));
    let refusal = show(&verifier(&declared), &token).await.unwrap_err();
    assert_eq!(refusal.rule, Rule::KeysUnavailable, "{url}");
    refusal
}

fn at_url(url: &str) -> JwksSource {
    JwksSource::Url {
        url: url.to_owned(),
        token_file: None,
        ca_file: None,
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let local = LocalIssuer::start().await;
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
    ] {
        local.answer_keys(Some((status, "/elsewhere")));
        let refusal = refused(&local, &local.jwks_url(), true).await;
        assert!(
            refusal.hint.contains("redirects are not followed"),
            "{}",
            refusal.hint
        );
        assert!(!refusal.got.contains("redirect"));
    }
    assert_eq!(local.other_hits(), 0);
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed_in_every_spelling() {
    let local = LocalIssuer::start().await;
    let port = local.url.rsplit(':').next().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00::1]",
        "[fe80::1]",
        "100.64.0.1",
        "[64:ff9b::7f00:1]",
    ] {
        let refusal = refused(&local, &format!("https://{host}:{port}/keys"), false).await;
        assert!(
            refusal.hint.contains("which is no public address"),
            "{host}: {}",
            refusal.hint
        );
        let refusal = refused(&local, &format!("http://{host}:{port}/keys"), false).await;
        assert!(refusal.hint.contains("is http"), "{host}: {}", refusal.hint);
    }
    assert_eq!(local.hits(), 0);
}

#[tokio::test]
async fn even_where_private_is_allowed_some_addresses_and_schemes_are_not() {
    let local = LocalIssuer::start().await;
    for url in [
        "https://169.254.169.254/keys",
        "https://[fe80::1]/keys",
        "https://0.0.0.0/keys",
        "http://10.0.0.1/keys",
        "http://8.8.8.8/keys",
        "http://169.254.169.254/keys",
    ] {
        let refusal = refused(&local, url, true).await;
        assert!(
            refusal.hint.contains("which is no "),
            "{url}: {}",
            refusal.hint
        );
    }
    for url in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/keys",
        "keys",
        "http://user:secret@127.0.0.1/keys",
    ] {
        let refusal = refused(&local, url, true).await;
        assert!(
            refusal.hint.contains(" is no") || refusal.hint.contains("user information"),
            "{url}"
        );
    }
    // By name and by address this machine is reached.
    let port = local.url.rsplit(':').next().unwrap();
    let mut by_name = issuer(IssuerKind::Github, &local.url);
    by_name.jwks = at_url(&format!("http://localhost:{port}/keys"));
    let token = local.token(&claims(IssuerKind::Github, &local.url));
    assert!(show(&verifier(&by_name), &token).await.is_ok());
}

#[tokio::test]
async fn metadata_must_be_of_the_issuer_and_its_keys_where_fetches_may_go() {
    let local = LocalIssuer::start().await;
    let token = local.token(&claims(IssuerKind::Github, &local.url));
    let keys = local.jwks_url();
    for (metadata, hint) in [
        (
            json!({"issuer": format!("{}/", local.url), "jwks_uri": keys}),
            "must name the issuer",
        ),
        (
            json!({"issuer": "https://evil.example", "jwks_uri": keys}),
            "must name the issuer",
        ),
        (json!({"jwks_uri": keys}), "must name the issuer"),
        (json!({"issuer": local.url}), "no `jwks_uri`"),
        (
            json!({"issuer": local.url, "jwks_uri": [keys]}),
            "no `jwks_uri`",
        ),
        (
            json!({"issuer": local.url, "jwks_uri": "file:///etc/passwd"}),
            "is no https url",
        ),
        (
            json!({"issuer": local.url, "jwks_uri": "http://169.254.169.254/keys"}),
            "which is no loopback address",
        ),
        (json!([]), "malformed"),
    ] {
        local.serve_metadata(metadata.clone());
        let refusal = show(&verifier(&issuer(IssuerKind::Github, &local.url)), &token)
            .await
            .unwrap_err();
        assert_eq!(refusal.rule, Rule::KeysUnavailable);
        assert!(refusal.hint.contains(hint), "{metadata}: {}", refusal.hint);
    }
    assert_eq!(local.key_hits(), 0);
}

#[tokio::test]
async fn answers_are_bounded_and_strict() {
    let local = LocalIssuer::start().await;
    let key = published("rsa", key(0)).to_string();
    let fat = format!(r#"{{"keys":[{key}],"x":"{}"}}"#, "x".repeat(256 * 1024));
    let twice = format!(r#"{{"keys":[],"keys":[{key}]}}"#);
    for (status, body, hint) in [
        (StatusCode::OK, fat.as_str(), "has more than 262144 bytes"),
        (StatusCode::OK, twice.as_str(), "stands twice"),
        (StatusCode::OK, "<html>", "malformed"),
        (StatusCode::OK, "{}", "no list `keys`"),
        (StatusCode::NOT_FOUND, "", "status 404"),
        (StatusCode::NO_CONTENT, "", "status 204"),
    ] {
        local.answer_keys(Some((status, body)));
        let refusal = refused(&local, &local.jwks_url(), true).await;
        assert!(refusal.hint.contains(hint), "{hint}: {}", refusal.hint);
    }
}

#[tokio::test]
async fn a_token_file_is_shown_to_the_declared_url_and_read_anew() {
    let local = LocalIssuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut declared = issuer(IssuerKind::Kubernetes, &local.url);
    declared.jwks = JwksSource::Url {
        url: local.jwks_url(),
        token_file: Some(file.clone()),
        ca_file: None,
    };
    let verifier = verifier(&declared);
    for (text, later) in [("first\n", 0), ("second", 600)] {
        std::fs::write(&file, text).unwrap();
        let claims = moved(claims(IssuerKind::Kubernetes, &local.url), NOW + later);
        let shown = verifier
            .verify(&local.token(&claims), Entrance::Assertion, at(NOW + later))
            .await;
        assert!(shown.is_ok());
        assert_eq!(
            local.authorization().unwrap(),
            format!("Bearer {}", text.trim_end())
        );
    }
    assert_eq!(local.hits(), local.key_hits());
}

#[tokio::test]
async fn files_beside_the_url_that_cannot_be_used_are_named() {
    let local = LocalIssuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    for (token_file, ca_file, hint) in [
        (file("empty", "\n"), None, "holds no bearer token"),
        (file("lines", "a\nb"), None, "holds no bearer token"),
        (Some(folder.path().join("absent")), None, "cannot be read"),
        (
            None,
            file("ca.pem", "no pem"),
            "holds no certificates in PEM",
        ),
    ] {
        let mut declared = issuer(IssuerKind::Github, &local.url);
        declared.jwks = JwksSource::Url {
            url: local.jwks_url(),
            token_file,
            ca_file,
        };
        let token = local.token(&claims(IssuerKind::Github, &local.url));
        let refusal = show(&verifier(&declared), &token).await.unwrap_err();
        assert!(refusal.hint.contains(hint), "{hint}: {}", refusal.hint);
    }
    assert_eq!(local.hits(), 0);
}
