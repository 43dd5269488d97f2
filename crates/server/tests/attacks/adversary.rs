//! An adversary of delegation: ten thousand changed hand-overs and exchanges, of which none is
//! accepted that widens anything.

use std::sync::Arc;

use dayfly_token::hash::sha256;
use dayfly_token::sign::SigningKey;
use serde_json::{Map, Value, json};

use super::delegation::TYPE_HANDOVER;
use super::job::{EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, dpop, new_key, payload, proof};
use super::world::{ARTIFACTS, ISSUER, PUBLIC, QUEUE, World, unique};

const VARIANTS: u32 = 10_000;
/// How many variants one parent is for: fewer than it may have children.
const EACH: u32 = 100;

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

/// One attempt: everything that is signed and sent.
struct Attempt {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signer: Arc<SigningKey>,
    form: Vec<(&'static str, String)>,
    dpop: Option<String>,
    /// Whose token takes the place of the hand-over.
    instead: Option<String>,
    broken: Option<usize>,
}

/// Who there is to be confused with.
struct Cast {
    parent: Job,
    other: Job,
    child: Arc<SigningKey>,
    thief: Arc<SigningKey>,
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn detail() -> Value {
    json!({
        "type": "artifact", "locations": [ARTIFACTS], "actions": ["read"],
        "identifier": "octo/a", "bytes": 10, "region": "eu",
    })
}

impl Attempt {
    fn valid(world: &World, cast: &Cast, dice: &mut Dice) -> Self {
        let mut claims = object(json!({
            "iss": cast.parent.client, "aud": ISSUER, "jti": unique(),
            "iat": world.now(), "exp": world.now() + 60,
            "cnf": {"jkt": cast.child.thumbprint().to_string()},
        }));
        if dice.roll(3) == 0 {
            claims.insert("scope".into(), "artifacts:read".into());
        } else {
            claims.insert("authorization_details".into(), json!([detail()]));
        }
        Self {
            header: object(json!({"typ": "dayfly-handover+jwt"})),
            claims,
            signer: Arc::clone(&cast.parent.key),
            form: vec![
                ("grant_type", EXCHANGE.into()),
                ("subject_token_type", TYPE_HANDOVER.into()),
            ],
            dpop: Some(dpop(world, &cast.child, "POST", "/token")),
            instead: None,
            broken: None,
        }
    }

    fn change(&mut self, world: &World, cast: &Cast, dice: &mut Dice) {
        match dice.roll(10) {
            0..=2 => self.change_claim(world, cast, dice),
            3..=6 => self.change_detail(dice),
            7 => self.change_header(cast, dice),
            8 => self.change_form(cast, dice),
            _ => self.change_proof(world, cast, dice),
        }
    }

    fn change_claim(&mut self, world: &World, cast: &Cast, dice: &mut Dice) {
        let now = world.now();
        let jkt = |key: &SigningKey| json!({"jkt": key.thumbprint().to_string()});
        let (name, value) = dice.one(&[
            ("iss", json!(cast.other.client)),
            ("iss", json!(cast.parent.task)),
            ("iss", json!(ISSUER)),
            ("iss", json!("workload:agent")),
            ("aud", json!(format!("{PUBLIC}/other"))),
            ("aud", json!([ISSUER, ARTIFACTS])),
            ("aud", json!(ARTIFACTS)),
            ("aud", json!(format!("{ISSUER}/token"))),
            ("jti", json!("")),
            ("jti", json!("used by many")),
            ("jti", json!("x".repeat(300))),
            ("iat", json!(now + 3600)),
            ("iat", json!(now - 3600)),
            ("iat", Value::Null),
            ("exp", json!(now + 86_400)),
            ("exp", json!(now - 61)),
            ("exp", json!(u64::MAX)),
            ("nbf", json!(now + 600)),
            ("cnf", jkt(&cast.thief)),
            ("cnf", jkt(&cast.parent.key)),
            ("cnf", jkt(&cast.other.key)),
            ("cnf", json!({})),
            (
                "cnf",
                json!({"jkt": cast.child.thumbprint().to_string(), "kid": "x"}),
            ),
            ("cnf", Value::Null),
            ("scope", json!("artifacts:publish")),
            ("scope", json!("artifacts:read artifacts:publish")),
            ("scope", json!("queue:read")),
            ("scope", json!("*")),
            ("scope", json!(["artifacts:publish"])),
            ("act", json!({"sub": "workload:release"})),
            ("may_act", json!({"sub": "workload:release"})),
            ("client_id", json!(cast.other.client)),
            ("task", json!(cast.other.task)),
            ("depth", json!(0)),
        ]);
        if value.is_null() {
            self.claims.remove(name);
        } else {
            if name == "scope" && dice.roll(2) == 0 {
                self.claims.remove("authorization_details");
            }
            self.claims.insert(name.into(), value);
        }
    }

