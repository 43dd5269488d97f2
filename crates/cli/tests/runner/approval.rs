//! How a run waits for people: what it says, how it asks, and how it takes its request back.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fake::{Call, Fake, Reply, TASK};
use crate::harness::{Running, output, script};

/// A code that must stand nowhere but in requests.
const CODE: &str = "issued-token-code";

fn pending() -> Reply {
    let body = json!({
        "error": "authorization_pending", "deferral_code": CODE, "expires_in": 1800,
        "interval": 1, "task": TASK,
    });
    Reply::Error(400, body)
}

fn said(error: &str) -> Reply {
    Reply::Error(
        400,
        json!({"error": error, "error_description": "as it is"}),
    )
}

fn answers(fake: &Fake, replies: impl IntoIterator<Item = Reply>) {
    fake.state().grants.extend(replies);
}

/// What the poll after a revocation is told.
fn after_revocation(fake: &Fake, replies: impl IntoIterator<Item = Reply>) {
    fake.state().after_revocation = Some(replies.into_iter().collect());
}

fn poll(call: &Call) -> Value {
    json!({"grant_type": call.form["grant_type"], "deferral_code": call.form["deferral_code"]})
}

#[test]
fn a_run_asks_until_people_have_approved() {
    let fake = Fake::start();
    answers(&fake, [pending(), said("authorization_pending")]);
    let (code, out, stderr) = output(script(&fake, &[], "echo done"));
    assert_eq!((code, out.as_str()), (0, "done\n"), "{stderr}");
    let approve =
        format!("gives it with: dayfly task approve {TASK} --tenant acme --reason TEXT\n");
    assert!(stderr.contains(&approve), "{stderr}");
    let grants = fake.grants();
    let [first, polls @ ..] = &grants[..] else {
        panic!("nothing was asked");
    };
    assert_eq!(first.form["completion_mode"], "deferred");
    assert_eq!(polls.len(), 2);
    for call in polls {
        let wanted = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:deferred", "deferral_code": CODE,
        });
        assert_eq!(poll(call), wanted);
        assert_eq!(call.form.len(), 2, "a poll says nothing else");
        assert_eq!(call.jkt, first.jkt);
        assert_ne!(call.proof, first.proof);
    }
    assert_eq!(fake.ends(), ["completed"]);
}

/// The command is whole where the server says where it is operated, and holds nothing that is not such
/// a place.
#[test]
fn a_run_says_where_it_is_approved() {
    let place = |said: &str| {
        let fake = Fake::start();
        let Reply::Error(status, mut body) = pending() else {
            panic!("it waits");
        };
        body["admin_url"] = said.into();
        answers(&fake, [Reply::Error(status, body)]);
        let (code, _, stderr) = output(script(&fake, &[], "true"));
        assert_eq!(code, 0, "{stderr}");
        let (_, rest) = stderr
            .split_once(&format!("dayfly task approve {TASK} --tenant acme "))
            .unwrap_or_else(|| panic!("{stderr}"));
        rest.lines().next().unwrap().to_owned()
    };
    for url in [
        "https://ops.example:8441",
        "https://[::1]:8441",
        "http://127.0.0.1:8441",
    ] {
        assert_eq!(place(url), format!("--server {url} --reason TEXT"));
    }
    for odd in [
        "",
        "ops.example",
        "https://ops.example/",
        "https://ops.example/x",
        "https://ops.example;id",
        "https://$(id).example",
        "https://me@ops.example",
        "file:///etc/passwd",
        "https://ops.example --reason x",
    ] {
        assert_eq!(place(odd), "--reason TEXT", "{odd}");
    }
}

/// A server that has no token of the pod at hand is shown the present one, and asked on.
#[test]
fn a_run_whose_cluster_could_not_be_asked_shows_its_token_again() {
    let fake = Fake::start();
    let unasked = json!({
        "error": "temporarily_unavailable", "refused": { "rule": "token_review_unavailable" },
    });
    answers(&fake, [pending(), Reply::Error(503, unasked), pending()]);
    let (code, out, stderr) = output(script(&fake, &[], "echo done"));
    assert_eq!((code, out.as_str()), (0, "done\n"), "{stderr}");
    let grants = fake.grants();
    let [first, before, again, after] = &grants[..] else {
        panic!("asked {} times", grants.len());
    };
    assert_eq!(poll(before), poll(after));
    assert_eq!(again.form["completion_mode"], "deferred");
    // By the present one: the first may have expired meanwhile.
    assert_ne!(again.form["assertion"], first.form["assertion"]);
    assert_eq!(again.jkt, first.jkt);
    assert_eq!(fake.ends(), ["completed"]);
}

/// Two people have approved it: a showing that is refused, or that cannot be read, throws nothing away.
#[test]
fn a_run_whose_token_is_not_taken_again_goes_on_waiting() {
    for error in ["invalid_grant", "access_denied", "invalid_request"] {
        let fake = Fake::start();
        let unasked = || {
            let body = json!({
                "error": "temporarily_unavailable", "refused": { "rule": "token_review_unavailable" },
            });
            Reply::Error(503, body)
        };
        let refused = || said(error);
        answers(
            &fake,
            [pending(), unasked(), refused(), unasked(), refused()],
        );
        let (code, out, stderr) = output(script(&fake, &[], "echo done"));
        assert_eq!((code, out.as_str()), (0, "done\n"), "{stderr}");
        assert_eq!(fake.grants().len(), 6);
        assert!(fake.calls("/acme/revoke").is_empty(), "{stderr}");
        let told = stderr.matches("could not show its proof again").count();
        assert_eq!(told, 1, "{stderr}");
        assert_eq!(fake.ends(), ["completed"]);
    }
}

