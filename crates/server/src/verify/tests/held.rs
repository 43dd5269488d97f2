//! How keys are held: read seldom, rotated, served stale, never flooded.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use axum::http::StatusCode;

use super::local::{LocalIssuer, key, mint, published};
use super::*;

const DOWN: Option<(StatusCode, &str)> = Some((StatusCode::INTERNAL_SERVER_ERROR, "down"));
const DAY: u64 = 86_400;

async fn gitlab() -> (LocalIssuer, Verifier) {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Gitlab, &local.url));
    (local, verifier)
}

/// Shows a fresh token by a key at a time; answers the rule that refuses, or none.
async fn show_at(
    verifier: &Verifier,
    local: &LocalIssuer,
    number: usize,
    kid: &str,
    now: u64,
) -> Option<Rule> {
    let claims = moved(claims(IssuerKind::Gitlab, &local.url), now);
    let token = mint(key(number), kid, &claims);
    let shown = verifier.verify(&token, Entrance::Assertion, at(now)).await;
    shown.err().map(|refusal| refusal.rule)
}

#[tokio::test]
async fn keys_are_read_once_while_they_are_fresh() {
    let (local, verifier) = gitlab().await;
    for second in [0, 1, 30, 300, 599] {
        assert_eq!(
            show_at(&verifier, &local, 0, "rsa", NOW + second).await,
            None
        );
        assert_eq!(
            show_at(&verifier, &local, 1, "ec", NOW + second).await,
            None
        );
    }
    assert_eq!(local.key_hits(), 1);
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW + 600).await, None);
    assert_eq!(local.key_hits(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_kids_makes_two_fetches_at_most() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    for n in 0..1000 {
        let kid = format!("unknown-{n}");
        assert_eq!(
            show_at(&verifier, &local, 1, &kid, NOW + 31).await,
            Some(Rule::Key)
        );
    }
    assert_eq!(local.key_hits(), 2);
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW + 31).await, None);
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_old_one_counts_while_it_is_published() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 1, "ec", NOW).await, None);
    local.serve_keys(vec![published("ec", key(1)), published("new", key(2))]);
    // Within the floor nobody can force another fetch; then the new key is found at once.
    let early = moved(claims(IssuerKind::Gitlab, &local.url), NOW + 18);
    let early = mint(key(2), "new", &early);
    let refusal = verifier
        .verify(&early, Entrance::Assertion, at(NOW + 18))
        .await
        .unwrap_err();
    assert!(
        refusal.hint.ends_with("they may be read anew in 12 s"),
        "{}",
        refusal.hint
    );
    assert_eq!(
        show_at(&verifier, &local, 2, "new", NOW + 29).await,
        Some(Rule::Key)
    );
    assert_eq!(show_at(&verifier, &local, 2, "new", NOW + 30).await, None);
    assert_eq!(show_at(&verifier, &local, 1, "ec", NOW + 30).await, None);
    local.serve_keys(vec![published("new", key(2))]);
    assert_eq!(show_at(&verifier, &local, 1, "ec", NOW + 629).await, None);
    assert_eq!(
        show_at(&verifier, &local, 1, "ec", NOW + 630).await,
        Some(Rule::Key)
    );
    assert_eq!(local.key_hits(), 3);
}

#[tokio::test]
async fn stale_keys_are_served_for_a_day_and_no_longer() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    local.answer_keys(DOWN);
    for later in [600, 3600, DAY] {
        assert_eq!(
            show_at(&verifier, &local, 0, "rsa", NOW + later).await,
            None,
            "{later}"
        );
    }
    let claims = moved(claims(IssuerKind::Gitlab, &local.url), NOW + DAY + 60);
    let late = verifier
        .verify(
            &local.token(&claims),
            Entrance::Assertion,
            at(NOW + DAY + 60),
        )
        .await;
    let refusal = late.unwrap_err();
    assert_eq!(
        (refusal.rule, &*refusal.got),
        (Rule::KeysUnavailable, local.url.as_str())
    );
    assert!(refusal.hint.contains("status 500"), "{}", refusal.hint);
    local.answer_keys(None);
    assert_eq!(
        show_at(&verifier, &local, 0, "rsa", NOW + DAY + 90).await,
        None
    );
}

#[tokio::test]
async fn a_failure_is_remembered_for_the_floor() {
    let (local, verifier) = gitlab().await;
    local.answer_keys(DOWN);
    for second in [0, 1, 15, 29] {
        let refused = show_at(&verifier, &local, 0, "rsa", NOW + second).await;
        assert_eq!(refused, Some(Rule::KeysUnavailable));
    }
    assert_eq!(local.key_hits(), 1);
    local.answer_keys(None);
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW + 30).await, None);
}

#[tokio::test]
async fn a_clock_set_back_keeps_nothing_fresh() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    local.serve_keys(vec![published("ec", key(1))]);
    assert_eq!(
        show_at(&verifier, &local, 0, "rsa", NOW - 7200).await,
        Some(Rule::Key)
    );
    assert_eq!(local.key_hits(), 2);
}

