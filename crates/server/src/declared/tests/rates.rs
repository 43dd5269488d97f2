//! Rates as they are declared: none unless written, and each mistake with its place.

use super::{Folder, GOOD, POLICY, check, good_but, good_with};
use crate::config::Rate;

#[test]
fn rates_are_what_is_written() {
    let text = good_with(
        "rate = { requests = 5, per = \"60s\" }\nclient_rate = { requests = 2, per = \"60s\" }",
    );
    let text = text.replace(
        "[issuer.github]\n",
        "[issuer.github]\nrate = { requests = 9, per = \"1m\" }\n",
    );
    let load = |text: &str| {
        Folder::new()
            .load(&[("tenant.toml", text), POLICY])
            .unwrap()
            .0
    };
    let rates = |text: &str| {
        let declared = load(text);
        let workload = &declared.workloads[&"release".parse().unwrap()];
        let issuer = &declared.issuers[&"github".parse().unwrap()];
        (issuer.rate, workload.rate, workload.client_rate)
    };
    assert_eq!(rates(GOOD), (None, None, None));
    let minute = |requests| Some(Rate::per_minute(requests));
    assert_eq!(rates(&text), (minute(9), minute(5), minute(2)));
}

#[test]
fn rates_that_are_none() {
    check(&[
        (
            good_with("rate = 5"),
            "tenant.toml:18:1: `workload.release.rate` is an integer, wanted a table",
        ),
        (
            good_with("rate = { requests = 0, per = \"1m\" }"),
            "tenant.toml:18:10: `workload.release.rate.requests` is 0, wanted 1 to 1000000000",
        ),
        (
            good_with("rate = { requests = 5 }"),
            "tenant.toml:18:1: `per` is missing in `workload.release.rate`",
        ),
        (
            good_but(
                "[issuer.github]\n",
                "[issuer.github]\nrate = { requests = 5, pro = \"1m\" }\n",
            ),
            "tenant.toml:2:1: `per` is missing in `issuer.github.rate`\ntenant.toml:2:24: unknown key `issuer.github.rate.pro`",
        ),
    ]);
}
