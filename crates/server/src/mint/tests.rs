//! The life of keys by its rules alone, and the key file.

use dayfly_domain::{Name, Span, Time};
use dayfly_token::alg::Alg;
use tempfile::TempDir;

use super::*;

const TOKEN: Kind = Kind {
    r#use: KeyUse::Token,
    alg: Alg::Es256,
};
const LEDGER: Kind = Kind {
    r#use: KeyUse::Ledger,
    alg: Alg::Ed25519,
};
const DAY: Span = Span::from_seconds(86_400);

fn at(seconds: u64) -> Time {
    Time::from_seconds(1_800_000_000 + seconds)
}

fn key(kid: &str, kind: Kind, life: Life) -> KeyInfo {
    KeyInfo {
        kid: kid.to_owned(),
        r#use: kind.r#use,
        alg: kind.alg.as_str().to_owned(),
        created: at(0),
        public: String::new(),
        life,
    }
}

fn turn(kid: &str, to: Life) -> Step {
    Step::Turn {
        kid: kid.to_owned(),
        to,
    }
}

/// The keys after some steps, as the store would hold them.
fn after(keys: &[KeyInfo], steps: &[Step]) -> Vec<KeyInfo> {
    let mut keys = keys.to_vec();
    for step in steps {
        match step {
            Step::Make(kind, life) => {
                let kid = format!("k{}", keys.len());
                keys.push(key(&kid, *kind, *life));
            }
            Step::Turn { kid, to } => {
                keys.iter_mut().find(|key| key.kid == *kid).unwrap().life = *to;
            }
            Step::Forget { kid } => keys.retain(|key| key.kid != *kid),
        }
    }
    keys
}

#[test]
fn what_is_wanted_and_missing_signs_at_once() {
    let steps = due(&[], &[TOKEN, LEDGER], None, at(0));
    let signing = Life::Signing { since: at(0) };
    assert_eq!(
        steps,
        [Step::Make(TOKEN, signing), Step::Make(LEDGER, signing)]
    );
    let keys = after(&[], &steps);
    assert_eq!(due(&keys, &[TOKEN, LEDGER], None, at(9_999_999)), []);
}

#[test]
fn a_successor_is_published_waits_signs_and_the_old_one_goes_after_the_longest_token() {
    let old = key("old", TOKEN, Life::Signing { since: at(0) });
    let steps = rotate(std::slice::from_ref(&old), KeyUse::Token, None, at(100)).unwrap();
    assert_eq!(
        steps,
        [Step::Make(TOKEN, Life::Published { since: at(100) })]
    );
    let keys = after(&[old], &steps);
    // Every cached key set must be over before it signs.
    assert!(PUBLISHED_FOR > JWKS_MAX_AGE);
    let switch = at(100) + PUBLISHED_FOR;
    assert_eq!(
        due(&keys, &[TOKEN], None, switch - Span::from_millis(1)),
        []
    );
    let steps = due(&keys, &[TOKEN], None, switch);
    let until = switch + DAY + Span::from_seconds(60);
    assert_eq!(
        steps,
        [
            turn("k1", Life::Signing { since: switch }),
            turn("old", Life::Retiring { until }),
        ]
    );
    let keys = after(&keys, &steps);
    assert_eq!(due(&keys, &[TOKEN], None, until - Span::from_millis(1)), []);
    assert_eq!(
        due(&keys, &[TOKEN], None, until),
        [Step::Forget {
            kid: "old".to_owned()
        }]
    );
}

#[test]
fn a_server_that_was_down_goes_on_where_it_was() {
    let keys = [
        key("a", TOKEN, Life::Signing { since: at(0) }),
        key("b", TOKEN, Life::Published { since: at(10) }),
    ];
    let late = at(10) + DAY + DAY;
    let keys = after(&keys, &due(&keys, &[TOKEN], None, late));
    assert_eq!(keys[1].life, Life::Signing { since: late });
    assert!(keys[0].life.verifies(), "tokens of it may be live");
}

#[test]
fn the_schedule_replaces_token_keys_and_no_ledger_key() {
    let keys = [
        key("t", TOKEN, Life::Signing { since: at(0) }),
        key("l", LEDGER, Life::Signing { since: at(0) }),
    ];
    let (wanted, every) = ([TOKEN, LEDGER], Some(DAY));
    assert_eq!(
        due(&keys, &wanted, every, at(0) + DAY - Span::from_millis(1)),
        []
    );
    let now = at(0) + DAY;
    let steps = due(&keys, &wanted, every, now);
    assert_eq!(steps, [Step::Make(TOKEN, Life::Published { since: now })]);
    let keys = after(&keys, &steps);
    assert_eq!(
        due(&keys, &wanted, every, now),
        [],
        "one successor at a time"
    );
    // What no resource wants any more gets no successor.
    assert!(matches!(
        due(&keys[..1], &[], every, now).as_slice(),
        [Step::Turn {
            to: Life::Retiring { .. },
            ..
        }]
    ));
}

