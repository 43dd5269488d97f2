//! An adversary of acting for people: two thousand changed person's tokens and exchanges, of which none is accepted that widens or misnames anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use dayfly_token::hash::sha256;
use dayfly_token::sign::SigningKey;
use serde_json::{Map, Value, json};

use super::job::{
    EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, new_key, payload, signed,
};
use super::subjects::{MAIL, STAFF, TYPE_ID_TOKEN, declared, mona};
use super::world::{ARTIFACTS, ISSUER, QUEUE, World, platform};

const VARIANTS: u64 = 2_000;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        let [a, b, c, d, ..] = sha256(&self.0.to_be_bytes());
        u32::from_be_bytes([a, b, c, d]) as usize % sides
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }
}

/// One attempt: the person's token and the form around it.
struct Attempt {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    thief: Option<Arc<SigningKey>>,
    form: Vec<(&'static str, String)>,
    instead: Option<String>,
}

impl Attempt {
    fn valid(world: &World, proof: &str) -> Self {
        let object = |value: Value| value.as_object().unwrap().clone();
        Self {
            header: object(json!({"typ": "JWT", "kid": "k1"})),
            claims: object(mona(world)),
            thief: None,
            form: vec![
                ("grant_type", EXCHANGE.into()),
                ("subject_token_type", TYPE_ID_TOKEN.into()),
                ("actor_token", proof.into()),
                ("actor_token_type", TYPE_JWT.into()),
                ("resource", MAIL.into()),
            ],
            instead: None,
        }
    }

    fn change(&mut self, world: &World, job: &Job, dice: &mut Dice) {
        match dice.roll(6) {
            0..=2 => self.change_claim(world, dice),
            3 => {
                let typ = dice.one(&[
                    "at+jwt",
                    "secevent+jwt",
                    "logout+jwt",
                    "dayfly-handover+jwt",
                    "",
                ]);
                self.header.insert("typ".into(), typ.into());
            }
            4 => match dice.roll(2) {
                0 => self.thief = Some(new_key()),
                _ => {
                    self.instead =
                        Some(dice.one(&[job.token.clone(), job.proof.clone(), "a.b.c".into()]))
                }
            },
            _ => self.change_form(job, dice),
        }
    }

    fn change_claim(&mut self, world: &World, dice: &mut Dice) {
        let now = world.now();
        let (name, value) = dice.one(&[
            ("iss", json!("https://guests.example")),
            ("iss", json!("https://robots.example")),
            ("iss", json!(ISSUER)),
            ("aud", json!(ISSUER)),
            ("aud", json!(["assistant", "other"])),
            ("aud", json!("assistant-mobile")),
            ("azp", json!("other")),
            ("sub", json!("dora")),
            ("sub", json!("workload:release")),
            ("sub", json!("")),
            ("sub", json!({"name": "mona"})),
            ("exp", json!(now - 61)),
            ("exp", json!(u64::MAX)),
            ("iat", json!(now - 3700)),
            ("auth_time", json!(now - 7200)),
            ("auth_time", json!(now + 3600)),
            ("auth_time", json!(-1)),
            ("act", json!({"sub": "workload:release"})),
            (
                "may_act",
                json!({"iss": ISSUER, "sub": "workload:assistant"}),
            ),
            ("may_act", json!({"iss": ISSUER, "sub": "workload:release"})),
            ("cnf", json!({"jkt": "x"})),
            ("events", json!({})),
            ("typ", json!("Refresh")),
            ("scope", json!("artifacts:publish")),
            (
                "authorization_details",
                json!([{"type": "artifact", "actions": ["publish"]}]),
            ),
            ("repository_id", json!("1")),
            ("on_behalf_of", json!({"iss": STAFF, "sub": "admin"})),
            ("person", json!("admin")),
            ("client_id", json!("mona-4711")),
            ("email", Value::Null),
        ]);
        if value.is_null() {
            self.claims.remove(name);
        } else {
            self.claims.insert(name.into(), value);
        }
    }

