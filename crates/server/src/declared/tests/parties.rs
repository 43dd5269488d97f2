//! Mistakes in issuers, owners, resources and types.

use super::{check, good_but};

#[test]
fn issuers() {
    check(&[
        (
            good_but("kind = \"kubernetes\"\n", ""),
            "tenant.toml:3:9: `kind` is missing in `issuer.cluster`",
        ),
        (
            good_but("kind = \"kubernetes\"", "kind = \"kubernets\""),
            "tenant.toml:4:1: `issuer.cluster.kind` is `kubernets`, wanted `github`, `gitlab`, `kubernetes` or `oidc`: did you mean `kubernetes`?",
        ),
        (
            good_but("kind = \"kubernetes\"", "kind = \"buildkite\""),
            "tenant.toml:4:1: issuers of kind `buildkite` are not served by this build",
        ),
        (
            good_but("url = \"https://cluster.example\"\n", ""),
            "tenant.toml:3:9: `url` is missing in `issuer.cluster`",
        ),
        (
            good_but("https://cluster.example", "http://cluster.example"),
            "tenant.toml:5:1: `http://cluster.example` is http on another host than this one, wanted https",
        ),
        (
            good_but("https://cluster.example", "http://127.0.0.1:1"),
            "tenant.toml:5:1: `http://127.0.0.1:1` is http, wanted https, or `allow_private = true`",
        ),
        (
            good_but(
                "\"https://cluster.example\"",
                "\"http://127.0.0.1:1\"\nallow_private = true",
            ),
            "loads",
        ),
        (
            good_but("https://cluster.example", "cluster.example"),
            "tenant.toml:5:1: `cluster.example` is not an absolute url",
        ),
        (
            good_but("https://cluster.example", "https://u@cluster.example"),
            "tenant.toml:5:1: `https://u@cluster.example` holds user information",
        ),
        (
            good_but("https://cluster.example", "https://cluster.example/?x"),
            "tenant.toml:5:1: `https://cluster.example/?x` has a query, which an issuer cannot have",
        ),
        (
            good_but("https://cluster.example", "https://idp.example/"),
            "tenant.toml:6:9: the issuers `cluster` and `idp` have one url, `https://idp.example/`",
        ),
        (
            good_but(
                "\"https://cluster.example\"",
                "\"http://127.0.0.1:8440/acme\"\nallow_private = true",
            ),
            "tenant.toml:3:9: the url of the issuer `cluster` is that of this tenant itself",
        ),
    ]);
}

fn with(keys: &str) -> String {
    good_but("[issuer.gitlab]\n", &format!("[issuer.gitlab]\n{keys}\n"))
}

#[test]
fn webhooks_of_issuers() {
    check(&[
        (
            with("webhook_secret_file = \"x\""),
            "tenant.toml:3:1: the secret file `x` cannot be read: No such file or directory (os error 2)",
        ),
        (
            with("webhook_secret_file = []"),
            "tenant.toml:3:1: `issuer.gitlab.webhook_secret_file` is an empty list",
        ),
        (
            with("webhook_secret_file = \"artifacts.secret\""),
            "tenant.toml:3:1: the secret file `artifacts.secret` holds a secret of 6 bytes, wanted 16 or more",
        ),
        (
            with("webhook_secret_file = [\"hook.secret\", \"bad.whsec\"]"),
            "tenant.toml:3:39: the secret file `bad.whsec` begins with `whsec_` and does not go on in base64",
        ),
        (
            with("webhook_secret_file = [\"a\", \"b\", \"c\", \"d\", \"e\"]"),
            "tenant.toml:3:1: `issuer.gitlab.webhook_secret_file` names more than 4 files",
        ),
        (
            good_but(
                "kind = \"kubernetes\"\n",
                "kind = \"kubernetes\"\nwebhook_secret_file = \"hook.secret\"\n",
            ),
            "tenant.toml:5:1: the secret file `hook.secret` does not begin with `whsec_`, as a secret of Standard Webhooks does",
        ),
        (
            good_but(
                "url = \"https://idp.example/\"\n",
                "url = \"https://idp.example/\"\naudience = \"dayfly\"\npeople = true\nwebhook_secret_file = \"hook.secret\"\n",
            ),
            "tenant.toml:11:1: no webhook ends what people started: its claims would have to name them",
        ),
    ]);
}

