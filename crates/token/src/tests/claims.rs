//! Claims, times and types.

use serde_json::{Value, json};

use crate::claims::{Claims, text_of};
use crate::fault::Explained;
use crate::times::{LAST_SECOND, TimeReason, Times, TimesError, Tolerance};
use crate::typ::TypRule;

const NOW: u64 = 1_800_000_000;

fn claims(value: Value) -> Claims {
    Claims::parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn there_is_exactly_one_audience() {
    let sole = |aud: Value| {
        claims(json!({ "aud": aud }))
            .sole_audience()
            .map(str::to_owned)
            .ok()
    };
    assert_eq!(sole(json!("https://a")), Some("https://a".to_owned()));
    assert_eq!(sole(json!(["https://a"])), Some("https://a".to_owned()));
    for bad in [
        json!(["https://a", "https://b"]),
        json!(["https://a", "https://a"]),
        json!([]),
        json!(""),
        json!([""]),
        json!(null),
        json!(1),
        json!([1]),
        json!([["https://a"]]),
        json!({"a": 1}),
    ] {
        assert_eq!(sole(bad.clone()), None, "{bad}");
    }
    let error = claims(json!({"aud": ["a", "b"]}))
        .sole_audience_of(&["a"])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"claim `aud` must be exactly one audience, got `["a","b"]`"#
    );
    let error = claims(json!({"aud": "a/"}))
        .sole_audience_of(&["a", "b"])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "claim `aud` must be `a` or `b`, got `a/`"
    );
    assert_eq!(
        claims(json!({}))
            .sole_audience()
            .unwrap_err()
            .got
            .to_string(),
        "nothing"
    );
}

#[test]
fn texts_are_typed_and_bounded() {
    let read = claims(json!({"a": "x", "n": 1, "z": null, "e": "", "l": "xxx"}));
    assert_eq!(read.text("a"), Ok("x"));
    assert_eq!(read.optional_text("missing"), Ok(None));
    for claim in ["n", "z"] {
        assert!(read.text(claim).is_err() && read.optional_text(claim).is_err());
    }
    assert!(read.text("missing").is_err());
    assert!(read.bounded_text("e", 3).is_err() && read.bounded_text("l", 2).is_err());
    assert_eq!(read.bounded_text("l", 3), Ok("xxx"));
    assert!(read.expect_text("a", "x").is_ok() && read.expect_text("a", "X").is_err());
}