#[tokio::test]
async fn withdrawing_every_key_is_obeyed() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    local.serve_keys(vec![]);
    assert_eq!(
        show_at(&verifier, &local, 0, "rsa", NOW + 600).await,
        Some(Rule::Key)
    );
}

/// Polls each future once, so that each has come as far as it comes without the network.
async fn poll_once<F: Future>(futures: &mut [Pin<Box<F>>]) {
    poll_fn(|context| {
        for future in &mut *futures {
            assert!(future.as_mut().poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn many_requests_wait_for_one_fetch_and_outlive_the_first() {
    let (local, verifier) = gitlab().await;
    local.close_gate();
    let (verifier, issuer) = (&verifier, &local);
    let mut waiting: Vec<_> = (0..100)
        .map(|_| Box::pin(show_at(verifier, issuer, 0, "rsa", NOW)))
        .collect();
    poll_once(&mut waiting).await;
    // The request that began the fetch goes away.
    drop(waiting.remove(0));
    local.open_gate();
    for request in waiting {
        assert_eq!(request.await, None);
    }
    assert_eq!(local.key_hits(), 1);
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_no_other_and_stale_keys_not_for_long() {
    let (local, verifier) = gitlab().await;
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    local.close_gate();
    let mut hanging = [Box::pin(show_at(&verifier, &local, 0, "rsa", NOW + 600))];
    poll_once(&mut hanging).await;
    let (other, of_other) = gitlab().await;
    assert_eq!(show_at(&of_other, &other, 0, "rsa", NOW + 600).await, None);
    tokio::time::pause();
    let [hanging] = hanging;
    let paused = tokio::time::Instant::now();
    assert_eq!(hanging.await, None);
    assert!(paused.elapsed().as_secs() <= 2);
    // Nobody knows this key, and so it is waited for until the attempt is given up.
    assert_eq!(
        show_at(&verifier, &local, 1, "unknown", NOW + 600).await,
        Some(Rule::Key)
    );
}

#[tokio::test]
async fn keys_survive_a_reload_unless_their_origin_changes() {
    let local = LocalIssuer::start().await;
    let cache = KeyCache::new();
    let declared = issuer(IssuerKind::Gitlab, &local.url);
    let before = verifier_with(&declared, &cache);
    assert_eq!(show_at(&before, &local, 0, "rsa", NOW).await, None);
    let mut renamed = declared.clone();
    renamed.audience = Some(vec![TENANT.to_owned()]);
    let after = verifier_with(&renamed, &cache);
    drop(before);
    assert_eq!(show_at(&after, &local, 0, "rsa", NOW).await, None);
    assert_eq!(local.key_hits(), 1);
    let mut narrowed = declared;
    narrowed.algs = vec![Alg::Rs256];
    let after_that = verifier_with(&narrowed, &cache);
    assert_eq!(show_at(&after_that, &local, 0, "rsa", NOW).await, None);
    assert_eq!(local.key_hits(), 2);
    drop(after);
    assert_eq!(cache.status().len(), 1);
}

#[tokio::test]
async fn the_status_says_when_keys_were_read_and_what_failed_since() {
    let local = LocalIssuer::start().await;
    let cache = KeyCache::new();
    let verifier = verifier_with(&issuer(IssuerKind::Gitlab, &local.url), &cache);
    assert_eq!(cache.status()[0].read_at, None);
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW).await, None);
    local.answer_keys(DOWN);
    assert_eq!(show_at(&verifier, &local, 0, "rsa", NOW + 700).await, None);
    let status = &cache.status()[0];
    assert_eq!(status.read_at, Some(at(NOW)));
    assert!(status.failure.as_deref().unwrap().contains("status 500"));
    assert!(status.origin.ends_with("/.well-known/openid-configuration"));
}

#[tokio::test]
async fn a_key_file_is_read_anew_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let write = |keys: Value| std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    write(json!([published("ec", key(1))]));
    let local = LocalIssuer::start().await;
    let mut of_file = issuer(IssuerKind::Gitlab, &local.url);
    of_file.jwks = JwksSource::File {
        path: path.clone(),
        keys: dayfly_token::jwks::KeySet::default(),
    };
    let verifier = verifier(&of_file);
    assert_eq!(show_at(&verifier, &local, 1, "ec", NOW).await, None);
    write(json!([published("new", key(2))]));
    assert_eq!(show_at(&verifier, &local, 1, "ec", NOW + 9).await, None);
    assert_eq!(show_at(&verifier, &local, 2, "new", NOW + 10).await, None);
    assert_eq!(
        show_at(&verifier, &local, 1, "ec", NOW + 10).await,
        Some(Rule::Key)
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(show_at(&verifier, &local, 2, "new", NOW + 60).await, None);
    assert_eq!(local.hits(), 0);
}