#[test]
fn a_denied_run_is_refused_and_starts_nothing() {
    for error in ["access_denied", "expired_token", "invalid_grant"] {
        let fake = Fake::start();
        answers(&fake, [pending(), said(error)]);
        after_revocation(&fake, [said("access_denied")]);
        let (code, out, stderr) = output(script(&fake, &[], "echo done"));
        assert_eq!((code, out.as_str()), (126, ""), "{stderr}");
        assert!(stderr.contains(error), "{stderr}");
    }
}

#[test]
fn a_run_that_stops_waiting_takes_its_request_back() {
    let fake = Fake::start();
    answers(&fake, [pending(), said("authorization_pending")]);
    after_revocation(&fake, [said("access_denied")]);
    let options = ["--wait-approval", "1s"];
    let (code, out, stderr) = output(script(&fake, &options, "echo done"));
    assert_eq!((code, out.as_str()), (126, ""), "{stderr}");
    assert!(stderr.contains("nobody has approved"), "{stderr}");
    taken_back(&fake);
}

fn taken_back(fake: &Fake) {
    let revoked = fake.calls("/acme/revoke");
    let [revoked] = &revoked[..] else {
        panic!("revoked {} times", revoked.len());
    };
    assert_eq!(revoked.form["token"], CODE);
    let hint = "urn:ietf:params:oauth:token-type:deferral-code";
    assert_eq!(revoked.form["token_type_hint"], hint);
    assert_eq!(revoked.jkt, fake.grants()[0].jkt);
}

#[test]
fn a_signal_takes_the_request_back() {
    let fake = Fake::start();
    answers(&fake, [pending()]);
    answers(&fake, (0..600).map(|_| said("authorization_pending")));
    after_revocation(&fake, [said("access_denied")]);
    let running = Running::start(script(&fake, &[], "echo done"));
    running.wait_for("waits for an approval");
    running.signal(Signal::SIGTERM);
    let (code, out, stderr) = running.end();
    assert_eq!((code, out.as_str()), (143, ""), "{stderr}");
    assert!(stderr.contains(&format!("{TASK} is cancelled")), "{stderr}");
    taken_back(&fake);
}

/// The signal came while the poll that fetches was under way: the task is open, and ends.
#[test]
fn a_signal_during_the_redeeming_poll_leaves_no_open_task() {
    let fake = Fake::start();
    answers(&fake, [pending()]);
    answers(&fake, (0..600).map(|_| said("authorization_pending")));
    after_revocation(&fake, [said("invalid_grant")]);
    let running = Running::start(script(&fake, &[], "echo done"));
    running.wait_for("waits for an approval");
    running.signal(Signal::SIGTERM);
    let (code, out, stderr) = running.end();
    assert_eq!((code, out.as_str()), (143, ""), "{stderr}");
    taken_back(&fake);
    let grants = fake.grants();
    let renewal = grants.last().unwrap();
    assert_eq!(renewal.form["grant_type"], "client_credentials");
    assert_eq!(renewal.jkt, grants[0].jkt);
    assert_eq!(fake.ends(), ["cancelled"]);
    assert!(!stderr.contains("is cancelled"), "{stderr}");
}

#[test]
fn a_request_that_is_refused_while_it_goes_on_waiting_is_taken_back() {
    for error in ["access_denied", "invalid_request"] {
        let fake = Fake::start();
        answers(&fake, [pending(), said(error)]);
        after_revocation(&fake, [said("access_denied")]);
        let (code, out, stderr) = output(script(&fake, &[], "echo done"));
        assert_eq!((code, out.as_str()), (126, ""), "{stderr}");
        taken_back(&fake);
        assert!(stderr.contains(&format!("{TASK} is cancelled")), "{stderr}");
    }
}

/// The cancellation was taken and yet it goes on waiting: nobody is told that it is over.
#[test]
fn what_still_waits_after_a_cancellation_is_said_to_be_left() {
    let fake = Fake::start();
    answers(&fake, [pending(), said("invalid_request")]);
    after_revocation(&fake, [said("slow_down")]);
    let (code, _, stderr) = output(script(&fake, &[], "echo done"));
    assert_eq!(code, 126, "{stderr}");
    assert!(stderr.contains("is left to expire"), "{stderr}");
}

#[test]
fn a_grant_that_was_not_heard_is_renewed_by_the_key_that_waited() {
    let fake = Fake::start();
    answers(&fake, [pending(), Reply::Lost, said("invalid_grant")]);
    let (code, out, stderr) = output(script(&fake, &[], "echo done"));
    assert_eq!((code, out.as_str()), (0, "done\n"), "{stderr}");
    let grants = fake.grants();
    assert_eq!(grants[3].form["grant_type"], "client_credentials");
    assert_eq!(grants[3].jkt, grants[0].jkt);
}

#[test]
fn a_run_without_a_key_does_not_ask_to_wait() {
    let fake = Fake::start();
    let options = ["--env", "TOKEN=artifacts"];
    let (code, _, stderr) = output(script(&fake, &options, "true"));
    assert_eq!(code, 0, "{stderr}");
    assert!(!fake.grants()[0].form.contains_key("completion_mode"));
}
