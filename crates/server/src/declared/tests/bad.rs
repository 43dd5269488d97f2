//! Mistakes of every kind, above all in workloads, with the place and the message that they are reported with.

use super::{Folder, GOOD, POLICY, check, good_but, good_with};

#[test]
fn keys_that_are_unknown_or_missing() {
    check(&[
        (GOOD.into(), "loads"),
        (
            good_with("windw = \"1h\""),
            "tenant.toml:18:1: unknown key `workload.release.windw`: did you mean `window`?",
        ),
        (
            good_with("zzzzzzzzzz = 1"),
            "tenant.toml:18:1: unknown key `workload.release.zzzzzzzzzz`",
        ),
        (
            good_but("[owner.team", "[ownr.team"),
            "tenant.toml:9:2: unknown key `ownr`: did you mean `owner`?\ntenant.toml:18:1: `workload.release.owner` names the owner `team-platform`, which is not declared",
        ),
        (
            good_but("[issuer.github]\n", "[issuer.github]\nurll = \"x\"\n"),
            "tenant.toml:2:1: unknown key `issuer.github.urll`: did you mean `url`?",
        ),
        (
            good_but("purpose = \"publish release artifacts\"\n", ""),
            "tenant.toml:17:11: `purpose` is missing in `workload.release`",
        ),
        (
            good_but(
                "[owner.team-platform]\nname = \"Platform team\"\ncontact = \"platform@example.com\"",
                "[owner.team-platform]",
            ),
            "tenant.toml:9:8: `contact` is missing in `owner.team-platform`\ntenant.toml:9:8: `name` is missing in `owner.team-platform`",
        ),
        (
            good_but("[workload.release]", "[workload.Release]"),
            "tenant.toml:17:11: `Release` cannot be a name: a name begins with a lower-case letter or a digit",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind() {
    check(&[
        (
            good_but("purpose = \"publish release artifacts\"", "purpose = \"\""),
            "tenant.toml:20:1: `workload.release.purpose` is empty",
        ),
        (
            good_but("purpose = \"publish release artifacts\"", "purpose = 7"),
            "tenant.toml:20:1: `workload.release.purpose` is an integer, wanted a text",
        ),
        (
            good_but(
                "purpose = \"publish release artifacts\"",
                "purpose = \"a\\nb\"",
            ),
            "tenant.toml:20:1: `workload.release.purpose` holds a control character",
        ),
        (
            good_with("reopen = \"yes\""),
            "tenant.toml:18:1: `workload.release.reopen` is a text, wanted true or false",
        ),
        (
            good_with("heartbeat = true"),
            "tenant.toml:18:1: `workload.release.heartbeat` is true or false, wanted a table",
        ),
        (
            good_with("limits = { open = \"3\" }"),
            "tenant.toml:18:12: `workload.release.limits.open` is a text, wanted an integer",
        ),
        (
            good_with("limits = { open = 0 }"),
            "tenant.toml:18:12: `workload.release.limits.open` is 0, wanted 1 to 1000000000",
        ),
        (
            good_with("repeat = \"joins\""),
            "tenant.toml:18:1: `workload.release.repeat` is `joins`, wanted `refuse` or `join`: did you mean `join`?",
        ),
        (
            good_but("kind = \"ci\"", "kind = \"agnet\""),
            "tenant.toml:19:1: `workload.release.kind` is `agnet`, wanted `ci`, `agent`, `batch`, `service` or `operator`: did you mean `agent`?",
        ),
        (
            format!("dpop_nonce = \"always\"\n{GOOD}"),
            "tenant.toml:1:1: `dpop_nonce` is `always`, wanted `optional` or `required`",
        ),
    ]);
}

#[test]
fn mistakes_of_syntax_stand_alone() {
    check(&[
        (
            good_with("window = "),
            "tenant.toml:18:10: string values must be quoted, expected literal string",
        ),
        (
            good_with("window = \"1h\"\nwindow = \"2h\"\nrepeat = \"x\""),
            "tenant.toml:19:1: duplicate key",
        ),
        (
            good_but("[issuer.gitlab]", "[issuer.github]"),
            "tenant.toml:2:9: duplicate key",
        ),
    ]);
}

#[test]
fn tables_have_places_in_every_way_of_writing_them() {
    let headers = good_but(
        "access = [\n  { resource = \"artifacts\", type = \"artifact\", actions = [\"read\"], identifier = \"octo/*\" },\n]",
        "token.tll = \"5m\"\n[[workload.release.access]]\nresource = \"artifacts\"\ntype = \"artifact\"\n\
         [[workload.release.access]]\nresource = \"artifacts\"\n\
         [workload.release.heartbeat]\nevery = \"5m\"\ngrase = \"10m\"",
    );
    check(&[(
        headers,
        "tenant.toml:22:7: unknown key `workload.release.token.tll`: did you mean `ttl`?\n\
         tenant.toml:26:1: `type` is missing in `workload.release.access[1]`\n\
         tenant.toml:28:19: `workload.release.heartbeat.grace` is 5m, wanted at least 10m, twice `every`\n\
         tenant.toml:30:1: unknown key `workload.release.heartbeat.grase`: did you mean `grace`?",
    )]);
}

#[test]
fn references_name_the_nearest() {
    check(&[
        (
            good_but("owner = \"team-platform\"", "owner = \"team-platfrom\""),
            "tenant.toml:18:1: `workload.release.owner` names the owner `team-platfrom`, which is not declared: did you mean `team-platform`?",
        ),
        (
            good_but("issuer = \"github\"", "issuer = \"githb\""),
            "tenant.toml:21:11: `workload.release.match.issuer` names the issuer `githb`, which is not declared: did you mean `github`?",
        ),
        (
            good_but("resource = \"artifacts\"", "resource = \"artefacts\""),
            "tenant.toml:23:5: `workload.release.access[0].resource` names the resource `artefacts`, which is not declared: did you mean `artifacts`?",
        ),
        (
            good_but("actions = [\"read\"]", "regoin = [\"eu\"]"),
            "tenant.toml:23:48: the type `artifact` has no field `regoin`, declare it in `[type.artifact]`: did you mean `region`?",
        ),
        (
            good_but(
                "actions = [\"read\"]",
                "locations = [\"https://a.example\"]",
            ),
            "tenant.toml:23:48: `locations` follows from `resource` and is not to be written",
        ),
    ]);
}

#[test]
fn nothing_is_declared_twice_over_files() {
    let folder = Folder::new();
    let second = "dpop_nonce = \"optional\"\n\n[workload.release]\n[owner.ops]\nname = \"Ops\"\ncontact = \"ops\"\n";
    let first = format!("dpop_nonce = \"required\"\n{GOOD}");
    let errors = folder
        .load(&[("tenant.toml", &first), ("zwei.toml", second), POLICY])
        .unwrap_err();
    assert_eq!(
        folder.lines(&errors),
        "zwei.toml:1:1: `dpop_nonce` is declared twice, first at tenant.toml:1:1\n\
         zwei.toml:3:11: `workload.release` is declared twice, first at tenant.toml:18:11"
    );
}

#[test]
fn lengths_of_time() {
    check(&[
        (
            good_with("window = \"1 hour\""),
            "tenant.toml:18:1: `workload.release.window` is `1 hour`, wanted a length of time like `90s`, `5m` or `1h`",
        ),
        (
            good_with("window = 3600"),
            "tenant.toml:18:1: `workload.release.window` is an integer, wanted a text",
        ),
        (
            good_with("window = \"25h\""),
            "tenant.toml:18:1: `workload.release.window` is 25h, wanted 1s to 24h",
        ),
        (
            good_with("window = \"0s\""),
            "tenant.toml:18:1: `workload.release.window` is 0s, wanted 1s to 24h",
        ),
        (
            good_with("window = \"99999999999999999999h\""),
            "tenant.toml:18:1: `workload.release.window` is `99999999999999999999h`, wanted a length of time like `90s`, `5m` or `1h`",
        ),
        (
            good_with("linger = \"2h\""),
            "tenant.toml:18:1: `workload.release.linger` is 2h, wanted 0s to 1h",
        ),
        (
            good_with("heartbeat = { every = \"30s\", grace = \"59s\" }"),
            "tenant.toml:18:1: `workload.release.heartbeat.grace` is 59s, wanted at least 1m, twice `every`",
        ),
        (
            good_with("heartbeat = { every = \"3m\" }"),
            "tenant.toml:18:1: `workload.release.heartbeat.grace` is 5m, wanted at least 6m, twice `every`",
        ),
        (
            good_with("heartbeat = { mode = \"always\" }"),
            "tenant.toml:18:15: `workload.release.heartbeat.mode` is `always`, wanted `off`, `auto` or `required`",
        ),
        (
            good_with("window = \"10m\"\ntoken = { ttl = \"11m\" }"),
            "tenant.toml:19:11: `workload.release.token.ttl` is 11m, longer than the window of 10m",
        ),
        (
            good_but("[issuer.github]\n", "[issuer.github]\nkeep = \"1h\"\n"),
            "tenant.toml:2:1: `issuer.github.keep` is 1h, wanted 25h to 9600h",
        ),
    ]);
}

#[test]
fn matches_and_tasks() {
    let matching =
        |text: &str| good_but("{ issuer = \"github\", repository_id = \"1296269\" }", text);
    check(&[
        (
            matching("{ repository_id = \"1\" }"),
            "tenant.toml:21:1: `issuer` is missing in `workload.release.match`",
        ),
        (
            matching("{ issuer = \"github\" }"),
            "tenant.toml:21:1: `workload.release.match` names no claim: every token of `github` would match",
        ),
        (
            matching("{ issuer = \"github\", ref = \"refs/heads/main\" }"),
            "tenant.toml:21:1: `workload.release.match` does not say whose: anybody's github token could match, pin `repository_id`",
        ),
        (
            matching("{ issuer = \"github\", repository = \"octo*/x\" }"),
            "tenant.toml:21:1: `workload.release.match` does not say whose: anybody's github token could match, pin `repository_id`",
        ),
        (
            matching("{ issuer = \"gitlab\", ref = \"main\" }"),
            "tenant.toml:21:1: `workload.release.match` does not say whose: anybody's gitlab token could match, pin `project_id`",
        ),
        (
            matching("{ issuer = \"github\", repository_id = 1.5 }"),
            "tenant.toml:21:30: `workload.release.match.repository_id` is a number with a fraction, wanted a text, an integer, true or false, or a list of them",
        ),
        (
            matching("{ issuer = \"github\", repository_id = [] }"),
            "tenant.toml:21:30: `workload.release.match.repository_id` is an empty list",
        ),
        (
            matching("{ issuer = \"github\", repository_id = \"1\", ref = \"refs/*x\" }"),
            "tenant.toml:21:51: `workload.release.match.ref`: `*` stands only at the end of a segment: `*x`",
        ),
        (
            good_with("unfinished = \"repository_id\""),
            "tenant.toml:18:1: `match` names `repository_id` now, remove `unfinished`",
        ),
        (
            good_with("task = \"jobs\""),
            "tenant.toml:18:1: `workload.release.task` is `jobs`, wanted `job` or `run` for a github issuer: did you mean `job`?",
        ),
        (
            good_with("task = \"pipeline\""),
            "tenant.toml:18:1: `workload.release.task` is `pipeline`, wanted `job` or `run` for a github issuer",
        ),
        (
            good_with("task = { key = [\"run_id\"] }"),
            "tenant.toml:18:1: `workload.release.task` is a table, wanted `job` or `run` for a github issuer",
        ),
        (
            matching("{ issuer = \"cluster\", serviceaccount_uid = \"u\" }\ntask = \"job\""),
            "tenant.toml:22:1: `workload.release.task` is `job`, wanted `pod` for a kubernetes issuer",
        ),
        (
            matching("{ issuer = \"idp\", sub = \"u\" }"),
            "tenant.toml:17:11: `task` is missing: an oidc issuer needs `task = { key = [\"…\"], attempt = \"…\" }`",
        ),
        (
            matching("{ issuer = \"idp\", sub = \"u\" }\ntask = \"job\""),
            "tenant.toml:22:1: `workload.release.task` is a text, wanted a table",
        ),
        (
            matching("{ issuer = \"idp\", sub = \"u\" }\ntask = { attempt = \"n\" }"),
            "tenant.toml:22:1: `key` is missing in `workload.release.task`",
        ),
        (
            matching(
                "{ issuer = \"idp\", sub = \"u\" }\ntask = { key = [\"run\", \"run\"], attempt = \"run\" }",
            ),
            "tenant.toml:22:24: `run` stands twice in the key\ntenant.toml:22:32: `run` counts attempts and cannot be part of the key",
        ),
    ]);
}

#[test]
fn ceilings() {
    let field = |text: &str| good_but("identifier = \"octo/*\"", text);
    let by_name =
        |text: &str| field(text).replace("repository_id = \"1296269\"", "repository = \"octo/x\"");
    check(&[
        (
            good_but("access = [", "acces = ["),
            "tenant.toml:17:11: `access` is missing in `workload.release`\ntenant.toml:22:1: unknown key `workload.release.acces`: did you mean `access`?",
        ),
        (
            field("identifier = \"octo/../x\""),
            "tenant.toml:23:68: `workload.release.access[0].identifier` is `octo/../x`: the path segment `..` is refused",
        ),
        (
            field("identifier = \"octo*x\""),
            "tenant.toml:23:68: `workload.release.access[0].identifier` is `octo*x`: `*` stands only at the end of a segment: `octo*x`",
        ),
        (
            field("identifier = \"octo/{repository\""),
            "tenant.toml:23:68: `workload.release.access[0].identifier` is `octo/{repository`: unfinished `{claim}` in `octo/{repository`",
        ),
        (
            field("identifier = [\"a\", \"b%2f\"]"),
            "tenant.toml:23:87: `workload.release.access[0].identifier[1]` is `b%2f`: the character '%' is refused",
        ),
        (field("identifier = \"{repository}/*\""), "loads"),
        (
            by_name("identifier = \"{repository}/*\""),
            "tenant.toml:23:68: `{repository}` is filled from the proof, so `match` must pin `repository_id`, `repository_owner_id` or `enterprise_id` to exact values",
        ),
        (
            by_name("identifier = \"{repository}/*\"").replace(
                "repository = \"octo/x\"",
                "repository = \"octo/x\", repository_id = [\"1\", \"2*\"]",
            ),
            "tenant.toml:23:68: `{repository}` is filled from the proof, so `match` must pin `repository_id`, `repository_owner_id` or `enterprise_id` to exact values",
        ),
        (
            field("region = [\"eu*\"]"),
            "tenant.toml:23:78: `workload.release.access[0].region[0]` is `eu*`: `*` and `{claim}` stand only in a path",
        ),
        (
            field("tier = \"{repository}\""),
            "tenant.toml:23:68: `workload.release.access[0].tier` is `{repository}`: `*` and `{claim}` stand only in a path",
        ),
        (
            field("tier = 1.5"),
            "tenant.toml:23:68: `workload.release.access[0].tier` is a number with a fraction, wanted a text, an integer, or true or false",
        ),
        (
            field("size = \"1\""),
            "tenant.toml:23:68: `workload.release.access[0].size` is a text, wanted an integer",
        ),
        (
            field("datatypes = []"),
            "tenant.toml:23:68: `workload.release.access[0].datatypes` is an empty list",
        ),
        (
            field("scope = \"a b\""),
            "tenant.toml:23:68: `workload.release.access[0].scope` is `a b`: a scope holds only visible ascii without space, `\"` and `\\`",
        ),
        (
            field(
                "region = [\"eu\"], tier = [1, true, \"x\"], size = 5, age = -1, folder = [\"a/{ref}\"], scope = \"x:y\"",
            ),
            "loads",
        ),
    ]);
}

#[test]
fn what_may_be_handed_over() {
    let with = |delegation: &str| good_with(&format!("delegation = {delegation}"));
    check(&[
        (
            with(r#"{ depth = 2, clients = 16, to = ["self"] }"#),
            "loads",
        ),
        (
            with(r#"{ depth = 4, clients = 255, to = ["self"], actor = "required" }"#),
            "loads",
        ),
        (
            with(r#"{ depth = 0, clients = 16, to = ["self"] }"#),
            "tenant.toml:18:16: `workload.release.delegation.depth` is 0, wanted 1 to 4",
        ),
        (
            with(r#"{ depth = 5, clients = 16, to = ["self"] }"#),
            "tenant.toml:18:16: `workload.release.delegation.depth` is 5, wanted 1 to 4",
        ),
        (
            with(r#"{ depth = 1, clients = 256, to = ["self"] }"#),
            "tenant.toml:18:27: `workload.release.delegation.clients` is 256, wanted 1 to 255",
        ),
        (
            with(r#"{ depth = 1, clients = 1, to = [] }"#),
            "tenant.toml:18:40: `workload.release.delegation.to` is an empty list",
        ),
        (
            with(r#"{ depth = 1, clients = 1, to = ["self", "release"] }"#),
            "tenant.toml:18:54: `workload.release.delegation.to` names `release` twice",
        ),
        (
            with(r#"{ depth = 1, clients = 1, to = ["releas"] }"#),
            "tenant.toml:18:46: `workload.release.delegation.to[0]` names the workload `releas`, which is not declared: did you mean `release`?",
        ),
        (
            with(r#"{ depth = 1, clients = 1, to = ["self"], actor = "never" }"#),
            "tenant.toml:18:55: `workload.release.delegation.actor` is `never`, wanted `optional` or `required`",
        ),
        (
            with(r#"{ clients = 1, to = ["self"] }"#),
            "tenant.toml:18:1: `depth` is missing in `workload.release.delegation`",
        ),
        (
            with(r#"{ depth = 1, clients = 1, to = ["self"], actors = 1 }"#),
            "tenant.toml:18:55: unknown key `workload.release.delegation.actors`: did you mean `actor`?",
        ),
    ]);
}

#[test]
fn approvals() {
    check(&[
        (
            good_with("approval = { by = \"owner\", within = \"30m\" }\nrepeat = \"join\""),
            "tenant.toml:18:1: `workload.release.approval` and `repeat = \"join\"` exclude each other: who joins comes in without anybody being asked",
        ),
        (
            good_with("approval = { by = \"owner\" }"),
            "tenant.toml:18:1: `within` is missing in `workload.release.approval`",
        ),
        (
            good_with("approval = { by = \"anybody\", within = \"30m\" }"),
            "tenant.toml:18:14: `workload.release.approval.by` is `anybody`, wanted `owner`",
        ),
        (
            good_with("approval = { by = \"owner\", within = \"30s\" }"),
            "tenant.toml:18:28: `workload.release.approval.within` is 30s, wanted 1m to 24h",
        ),
        (
            good_with("approval = { by = \"owner\", within = \"30m\", people = 3 }"),
            "tenant.toml:18:44: `workload.release.approval.people` is 3, wanted 1 to 2",
        ),
        (
            good_with("approval = { by = \"owner\", within = \"30m\", people = 2 }"),
            "loads",
        ),
        (
            good_with("approval = \"owner\""),
            "tenant.toml:18:1: `workload.release.approval` is `owner`, wanted `none`",
        ),
        (good_with("approval = \"none\""), "loads"),
        (
            good_but("kind = \"ci\"", "kind = \"operator\""),
            "tenant.toml:17:11: workloads of kind `operator` are proven by people: the issuer `github` does not say `people = true`",
        ),
    ]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = good_with("windw = 1\nrepeat = 2")
        .replace("signing", "x")
        .replace("https://artifacts", "http://artifacts");
    let folder = Folder::new();
    assert_eq!(
        folder.errors(&text).lines().count(),
        3,
        "{}",
        folder.errors(&text)
    );
}

#[test]
fn for_whom_a_workload_acts() {
    let people = "[issuer.staff]\nkind = \"oidc\"\nurl = \"https://idp.example\"\naudience = \"a\"\npeople = true\n";
    let with = |subject: &str| format!("{}\n{people}", good_with(&format!("subject = {subject}")));
    let whole = r#"{ from = ["staff"], person = "required", session = "8h" }"#;
    check(&[
        (with("\"none\""), "loads"),
        (with(r#"{ from = "staff" }"#), "loads"),
        (with(whole), "loads"),
        (
            with("\"optional\""),
            "tenant.toml:18:1: `workload.release.subject` is `optional`, wanted `none`",
        ),
        (
            with("{}"),
            "tenant.toml:18:1: `from` is missing in `workload.release.subject`",
        ),
        (
            with("{ from = [] }"),
            "tenant.toml:18:13: `workload.release.subject.from` is an empty list",
        ),
        (
            with(r#"{ from = ["stuff"] }"#),
            "tenant.toml:18:21: `workload.release.subject.from[0]` names the issuer `stuff`, which is not declared: did you mean `staff`?",
        ),
        (
            with(r#"{ from = ["github"] }"#),
            "tenant.toml:18:21: the issuer `github` does not say `people = true`",
        ),
        (
            with(r#"{ from = ["staff"], person = "always" }"#),
            "tenant.toml:18:31: `workload.release.subject.person` is `always`, wanted `optional` or `required`",
        ),
        (
            with(r#"{ from = ["staff"], session = "25h" }"#),
            "tenant.toml:18:31: `workload.release.subject.session` is 25h, wanted 1m to 24h",
        ),
    ]);
}

#[test]
fn people_prove_what_people_start() {
    let issuer = |keys: &str| {
        good_but(
            "url = \"https://idp.example/\"",
            &format!("url = \"https://idp.example/\"\n{keys}"),
        )
    };
    let people = "people = true\naudience = \"d\"";
    let by = |text: String, kind: &str, more: &str| {
        let matching = "match = { issuer = \"idp\", sub = \"s\" }";
        text.replace(
            "match = { issuer = \"github\", repository_id = \"1296269\" }",
            &format!("{matching}\n{more}"),
        )
        .replace("kind = \"ci\"", kind)
    };
    let operator = "kind = \"operator\"";
    check(&[
        (by(issuer(people), operator, ""), "loads"),
        (
            by(
                issuer(people),
                "kind = \"agent\"",
                "task = { key = [\"sub\"] }",
            ),
            "tenant.toml:19:11: the issuer `idp` vouches for people, who prove workloads of kind `operator` alone",
        ),
        (
            by(issuer(people), operator, "task = { key = [\"sub\"] }"),
            "tenant.toml:24:1: `task` cannot be declared for people: the person and `auth_time` make the key",
        ),
        (
            issuer("people = true"),
            "tenant.toml:9:1: people's tokens are made for a client: `audience` must name it",
        ),
        (
            issuer("auth_age = \"1h\""),
            "tenant.toml:9:1: `auth_age` stands only beside `people = true`",
        ),
        (
            issuer(&format!("{people}\nauth_age = \"25h\"")),
            "tenant.toml:11:1: `issuer.idp.auth_age` is 25h, wanted 1m to 24h",
        ),
        (
            good_but(
                "[issuer.gitlab]",
                "[issuer.gitlab]\npeople = true\naudience = \"d\"",
            ),
            "tenant.toml:3:1: `issuer.gitlab.people` is for issuers of kind `oidc`",
        ),
    ]);
}

/// A transmitter with these lines beside its issuer, and an issuer of people.
fn signals(lines: &str) -> String {
    let people = "[issuer.idp]\nkind = \"oidc\"\nurl = \"https://idp.example/\"\n";
    let of_people = format!("{people}people = true\naudience = \"d\"\n");
    let good = good_but(people, &of_people);
    format!("{good}[signals.hr]\nissuer = \"https://hr.example\"\n{lines}\n")
}

#[test]
fn transmitters_of_operators() {
    let push = "push = { secret_file = \"hook.secret\" }";
    check(&[
        (
            signals(&format!("operators = \"https://people.example\"\n{push}")),
            "loads",
        ),
        (
            signals(&format!("operators = \"https://people.example/\"\n{push}")),
            "tenant.toml:29:1: the issuer of `[operators]` is `https://people.example`, not `https://people.example/`",
        ),
        (
            signals(&format!("operators = true\n{push}")),
            "tenant.toml:29:1: `signals.hr.operators` is true or false, wanted a text",
        ),
    ]);
}

#[test]
fn transmitters() {
    let people = "people = \"idp\"";
    let push = "push = { secret_file = \"hook.secret\" }";
    check(&[
        (signals(&format!("{people}\n{push}")), "loads"),
        (
            signals(&format!(
                "{people}\npush = {{ secret_file = [\"hook.secret\", \"hook.secret\"] }}"
            )),
            "loads",
        ),
        (
            signals(&format!(
                "{people}\npush = {{ secret_file = [\"hook.secret\", \"hook.secret\", \"hook.secret\", \"hook.secret\", \"hook.secret\"] }}"
            )),
            "tenant.toml:30:10: `signals.hr.push.secret_file` names more than 4 files",
        ),
        (
            signals(&format!(
                "{people}\npoll = {{ url = \"https://hr.example/e\", token_file = \"hook.secret\" }}"
            )),
            "loads",
        ),
        (
            signals(push),
            "tenant.toml:27:10: it says of whom it speaks: `people` names issuers with `people = true`, `operators` the provider of `[operators]`",
        ),
        (
            signals(people),
            "tenant.toml:27:10: it holds either `push = { secret_file }` or `poll = { url, token_file }`",
        ),
        (
            signals(&format!("people = \"ipd\"\n{push}")),
            "tenant.toml:29:1: `signals.hr.people` names the issuer `ipd`, which is not declared: did you mean `idp`?",
        ),
        (
            signals(&format!("people = \"gitlab\"\n{push}")),
            "tenant.toml:29:1: the issuer `gitlab` vouches for no people: `people = true`",
        ),
        (
            signals(&format!("{people}\n{push}\npusch = 1")),
            "tenant.toml:31:1: unknown key `signals.hr.pusch`: did you mean `push`?",
        ),
        (
            signals(&format!(
                "{people}\npush = {{ secret_file = \"artifacts.secret\" }}"
            )),
            "tenant.toml:30:10: the secret file `artifacts.secret` holds no bearer token, wanted 16 or more characters that a header can hold",
        ),
        (
            signals(&format!(
                "{people}\npoll = {{ url = \"http://127.0.0.1/e\", token_file = \"no.token\", every = \"0s\" }}"
            )),
            "tenant.toml:30:10: `http://127.0.0.1/e` is http, wanted https, or `allow_private = true`\ntenant.toml:30:38: there is no file `no.token`\ntenant.toml:30:63: `signals.hr.poll.every` is 0s, wanted 1s to 1h",
        ),
    ]);
}