    fn change_form(&mut self, job: &Job, dice: &mut Dice) {
        let wide = json!([{"type": "message", "actions": ["delete"], "identifier": "inbox/a"}]);
        let narrow = json!([{"type": "message", "actions": ["read"], "identifier": "inbox/a", "locations": [MAIL]}]);
        match dice.roll(3) {
            0 => self.form[1].1 = dice.one(&[TYPE_JWT, TYPE_ACCESS_TOKEN, "urn:x"]).into(),
            1 => {
                self.form[4].1 = dice
                    .one(&[
                        QUEUE,
                        ARTIFACTS,
                        "https://keyed.example/api",
                        "https://evil.example",
                    ])
                    .into()
            }
            _ => {
                let (name, value) = dice.one(&[
                    ("scope", "artifacts:publish".to_owned()),
                    ("scope", "mail".to_owned()),
                    ("authorization_details", wide.to_string()),
                    ("authorization_details", narrow.to_string()),
                    ("client_id", "release".to_owned()),
                    ("client_id", "concierge".to_owned()),
                    ("client_assertion", job.token.clone()),
                    ("requested_token_type", TYPE_ID_TOKEN.to_owned()),
                    ("subject_token", "again".to_owned()),
                ]);
                self.form.push((name, value));
            }
        }
    }

    fn token(&self) -> String {
        if let Some(instead) = &self.instead {
            return instead.clone();
        }
        let claims = Value::Object(self.claims.clone()).to_string();
        let signer = self.thief.as_deref().unwrap_or_else(|| platform());
        signer
            .encode_jws(self.header.clone(), claims.as_bytes())
            .unwrap()
    }
}

/// What the assistant may have at most, written down once more, and how the person must be named.
fn check(token: &str, client: &str, claims: &Map<String, Value>) {
    let said = payload(token);
    let of = |url: &str| -> (&str, Value, &str) {
        match url {
            MAIL => ("message", json!(["read", "send"]), "inbox/"),
            QUEUE => ("message", json!(["read"]), "jobs/"),
            ARTIFACTS => ("artifact", json!(["read"]), "octo/"),
            other => panic!("{other}"),
        }
    };
    let at = said["aud"].as_str().unwrap();
    let (kind, actions, folder) = of(at);
    for detail in said["authorization_details"].as_array().unwrap() {
        assert_eq!(detail["type"], kind);
        assert_eq!(detail["locations"], json!([at]));
        for action in detail["actions"].as_array().unwrap() {
            assert!(actions.as_array().unwrap().contains(action), "{said}");
        }
        assert!(detail["identifier"].as_str().unwrap().starts_with(folder));
    }
    assert_eq!(claims["iss"], STAFF, "{claims:?}");
    let sub = claims["sub"].as_str().unwrap();
    assert!(["mona-4711", "dora"].contains(&sub));
    if at == MAIL {
        assert_eq!(said["sub"], sub);
        assert_eq!(said["on_behalf_of"], json!({"iss": STAFF, "sub": sub}));
        assert_eq!(
            said["act"],
            json!({"sub": "workload:assistant", "client_id": client})
        );
    } else {
        assert_eq!(said["sub"], "workload:assistant");
        assert_eq!(said["on_behalf_of"]["iss"], ISSUER);
        assert!(!said.to_string().contains(sub), "{said}");
    }
}

#[tokio::test]
async fn none_of_two_thousand_changed_people_widens_or_is_misnamed() {
    let world = World::declared(&declared()).await;
    let job = world.assist(1, &mona(&world)).await;
    let mut dice = Dice(0);
    let (mut accepted, mut rules) = (0u64, BTreeSet::new());
    for variant in 0..VARIANTS {
        let key = new_key();
        let proof = signed(&claims(&world, 5, 100 + variant));
        let mut attempt = Attempt::valid(&world, &proof);
        for _ in 0..=dice.roll(2) {
            attempt.change(&world, &job, &mut dice);
        }
        let token = attempt.token();
        let mut form: Vec<(&str, &str)> = vec![("subject_token", &token)];
        form.extend(
            attempt
                .form
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let dpop = dpop(&world, &key, "POST", "/token");
        let reply = world.form("/token", &form, &[("dpop", &dpop)]).await;
        if reply.status == 200 {
            accepted += 1;
            assert!(attempt.thief.is_none() && attempt.instead.is_none());
            check(
                reply.str("access_token"),
                reply.str("client_id"),
                &attempt.claims,
            );
        } else {
            assert_eq!(reply.status / 100, 4, "{}", reply.text);
            rules.insert(reply.rule().to_owned());
        }
    }
    assert!(
        accepted > VARIANTS / 50 && accepted < VARIANTS / 2,
        "{accepted} are accepted"
    );
    assert!(rules.len() > 12, "few guards are reached: {rules:?}");
}
