//! How a run shows the token of the person on whose behalf it acts, and keeps it from its command.

use std::io::Write as _;

use serde_json::json;

use crate::fake::{Fake, platform_jwt};
use crate::harness::{output, run, script};

fn id_token() -> String {
    platform_jwt(&json!({"iss": "https://idp.example", "sub": "mona"}))
}

fn access_token() -> String {
    let header = dayfly_token::b64::encode(r#"{"alg":"RS256","typ":"at+jwt"}"#);
    let (_, rest) = id_token()
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    format!("{header}.{rest}")
}

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

#[test]
fn the_persons_token_stands_beside_the_proof_as_what_it_is() {
    for (token, kind) in [(id_token(), ID_TOKEN), (access_token(), ACCESS_TOKEN)] {
        let fake = Fake::start();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{token}").unwrap();
        let path = file.path().to_str().unwrap();
        let (code, _, stderr) = output(run(&fake, &["--on-behalf-of", path], &["true"]));
        assert_eq!(code, 0, "{stderr}");
        let form = &fake.grants()[0].form;
        assert_eq!(
            form["grant_type"],
            "urn:ietf:params:oauth:grant-type:token-exchange"
        );
        assert_eq!(form["subject_token"], token);
        assert_eq!(form["subject_token_type"], kind);
        assert_eq!(
            form["actor_token_type"],
            "urn:ietf:params:oauth:token-type:jwt"
        );
        assert!(form["actor_token"].starts_with("eyJ"));
        assert!(!form.contains_key("assertion"));
    }
}

#[test]
fn a_variable_names_the_person_to_the_run_and_not_to_its_command() {
    let seen = "env | grep -c SUBJECT_TOKEN || true";
    for by_file in [false, true] {
        let fake = Fake::start();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{}", id_token()).unwrap();
        let mut command = script(&fake, &[], seen);
        if by_file {
            command.env("DAYFLY_SUBJECT_TOKEN_FILE", file.path());
        } else {
            command.env("DAYFLY_SUBJECT_TOKEN", id_token());
        }
        let (code, stdout, stderr) = output(command);
        assert_eq!((code, stdout.trim()), (0, "0"), "{stderr}");
        assert_eq!(fake.grants()[0].form["subject_token"], id_token());
    }
}

#[test]
fn a_person_that_cannot_be_read_is_never_left_out() {
    let fake = Fake::start();
    let missing = output(run(&fake, &["--on-behalf-of", "/nowhere"], &["true"]));
    assert_eq!(missing.0, 125, "{}", missing.2);
    let mut command = run(&fake, &[], &["true"]);
    command.env("DAYFLY_SUBJECT_TOKEN", "no token");
    let garbled = output(command);
    assert_eq!(garbled.0, 125);
    assert!(garbled.2.contains("not a signed JWT"), "{}", garbled.2);
    assert!(fake.grants().is_empty());
}