    fn change_detail(&mut self, dice: &mut Dice) {
        let (name, value) = dice.one(&[
            ("actions", json!(["read", "publish"])),
            ("actions", json!(["publish"])),
            ("actions", json!(["*"])),
            ("actions", json!([])),
            ("actions", json!("read")),
            ("actions", json!(["READ"])),
            ("identifier", json!("octo/*")),
            ("identifier", json!("*")),
            ("identifier", json!("octo/a/b")),
            ("identifier", json!("octo/../x")),
            ("identifier", json!("other/a")),
            ("identifier", json!("octo//a")),
            ("identifier", json!("octo/%2e%2e")),
            ("identifier", json!(["octo/a", "octo/b"])),
            ("identifier", json!("octo/b")),
            ("bytes", json!(101)),
            ("bytes", json!(i64::MAX)),
            ("bytes", json!(-1)),
            ("bytes", json!(1.5)),
            ("bytes", json!("10")),
            ("bytes", json!(100)),
            ("region", json!("*")),
            ("region", json!("cn")),
            ("region", json!(["eu", "us"])),
            ("region", json!("us")),
            ("locations", json!([QUEUE])),
            ("locations", json!([ARTIFACTS, QUEUE])),
            ("locations", json!(["https://evil.example"])),
            ("locations", json!([])),
            ("type", json!("message")),
            ("type", json!("artifact2")),
            ("type", json!(["artifact"])),
            ("privileges", json!(["admin"])),
            ("datatypes", json!(["all"])),
            ("scope", json!("artifacts:publish")),
            ("resource", json!("queue")),
            ("max_uses", json!(1000)),
        ]);
        let mut changed = object(detail());
        if dice.roll(6) == 0 {
            changed.remove(name);
        } else {
            changed.insert(name.into(), value);
        }
        let mut list = match self.claims.remove("authorization_details") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        self.claims.remove("scope");
        if dice.roll(2) == 0 {
            list.clear();
        }
        list.push(Value::Object(changed));
        self.claims
            .insert("authorization_details".into(), list.into());
    }

    fn change_header(&mut self, cast: &Cast, dice: &mut Dice) {
        match dice.roll(4) {
            0 => {
                let typ = dice.one(&[
                    "JWT",
                    "at+jwt",
                    "dpop+jwt",
                    "client-authentication+jwt",
                    "secevent+jwt",
                    "",
                ]);
                self.header.insert("typ".into(), typ.into());
            }
            1 => {
                self.signer = dice
                    .one(&[&cast.other.key, &cast.child, &cast.thief])
                    .clone()
            }
            2 => {
                let (name, value) = dice.one(&[
                    ("crit", json!(["exp"])),
                    ("jku", json!("https://evil.example/jwks")),
                    ("kid", json!("../../etc/passwd")),
                    ("b64", json!(false)),
                    ("zip", json!("DEF")),
                ]);
                self.header.insert(name.into(), value);
            }
            _ => self.broken = Some(dice.roll(100_000)),
        }
    }

    fn change_form(&mut self, cast: &Cast, dice: &mut Dice) {
        let wide = json!([{"type": "artifact", "actions": ["publish"], "identifier": "octo/a"}]);
        match dice.roll(4) {
            0 => self.form[1].1 = dice.one(&[TYPE_JWT, TYPE_ACCESS_TOKEN, "urn:x", ""]).into(),
            1 => {
                self.instead = Some(
                    dice.one(&[&cast.parent.token, &cast.parent.proof, &cast.other.token])
                        .clone(),
                )
            }
            _ => {
                let (name, value) = dice.one(&[
                    ("scope", "artifacts:publish".to_owned()),
                    ("scope", "queue:read".to_owned()),
                    ("authorization_details", wide.to_string()),
                    ("authorization_details", "[{}]".to_owned()),
                    ("resource", QUEUE.to_owned()),
                    ("resource", "https://evil.example".to_owned()),
                    ("audience", "queue".to_owned()),
                    ("actor_token", cast.other.proof.clone()),
                    ("actor_token_type", TYPE_JWT.to_owned()),
                    ("client_id", "release".to_owned()),
                    ("client_id", cast.other.client.clone()),
                    (
                        "requested_token_type",
                        "urn:ietf:params:oauth:token-type:refresh_token".to_owned(),
                    ),
                    ("client_assertion", cast.parent.token.clone()),
                    ("grant_type", "client_credentials".to_owned()),
                ]);
                self.form.push((name, value));
            }
        }
    }