#[test]
fn a_ledger_key_leaves_its_public_part() {
    let keys = [
        key("a", LEDGER, Life::Retiring { until: at(50) }),
        key("b", LEDGER, Life::Signing { since: at(0) }),
    ];
    assert_eq!(
        due(&keys, &[LEDGER], None, at(50)),
        [turn("a", Life::Retired { at: at(50) })]
    );
}

#[test]
fn rotation_that_cannot_be_is_told() {
    let signing = key("a", TOKEN, Life::Signing { since: at(0) });
    let published = key("b", TOKEN, Life::Published { since: at(5) });
    assert_eq!(
        rotate(&[], KeyUse::Event, None, at(9)),
        Err(ChangeError::NoneSigns)
    );
    assert_eq!(
        rotate(
            std::slice::from_ref(&signing),
            KeyUse::Token,
            Some(Alg::Rs256),
            at(9)
        ),
        Err(ChangeError::NoneSigns)
    );
    assert_eq!(
        rotate(&[signing, published], KeyUse::Token, None, at(9)),
        Err(ChangeError::Successor {
            kid: "b".to_owned(),
            from: at(5) + PUBLISHED_FOR
        })
    );
}

#[test]
fn a_key_that_is_given_up_is_followed_at_once() {
    let gone = Life::Compromised { at: at(9) };
    let begin = Life::Signing { since: at(9) };
    let signing = key("a", TOKEN, Life::Signing { since: at(0) });
    let published = key("b", TOKEN, Life::Published { since: at(8) });
    let kids = |kids: &[&str]| kids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let alone = std::slice::from_ref(&signing);
    assert_eq!(
        compromise(alone, &kids(&["a"]), &[TOKEN], at(9)).unwrap(),
        [turn("a", gone), Step::Make(TOKEN, begin)]
    );
    let both = [signing.clone(), published.clone()];
    assert_eq!(
        compromise(&both, &kids(&["a"]), &[TOKEN], at(9)).unwrap(),
        [turn("a", gone), turn("b", begin)]
    );
    assert_eq!(
        compromise(&both, &kids(&["b"]), &[TOKEN], at(9)).unwrap(),
        [turn("b", gone)]
    );
    assert_eq!(
        compromise(&both, &kids(&["a", "b"]), &[TOKEN], at(9)).unwrap(),
        [turn("a", gone), turn("b", gone), Step::Make(TOKEN, begin)]
    );
    let again = after(
        alone,
        &compromise(alone, &kids(&["a"]), &[TOKEN], at(9)).unwrap(),
    );
    assert_eq!(
        compromise(&again, &kids(&["a"]), &[TOKEN], at(99)).unwrap(),
        []
    );
    assert_eq!(
        compromise(&both, &kids(&["a", "x"]), &[TOKEN], at(9)),
        Err(ChangeError::Unknown("x".to_owned()))
    );
    // Offline nothing is made: whoever starts the server makes it.
    assert_eq!(
        compromise(alone, &kids(&["a"]), &[], at(9)).unwrap(),
        [turn("a", gone)]
    );
}

#[test]
fn the_bound_is_that_of_the_key_set_and_never_before_it_was_gone() {
    assert_eq!(
        accepted_offline_until(at(0), at(1)),
        at(0) + Span::from_seconds(360)
    );
    assert_eq!(
        accepted_offline_until(at(0), at(500)),
        at(500) + JWKS_MAX_AGE
    );
}

/// The store of a tenant with keys under this key file.
async fn kept(folder: &TempDir, file: &str) -> Result<dayfly_store::MemoryStore, KeyringError> {
    use dayfly_store::clock::ManualClock;
    let store = dayfly_store::MemoryStore::new(std::sync::Arc::new(ManualClock::at(at(0))));
    let master = MasterKey::load(&folder.path().join(file), false)?;
    load(&store, &master).await?;
    Ok(store)
}

async fn load(
    store: &dayfly_store::MemoryStore,
    master: &MasterKey,
) -> Result<Keyring, KeyringError> {
    let name: Name = "acme".parse().unwrap();
    Keyring::load(
        store,
        master,
        &name,
        "x.example/acme",
        &wanted(&[Alg::Es256]),
        at(0),
    )
    .await
}