fn reviewed(keys: &str) -> String {
    let line = format!("kind = \"kubernetes\"\nreview = {{ {keys} }}\n");
    good_but("kind = \"kubernetes\"\n", &line)
}

#[test]
fn reviews_of_tokens() {
    const URL: &str = "url = \"https://api.cluster.example:6443\"";
    const FILE: &str = "token_file = \"artifacts.secret\"";
    check(&[
        (reviewed(&format!("{URL}, {FILE}")), "loads"),
        (
            reviewed(&format!(
                "{URL}, {FILE}, ca_file = \"github-jwks.json\", every = \"4m\""
            )),
            "loads",
        ),
        (
            with(&format!("review = {{ {URL}, {FILE} }}")),
            "tenant.toml:3:1: `issuer.gitlab.review` is for issuers of kind `kubernetes`",
        ),
        (
            reviewed(FILE),
            "tenant.toml:5:1: `url` is missing in `issuer.cluster.review`",
        ),
        (
            reviewed(URL),
            "tenant.toml:5:1: `token_file` is missing in `issuer.cluster.review`",
        ),
        (
            reviewed(&format!("{URL}, token_file = \"x\"")),
            "tenant.toml:5:54: there is no file `x`",
        ),
        (
            reviewed(&format!("{URL}, {FILE}, ca_file = \"x\"")),
            "tenant.toml:5:87: there is no file `x`",
        ),
        (
            reviewed(&format!("{URL}, {FILE}, every = \"4s\"")),
            "tenant.toml:5:87: `issuer.cluster.review.every` is 4s, wanted 5s to 4m",
        ),
        (
            reviewed(&format!("{URL}, {FILE}, every = \"5m\"")),
            "tenant.toml:5:87: `issuer.cluster.review.every` is 5m, wanted 5s to 4m",
        ),
        (
            reviewed(&format!("{URL}, {FILE}, evry = \"30s\"")),
            "tenant.toml:5:87: unknown key `issuer.cluster.review.evry`: did you mean `every`?",
        ),
        (
            reviewed(&format!("url = \"http://127.0.0.1:1\", {FILE}")),
            "tenant.toml:5:12: `http://127.0.0.1:1` is http, wanted https, or `allow_private = true`",
        ),
        (
            reviewed(&format!("url = \"https://u:p@x.example\", {FILE}")),
            "tenant.toml:5:12: `https://u:p@x.example` holds user information",
        ),
        (
            reviewed(&format!("url = \"https://x.example?a\", {FILE}")),
            "tenant.toml:5:12: `https://x.example?a` has a query, wanted the url of the API server",
        ),
    ]);
}

#[test]
fn keys_and_audiences_of_issuers() {
    check(&[
        (
            with("algs = [\"HS256\"]"),
            "tenant.toml:3:9: `issuer.gitlab.algs[0]` is `HS256`, wanted `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA` or `Ed25519`: did you mean `RS256`?",
        ),
        (
            with("algs = []"),
            "tenant.toml:3:1: `issuer.gitlab.algs` is an empty list",
        ),
        (
            with("audience = [\"a\", 1]"),
            "tenant.toml:3:18: `issuer.gitlab.audience[1]` is an integer, wanted a text",
        ),
        (
            with("jwks = { file = \"missing.json\" }"),
            "tenant.toml:3:10: the key file `missing.json` cannot be used: cannot be read: No such file or directory (os error 2)",
        ),
        (
            with("jwks = { file = \"no-keys.json\" }"),
            "tenant.toml:3:10: the key file `no-keys.json` holds no usable key",
        ),
        (
            with("jwks = { file = \"github-jwks.json\" }\nalgs = [\"RS256\"]"),
            "tenant.toml:3:10: the key file `github-jwks.json` holds no usable key: key fits none of the allowed algorithms `RS256`",
        ),
        (
            with("jwks = { file = \"github-jwks.json\", url = \"https://x.example\" }"),
            "tenant.toml:3:1: `issuer.gitlab.jwks` must hold either `file` or `url`",
        ),
        (
            with("jwks = { file = \"github-jwks.json\", token_file = \"artifacts.secret\" }"),
            "tenant.toml:3:37: `token_file` stands only beside `url`",
        ),
        (
            with("jwks = { url = \"https://x.example\", ca_file = \"missing.pem\" }"),
            "tenant.toml:3:37: there is no file `missing.pem`",
        ),
        (
            with("jwks = { url = \"http://localhost/\" }"),
            "tenant.toml:3:1: `http://localhost/` is http, wanted https, or `allow_private = true`",
        ),
        (
            with("jwks = {}"),
            "tenant.toml:3:1: `issuer.gitlab.jwks` must hold either `file` or `url`",
        ),
    ]);
}