    fn change_proof(&mut self, world: &World, cast: &Cast, dice: &mut Dice) {
        let nonce = world.app.nonce();
        self.dpop = match dice.roll(7) {
            0 => None,
            1 => Some(dpop(world, &cast.thief, "POST", "/token")),
            2 => Some(dpop(world, &cast.parent.key, "POST", "/token")),
            3 => Some(dpop(world, &cast.other.key, "POST", "/token")),
            4 => Some(dpop(world, &cast.child, "GET", "/token")),
            5 => Some(proof(
                world,
                &cast.child,
                "POST",
                "/revoke",
                Some(&nonce),
                None,
            )),
            _ => Some(proof(
                world,
                &cast.child,
                "POST",
                "/token",
                Some("stale"),
                None,
            )),
        };
    }

    fn token(&self) -> String {
        if let Some(instead) = &self.instead {
            return instead.clone();
        }
        let claims = Value::Object(self.claims.clone()).to_string();
        let token = self
            .signer
            .encode_jws(self.header.clone(), claims.as_bytes());
        let mut token = token.unwrap().into_bytes();
        if let Some(at) = self.broken {
            let at = at % token.len();
            token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        }
        String::from_utf8(token).unwrap()
    }
}

/// What a child of the parent may have at most, written down once more: to read below `octo/`.
fn check_narrow(token: &str, cast: &Cast) {
    let told = payload(token);
    assert_eq!(told["aud"], ARTIFACTS);
    assert_eq!(told["sub"], "workload:agent");
    assert_eq!(told["task"], cast.parent.task.as_str());
    assert_eq!(told["cnf"]["jkt"], cast.child.thumbprint().to_string());
    assert_eq!(told["act"]["act"]["client_id"], cast.parent.client.as_str());
    assert!(told["act"]["act"].get("act").is_none());
    assert!(
        told["exp"].as_u64()
            <= payload(&cast.parent.token)["exp"]
                .as_u64()
                .map(|exp| exp + 300)
    );
    for detail in told["authorization_details"].as_array().unwrap() {
        assert_eq!(detail["type"], "artifact");
        assert_eq!(detail["locations"], json!([ARTIFACTS]));
        assert_eq!(detail["actions"], json!(["read"]));
        let name = detail["identifier"]
            .as_str()
            .unwrap()
            .strip_prefix("octo/")
            .unwrap();
        assert!(!name.contains('/') && !name.is_empty());
        assert!(detail["bytes"].as_i64().unwrap() <= 100);
        let regions = [json!("eu"), json!("us"), json!(["eu", "us"])];
        assert!(regions.contains(&detail["region"]));
    }
    if let Some(scope) = told.get("scope") {
        assert_eq!(scope, "artifacts:read");
    }
}

#[tokio::test]
async fn none_of_ten_thousand_changed_hand_overs_widens() {
    let world = World::of_agents().await;
    let mut dice = Dice(0);
    let (mut accepted, mut refused) = (0u32, 0u32);
    let mut rules = std::collections::BTreeSet::new();
    let asks = [("scope", "artifacts:read")];
    let mut cast = None;
    for variant in 0..VARIANTS {
        if variant % EACH == 0 {
            cast = Some((
                world.job_of(11, 10 + u64::from(variant), &asks).await,
                world.agent(11 + u64::from(variant)).await,
            ));
        }
        let (parent, other) = cast.clone().unwrap();
        let cast = Cast {
            parent,
            other,
            child: new_key(),
            thief: new_key(),
        };
        let mut attempt = Attempt::valid(&world, &cast, &mut dice);
        for _ in 0..=dice.roll(3) {
            attempt.change(&world, &cast, &mut dice);
        }
        let token = attempt.token();
        let mut form: Vec<(&str, &str)> = vec![("subject_token", &token)];
        form.extend(
            attempt
                .form
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let headers: Vec<(&str, &str)> = attempt
            .dpop
            .iter()
            .map(|dpop| ("dpop", dpop.as_str()))
            .collect();
        let reply = world.form("/token", &form, &headers).await;
        if reply.status == 200 {
            accepted += 1;
            check_narrow(reply.str("access_token"), &cast);
        } else {
            assert_eq!(reply.status / 100, 4, "{}", reply.text);
            rules.insert(reply.rule().to_owned());
            refused += 1;
        }
    }
    assert!(
        refused > VARIANTS * 3 / 4,
        "{accepted} of them are accepted"
    );
    assert!(
        accepted > VARIANTS / 100,
        "only {accepted} show that what narrows is accepted"
    );
    assert!(rules.len() > 20, "few guards are reached: {rules:?}");
}
