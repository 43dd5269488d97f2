//! What a provider says of those who operate: whoever is gone or whose session is over does nothing any more.

use dayfly_domain::Span;
use dayfly_store::Fault;

use super::super::rights::Route;
use super::people::Listener;
use super::*;
use crate::app::{Signalled, Trail};
use crate::restore::{RestoreRequest, restore};
use crate::verify::tests::local::{key, mint_as};

const SESSION: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CREDENTIAL: &str = "https://schemas.openid.net/secevent/caep/event-type/credential-change";
const DISABLED: &str = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";

impl Listener {
    /// Tells the tenant `acme` what the provider says of somebody; whether that is recorded.
    async fn hears(&self, kind: &str, sub: &str) -> bool {
        let app = &self.served.app;
        let tenant = app.tenant("acme").unwrap();
        let now = app.now().seconds();
        let claims = json!({
            "iss": self.issuer.url, "aud": tenant.issuer(), "jti": format!("{kind} {sub}"),
            "iat": now, "sub_id": {"format": "iss_sub", "iss": self.issuer.url, "sub": sub},
            "events": {kind: {"event_timestamp": now}},
        });
        let header = json!({"kid": "rsa", "typ": "secevent+jwt"});
        let set = mint_as(key(0), header, claims.to_string().as_bytes());
        let loaded = tenant.loaded();
        let receiver = &loaded.receivers[&"ops".parse::<Name>().unwrap()];
        let signal = receiver.verify(&set, app.now()).await.unwrap();
        match app.signal(tenant, &signal, &Trail::default()).await {
            Ok(Signalled::Over { recorded }) => recorded,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self) {
        self.served.hand.clock.advance(Span::from_seconds(60));
    }
}

fn ruled((status, said): &(u16, Value)) -> (u16, &str, &str) {
    let rule = said["refused"]["rule"].as_str().unwrap_or("");
    (*status, said["error"].as_str().unwrap_or(""), rule)
}

const BLOCKED: (u16, &str, &str) = (403, "access_denied", "blocked");
const OVER: (u16, &str, &str) = (401, "invalid_token", "rights_removed");

#[tokio::test]
async fn an_operator_whose_account_is_gone_has_no_right_in_the_tenant_until_unblocked() {
    let listener = Listener::heard().await;
    let all = ["admin", "operator", "approver", "auditor", "platform"];
    let before = listener.token("mona", &all);
    assert_eq!(listener.get("/admin/acme/blocks", &before).await.0, 200);
    assert!(listener.hears(DISABLED, "mona").await);
    listener.wait();
    // A newer login does not help.
    let after = listener.token("mona", &all);
    for (route, token) in Route::ALL.iter().flat_map(|r| [(r, &before), (r, &after)]) {
        let (method, path) = route.place();
        if !path.contains("{tenant}") {
            continue;
        }
        let path = path
            .replace("{tenant}", "acme")
            .replace("{task}", "task_00000000000000000000000000")
            .replace("{client}", "client_00000000000000000000000000_1")
            .replace("{id}", "task_00000000000000000000000000")
            .replace("{refusal}", "ref_00000000000000000000000000")
            .replace("{name}", "team-platform");
        let headers = format!("authorization: Bearer {token}");
        let method = method.to_uppercase();
        let (status, _, said) = listener.ask(&method, &path, &[&headers], "{}").await;
        assert_eq!(ruled(&(status, said)), BLOCKED, "{route:?}");
    }
    let dora = listener.token("dora", &["operator"]);
    let (_, blocks) = listener.get("/admin/acme/blocks", &dora).await;
    let on = blocks[0]["on"].as_str().unwrap();
    let (_, said) = listener.get("/admin/acme/tasks", &after).await;
    let hint = said["refused"]["hint"].as_str().unwrap();
    assert!(on.starts_with("barred:"), "{on}");
    assert!(hint.contains(&format!("`dayfly unblock {on}`")), "{hint}");
    // Nobody lets themselves in, and who may lets them in.
    let lift = json!({ "on": on, "reason": "back at work" }).to_string();
    let lifted = listener.post("/admin/acme/unblock", &after, &lift).await;
    assert_eq!(ruled(&lifted), BLOCKED);
    assert_eq!(
        listener.post("/admin/acme/unblock", &dora, &lift).await.0,
        200
    );
    assert_eq!(listener.get("/admin/acme/tasks", &after).await.0, 200);
    // What was authenticated before the account was gone stays over.
    let old = listener.get("/admin/acme/tasks", &before).await;
    assert_eq!(ruled(&old), OVER);
}

/// What was said of somebody in the time that a restore gave up is not known any more, so what they
/// were given before it opens nothing: a login since then does.
#[tokio::test]
async fn an_operators_token_of_before_a_restore_opens_nothing() {
    let listener = Listener::heard().await;
    let before = listener.token("mona", &["operator"]);
    let mut claims = listener.claims("mona", &["operator"]);
    listener.wait();
    let annex = json!({ "reason": "the disk died" });
    let hand = &listener.served.hand;
    let request = RestoreRequest {
        tenant: &hand.tenant,
        first_origin: "127.0.0.1:8440/acme",
        handed_out: None,
        now: listener.served.app.now(),
        annex: &annex,
    };
    restore(hand.store.as_ref(), &request).await.unwrap();
    let listener = listener.restarted().await;
    listener.wait();
    let path = "/admin/acme/tasks";
    let refused = listener.get(path, &before).await;
    assert_eq!(ruled(&refused), (401, "invalid_token", "before_restore"));
    let hint = refused.1["refused"]["hint"].as_str().unwrap();
    assert!(hint.contains("log in again"), "{hint}");
    // The other tenant was not restored.
    assert_eq!(listener.get("/admin/other/tasks", &before).await.0, 200);
    let now = listener.served.app.now().seconds();
    (claims["iat"], claims["exp"]) = (now.into(), (now + 300).into());
    let since = listener.issuer.token(&claims);
    assert_eq!(listener.get(path, &since).await.0, 200);
}

#[tokio::test]
async fn another_tenant_is_not_meant_and_what_is_of_none_is_refused_where_all_refuse() {
    let listener = Listener::heard().await;
    let mona = listener.token("mona", &["operator", "auditor"]);
    listener.hears(DISABLED, "mona").await;
    let refused = listener.get("/admin/acme/tasks", &mona).await;
    assert_eq!(ruled(&refused), BLOCKED);
    for path in ["/admin/other/tasks", "/admin", "/operators/me"] {
        assert_eq!(listener.get(path, &mona).await.0, 200, "{path}");
    }
    // By hand in the other tenant too, where the same person stands under another pseudonym.
    let other = listener.served.app.tenant("other").unwrap();
    let person = other.loaded().pseudonyms.of(&listener.issuer.url, "mona");
    let on = dayfly_domain::BlockOn::Person(person).to_string();
    let block = json!({ "on": on, "reason": "left" }).to_string();
    let (status, said) = listener.served.post("/admin/other/blocks", &block).await;
    assert_eq!(status, 200, "{said}");
    for path in ["/admin/other/tasks", "/admin", "/operators/me", "/admin/x"] {
        let (status, said) = listener.get(path, &mona).await;
        assert_ne!(status, 200, "{path} {said}");
    }
    let none = listener.get("/operators/me", &mona).await;
    assert_eq!(ruled(&none), BLOCKED);
    let none = listener.get("/admin/none/tasks", &mona).await;
    assert_eq!(ruled(&none), BLOCKED, "as what is of no tenant");
    // The socket is nobody's account.
    assert_eq!(listener.served.get("/admin/acme/tasks").await.0, 200);
}

#[tokio::test]
async fn an_operators_session_that_is_over_opens_nothing_and_a_newer_login_does() {
    for kind in [SESSION, CREDENTIAL] {
        let listener = Listener::heard().await;
        let before = listener.token("mona", &["operator"]);
        let begun = listener.served.app.now().seconds();
        listener.hears(kind, "mona").await;
        let path = "/admin/acme/tasks";
        assert_eq!(ruled(&listener.get(path, &before).await), OVER);
        assert_eq!(listener.get("/admin/other/tasks", &before).await.0, 200);
        listener.wait();
        assert_eq!(ruled(&listener.get(path, &before).await), OVER);
        let newer = listener.token("mona", &["operator"]);
        assert_eq!(listener.get(path, &newer).await.0, 200);
        // A token that was only refreshed tells of the same authentication.
        let mut claims = listener.claims("mona", &["operator"]);
        claims["auth_time"] = begun.into();
        let refreshed = listener.issuer.token(&claims);
        assert_eq!(ruled(&listener.get(path, &refreshed).await), OVER);
        // Nobody authenticates after the token was made, and what cannot be read is no time.
        claims["auth_time"] = (begun + 30).into();
        claims["iat"] = begun.into();
        let ahead = listener.issuer.token(&claims);
        assert_eq!(ruled(&listener.get(path, &ahead).await), OVER);
        claims["auth_time"] = json!("now");
        let unread = listener.issuer.token(&claims);
        assert_eq!(
            ruled(&listener.get(path, &unread).await),
            (401, "invalid_token", "claim_form")
        );
        let dora = listener.token("dora", &["operator"]);
        assert_eq!(listener.get(path, &dora).await.0, 200);
    }
}

#[tokio::test]
async fn in_a_stall_what_is_held_keeps_an_operator_out() {
    let listener = Listener::heard().await;
    let mona = listener.token("mona", &["operator"]);
    let dora = listener.token("dora", &["operator"]);
    let hand = &listener.served.hand;
    hand.store.fail([Fault::BeforeWrite; 5000]);
    listener.hears(DISABLED, "mona").await;
    listener.hears(SESSION, "dora").await;
    let path = "/admin/acme/tasks";
    assert_eq!(ruled(&listener.get(path, &mona).await), BLOCKED);
    assert_eq!(ruled(&listener.get(path, &dora).await), OVER);
    listener.wait();
    let (mona, dora) = (
        listener.token("mona", &["operator"]),
        listener.token("dora", &["operator"]),
    );
    assert_eq!(ruled(&listener.get(path, &mona).await), BLOCKED);
    assert_eq!(listener.get(path, &dora).await.0, 200);
}