#[test]
fn a_resource_that_reports_can_ask() {
    let with = |keys: &str| good_but("[type.artifact]", &format!("{keys}\n[type.artifact]"));
    check(&[
        (
            with("reports = true"),
            "tenant.toml:15:1: `reports = true` promises to ask for each use, and whoever asks must authenticate: `secret_file` or `jwks` is missing",
        ),
        (
            with("reports = true\njwks = { file = \"github-jwks.json\" }"),
            "loads",
        ),
        (with("reports = false"), "loads"),
    ]);
}

#[test]
fn owners_resources_and_types() {
    let url = |url: &str| good_but("https://artifacts.example", url);
    let with = |keys: &str| good_but("[type.artifact]", &format!("{keys}\n[type.artifact]"));
    check(&[
        (
            good_but("group:platform", "platform"),
            "tenant.toml:12:12: `owner.team-platform.members[0]` is `platform`, wanted `group:`, `sub:` or `email:` and a name",
        ),
        (
            url("http://artifacts.example"),
            "tenant.toml:14:1: `http://artifacts.example` is http on another host than this one, wanted https",
        ),
        (
            url("https://artifacts.example/#x"),
            "tenant.toml:14:1: `https://artifacts.example/#x` has a fragment",
        ),
        (
            url("ftp://artifacts.example"),
            "tenant.toml:14:1: `ftp://artifacts.example` is not an http or https url",
        ),
        (
            url("http://127.0.0.1:8440/acme"),
            "tenant.toml:13:11: the url of the resource `artifacts` is the issuer of this tenant",
        ),
        (
            with("[resource.mirror]\nurl = \"https://artifacts.example/\""),
            "tenant.toml:15:11: the resources `artifacts` and `mirror` have one url, `https://artifacts.example/`",
        ),
        (
            with("signing = \"HS256\""),
            "tenant.toml:15:1: `resource.artifacts.signing` is `HS256`, wanted `ES256` or `RS256`: did you mean `ES256`?",
        ),
        (with("subject = \"person\""), "loads"),
        (
            with("subject = \"people\""),
            "tenant.toml:15:1: `resource.artifacts.subject` is `people`, wanted `workload` or `person`",
        ),
        (
            with("secret_file = \"missing.secret\""),
            "tenant.toml:15:1: the secret file `missing.secret` cannot be read: No such file or directory (os error 2)",
        ),
        (
            with("secret_file = \"empty.secret\""),
            "tenant.toml:15:1: the secret file `empty.secret` is empty",
        ),
        (
            with("secret_file = \"artifacts.secret\"\njwks = { file = \"github-jwks.json\" }"),
            "tenant.toml:15:1: `secret_file` and `jwks` exclude each other",
        ),
        (
            with("jwks = { url = \"https://x.example\" }"),
            "tenant.toml:15:1: the `url` of a resource's `jwks` is not served by this build, use `file`",
        ),
        (with("jwks = { file = \"github-jwks.json\" }"), "loads"),
        (
            with("jwks = { file = \"broken.json\" }"),
            "tenant.toml:15:10: the key file `broken.json` cannot be used: not JSON at line 1, column 1",
        ),
        (
            good_but("region = \"set\"", "region = \"sett\""),
            "tenant.toml:16:12: `type.artifact.fields.region` is `sett`, wanted `set`, `exact`, `max`, `min` or `path`: did you mean `set`?",
        ),
        (
            good_but("region = \"set\"", "actions = \"set\""),
            "tenant.toml:16:12: every detail has `actions`, it is not to be declared",
        ),
    ]);
}