#[tokio::test]
async fn a_key_file_that_does_not_do_is_named_with_the_page_that_helps() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let store = kept(&folder, "one.key").await.unwrap();
    let one = folder.path().join("one.key");
    let told = |why: &MasterKeyError| {
        let text = why.to_string();
        assert!(text.contains("docs/runbook.md#key-lost"), "{text}");
        assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
        text
    };
    let other = MasterKey::load(&folder.path().join("other.key"), false).unwrap();
    match load(&store, &other).await {
        Err(KeyringError::Master(why)) => {
            assert!(told(&why).contains("it is another one than that was wrapped under"));
        }
        Err(why) => panic!("{why}"),
        Ok(_) => panic!("another key file opens them"),
    }
    let lost = folder.path().join("lost.key");
    assert!(told(&MasterKey::load(&lost, true).unwrap_err()).contains("is missing"));
    assert!(!lost.exists(), "none is made in its place");
    let mode = |mode| std::fs::set_permissions(&one, std::fs::Permissions::from_mode(mode));
    mode(0o640).unwrap();
    assert!(told(&MasterKey::load(&one, true).unwrap_err()).contains("has mode 0640"));
    mode(0o600).unwrap();
    let kept = std::fs::read(&one).unwrap();
    for bytes in [
        &b""[..],
        b"AAAA\n",
        b"\xff\xfe",
        &[&kept[..], &kept[..]].concat(),
    ] {
        std::fs::write(&one, bytes).unwrap();
        let why = MasterKey::load(&one, true).unwrap_err();
        told(&why);
    }
    std::fs::write(&one, kept).unwrap();
    let one = MasterKey::load(&one, true).unwrap();
    assert!(load(&store, &one).await.is_ok());
}

#[tokio::test]
async fn the_record_of_a_key_that_was_given_up_holds_nothing_to_sign_with() {
    let folder = TempDir::new().unwrap();
    let store = kept(&folder, "one.key").await.unwrap();
    let name: Name = "acme".parse().unwrap();
    assert!(holds_keys(&store, &name).unwrap());
    let annex = serde_json::json!({"reason": "the key file is lost"});
    let gone = compromise_offline(&store, &name, None, &annex, at(1))
        .await
        .unwrap();
    assert_eq!(gone.len(), 2);
    assert!(!holds_keys(&store, &name).unwrap(), "no key file is needed");
    // A new key file, and keys of every kind that is wanted.
    let master = MasterKey::load(&folder.path().join("new.key"), false).unwrap();
    let keyring = load(&store, &master).await.unwrap();
    assert_eq!(keyring.infos().len(), 4);
    assert_eq!(keyring.ledger_keys().len(), 2);
    for key in &gone {
        assert_eq!(keyring.compromised(&key.kid), Some(at(1)));
        assert!(!keyring.verifying().knows(&key.kid));
    }
}

#[test]
fn no_key_that_a_backup_brings_back_signs_or_verifies_tokens() {
    let keys = [
        key("signing", TOKEN, Life::Signing { since: at(0) }),
        key("retiring", TOKEN, Life::Retiring { until: at(9) }),
        key("next", TOKEN, Life::Published { since: at(0) }),
        key("given-up", TOKEN, Life::Compromised { at: at(1) }),
        key("ledger", LEDGER, Life::Signing { since: at(0) }),
        key("ledger-before", LEDGER, Life::Retiring { until: at(9) }),
        key("ledger-next", LEDGER, Life::Published { since: at(0) }),
    ];
    let after = after(&keys, &life::restored(&keys, at(5)));
    let left: Vec<(&str, Life)> = after.iter().map(|key| (&*key.kid, key.life)).collect();
    let retired = Life::Retired { at: at(5) };
    assert_eq!(
        left,
        [
            // Its name must not be taken for one that is in force, ever.
            ("given-up", Life::Compromised { at: at(1) }),
            ("ledger", retired),
            ("ledger-before", retired),
        ]
    );
    let made = due(&after, &[TOKEN, LEDGER], None, at(6));
    let begin = Life::Signing { since: at(6) };
    assert_eq!(made, [Step::Make(TOKEN, begin), Step::Make(LEDGER, begin)]);
}

/// One in sixty-four would be, and what names it on a command line is refused.
#[test]
fn no_key_is_named_like_an_option() {
    for _ in 0..512 {
        let key = stored::signing_key(Alg::Es256).unwrap();
        assert!(!key.thumbprint().to_string().starts_with('-'));
    }
}