#[test]
fn values_flatten_to_text_for_comparison() {
    let text = |value: Value| text_of(&value).map(|text| text.into_owned());
    assert_eq!(text(json!("1")), Some("1".to_owned()));
    assert_eq!(text(json!(1)), Some("1".to_owned()));
    assert_eq!(text(json!(-7)), Some("-7".to_owned()));
    assert_eq!(text(json!(1.5)), Some("1.5".to_owned()));
    assert_eq!(
        text(json!(u64::MAX)),
        Some("18446744073709551615".to_owned())
    );
    assert_eq!(text(json!(true)), Some("true".to_owned()));
    for none in [json!(null), json!([1]), json!({"a": 1})] {
        assert_eq!(text(none), None);
    }
    // Two numbers that both round to 2^64 must not compare equal.
    let big = Claims::parse(br#"{"a":18446744073709551617,"b":18446744073709551616}"#).unwrap();
    assert_eq!((big.text_at("a"), big.text_at("b")), (None, None));
}

#[test]
fn nested_claims_are_found_by_pointer() {
    let read = claims(json!({
        "kubernetes.io": {"pod": {"name": "p", "uid": "u"}},
        "oidc.example/org-id": "o",
        "https://sts": {"a~b": [{"c": 1}]},
    }));
    assert_eq!(read.text_at("/kubernetes.io/pod/uid").as_deref(), Some("u"));
    assert_eq!(read.text_at("oidc.example/org-id").as_deref(), Some("o"));
    assert_eq!(read.text_at("/oidc.example~1org-id").as_deref(), Some("o"));
    assert_eq!(
        read.text_at("/https:~1~1sts/a~0b/0/c").as_deref(),
        Some("1")
    );
    for missing in [
        "/kubernetes.io/pod",
        "/kubernetes.io/nope",
        "/",
        "",
        "kubernetes.io/pod/uid",
    ] {
        assert_eq!(read.text_at(missing), None, "{missing}");
    }
}

#[test]
fn times_are_judged_with_tolerance() {
    let tolerance = Tolerance {
        skew_seconds: 60,
        max_age_seconds: Some(3600),
    };
    let check =
        |iat: u64, nbf: u64, exp: u64| match claims(json!({"iat": iat, "nbf": nbf, "exp": exp}))
            .check_times(NOW, tolerance)
        {
            Ok(_) => None,
            Err(TimesError::Time(error)) => Some((error.claim, error.reason)),
            Err(TimesError::Claim(error)) => panic!("{error}"),
        };
    assert_eq!(check(NOW, NOW, NOW + 1), None);
    assert_eq!(check(NOW, NOW, NOW - 59), None);
    assert_eq!(
        check(NOW, NOW, NOW - 60),
        Some(("exp", TimeReason::Expired))
    );
    assert_eq!(check(NOW, NOW + 60, NOW + 99), None);
    assert_eq!(
        check(NOW, NOW + 61, NOW + 99),
        Some(("nbf", TimeReason::NotYet))
    );
    assert_eq!(check(NOW + 60, NOW, NOW + 99), None);
    assert_eq!(
        check(NOW + 61, NOW, NOW + 99),
        Some(("iat", TimeReason::Future))
    );
    assert_eq!(check(NOW - 3660, NOW, NOW + 99), None);
    assert_eq!(
        check(NOW - 3661, NOW, NOW + 99),
        Some(("iat", TimeReason::TooOld))
    );
    // Nothing overflows at the edges of either clock.
    let edge = claims(json!({"exp": LAST_SECOND, "iat": 0, "nbf": 0}));
    assert!(edge.check_times(u64::MAX, Tolerance::default()).is_err());
    assert!(
        edge.check_times(
            0,
            Tolerance {
                skew_seconds: u64::MAX,
                max_age_seconds: Some(u64::MAX)
            }
        )
        .is_ok()
    );
}

#[test]
fn an_error_for_time_shows_both_clocks() {
    let error = claims(json!({"exp": 100}))
        .check_times(200, Tolerance::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "expired: `exp` is 100, our clock says 200, tolerance is 60 s"
    );
    let fault = error.fault();
    assert_eq!((fault.rule, fault.field.as_ref()), ("time.expired", "exp"));
    assert_eq!(fault.wanted, "later than our clock 200, within 60 s");
    assert_eq!(fault.got.text(), Some("100"));
}

#[test]
fn required_times_are_required() {
    let none = Tolerance {
        skew_seconds: 0,
        max_age_seconds: None,
    };
    assert!(claims(json!({"iat": NOW})).check_times(NOW, none).is_err());
    assert!(
        claims(json!({"exp": NOW + 1}))
            .check_times(NOW, none)
            .is_ok()
    );
    let aged = Tolerance {
        max_age_seconds: Some(1),
        ..none
    };
    assert!(
        claims(json!({"exp": NOW + 1}))
            .check_times(NOW, aged)
            .is_err()
    );
}

#[test]
fn fractions_round_to_the_safe_side() {
    let none = Tolerance {
        skew_seconds: 0,
        max_age_seconds: None,
    };
    let read = claims(json!({"exp": 100.9, "iat": 99.5}));
    assert!(read.check_times(100, none).is_err());
    assert!(read.check_times(99, none).is_err());
    assert!(
        claims(json!({"exp": 200, "nbf": 99.5}))
            .check_times(99, none)
            .is_err()
    );
    let times = claims(json!({"exp": 200.5, "iat": 99.0, "nbf": 98.25}))
        .check_times(99, none)
        .unwrap();
    assert_eq!(
        times,
        Times {
            iat: Some(99),
            nbf: Some(98),
            exp: 200
        }
    );
}

#[test]
fn times_that_are_no_dates_are_refused() {
    for bad in [
        "-1",
        "-0.5",
        "1e300",
        "253402300800",
        "253402300800.5",
        "18446744073709551615",
        "\"100\"",
        "null",
        "true",
        "[100]",
        "9007199254740993000",
    ] {
        for claim in ["exp", "iat", "nbf"] {
            let text = format!(r#"{{"{claim}":{bad},"x":0}}"#);
            let read = Claims::parse(text.as_bytes()).unwrap();
            assert!(
                matches!(
                    read.check_times(100, Tolerance::default()),
                    Err(TimesError::Claim(_))
                ),
                "{claim} {bad}"
            );
        }
    }
    assert_eq!(
        claims(json!({ "a": LAST_SECOND })).time("a"),
        Ok(Some(LAST_SECOND))
    );
}

#[test]
fn one_kind_of_jwt_is_never_taken_for_another() {
    use TypRule::{AccessToken, ClientAssertion, DpopProof, Exactly, PlatformToken};
    let handover = Exactly("dayfly-handover+jwt");
    let all = [
        ClientAssertion,
        PlatformToken,
        AccessToken,
        DpopProof,
        handover,
    ];
    let table: &[(Option<&str>, &[TypRule])] = &[
        (None, &[ClientAssertion, PlatformToken]),
        (Some("JWT"), &[ClientAssertion, PlatformToken]),
        (Some("application/jwt"), &[ClientAssertion, PlatformToken]),
        (Some("JOSE"), &[PlatformToken]),
        (Some("client-authentication+jwt"), &[ClientAssertion]),
        (
            Some("application/Client-Authentication+JWT"),
            &[ClientAssertion],
        ),
        (Some("at+jwt"), &[AccessToken]),
        (Some("AT+JWT"), &[AccessToken]),
        (Some("application/at+jwt"), &[AccessToken]),
        (Some("dpop+jwt"), &[DpopProof]),
        (Some("dayfly-handover+jwt"), &[handover]),
        (Some(""), &[]),
        (Some("application/"), &[]),
        (Some("application/x/at+jwt"), &[]),
        (Some("text/at+jwt"), &[]),
        (Some(" at+jwt"), &[]),
        (Some("at+jwt;a=b"), &[]),
        (Some("JOSE+JSON"), &[]),
        (Some("secevent+jwt"), &[]),
        (Some("txntoken+jwt"), &[]),
        (Some("logout+jwt"), &[]),
        (Some("wit+jwt"), &[]),
        (Some("wpt+jwt"), &[]),
        (Some("statuslist+jwt"), &[]),
        (Some("oauth-id-jag+jwt"), &[]),
        (Some("token-introspection+jwt"), &[]),
        (Some("oauth-authz-req+jwt"), &[]),
        (Some("entity-statement+jwt"), &[]),
    ];
    for (typ, accepted) in table {
        for rule in all {
            assert_eq!(
                rule.check(*typ).is_ok(),
                accepted.contains(&rule),
                "{typ:?} {rule:?}"
            );
        }
    }
}
