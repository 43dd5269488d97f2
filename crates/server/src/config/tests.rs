//! The configuration as texts and what they load to.

use std::path::Path;

use dayfly_domain::Span;

use super::{
    Bounds, Config, Connections, HeadSink, Named, Role, StoreKind, TlsFiles, nearest, parse_span,
};

const EXAMPLE: &str = r#"public_url = "http://127.0.0.1:8440"
listen     = "127.0.0.1:8440"
data       = "data"
store      = "sqlite"
tenants    = "tenants"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/dayfly/dayfly.toml"), text).map_err(|error| error.to_string())
}

fn but(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

#[test]
fn the_example_loads_with_its_defaults() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.public_url, "http://127.0.0.1:8440");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8440");
    assert_eq!(config.data, Path::new("/etc/dayfly/data"));
    assert_eq!(config.store, StoreKind::Sqlite);
    assert_eq!(config.tenants, Path::new("/etc/dayfly/tenants"));
    assert_eq!(config.key_file, Path::new("/etc/dayfly/dayfly.key"));
    assert_eq!(config.heads, []);
    assert_eq!(config.keys.rotate, None);
    assert_eq!(config.ledger.retain, None);
    assert_eq!(config.bounds, Bounds::default());
    assert_eq!(config.connections, Connections::default());
    assert_eq!(config.tls, None);
    assert_eq!(config.trusted_proxies, []);
    let acme = "acme".parse().unwrap();
    assert_eq!(config.issuer(&acme), "http://127.0.0.1:8440/acme");
    assert_eq!(
        config.tenant_folder(&acme),
        Path::new("/etc/dayfly/tenants/acme")
    );
}

#[test]
fn the_default_bounds() {
    let bounds = Bounds::default();
    assert_eq!(bounds.window_max.to_string(), "24h");
    assert_eq!(bounds.proof_age.to_string(), "1h");
    assert_eq!(
        (bounds.clients, bounds.live_credentials, bounds.details),
        (256, 16, 32)
    );
    assert_eq!(bounds.depth, 4);
    assert_eq!(
        (bounds.request_bytes, bounds.token_bytes, bounds.leaf_bytes),
        (65_536, 4096, 8192)
    );
    assert_eq!(bounds.domain(), dayfly_domain::Bounds::default());
}

#[test]
fn what_is_written_counts() {
    let text = format!(
        "{EXAMPLE}key_file = \"/etc/keys/dayfly.key\"\nheads = [\"file:heads.log\", \"file:/var/heads\"]\n\
         [bounds]\nwindow_max = \"2h\"\nproof_age = \"90s\"\nclients = 4\nlive_credentials = 2\ndetails = 3\ndepth = 2\n\
         request_bytes = 8192\ntoken_bytes = 2048\nleaf_bytes = 4096\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.key_file, Path::new("/etc/keys/dayfly.key"));
    assert_eq!(
        config.heads,
        [
            HeadSink::File("/etc/dayfly/heads.log".into()),
            HeadSink::File("/var/heads".into())
        ]
    );
    let bounds = config.bounds;
    assert_eq!(
        (bounds.window_max.to_string(), bounds.proof_age.to_string()),
        ("2h".into(), "90s".into())
    );
    assert_eq!(
        (bounds.clients, bounds.live_credentials, bounds.details),
        (4, 2, 3)
    );
    assert_eq!(bounds.depth, 2);
    assert_eq!(
        (bounds.request_bytes, bounds.token_bytes, bounds.leaf_bytes),
        (8192, 2048, 4096)
    );
}

#[test]
fn the_front_door_is_kept_as_written() {
    let text = format!(
        "{}tls = {{ cert = \"tls.crt\", key = \"/etc/tls.key\" }}\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
         [connections]\ntotal = 10\nper_address = 3\nheader_bytes = 8192\nheaders = 20\n\
         header_timeout = \"1s\"\nbody_timeout = \"2s\"\nrequest_timeout = \"3s\"\nidle_timeout = \"4s\"\n\
         tls_timeout = \"5s\"\ndrain_timeout = \"6s\"\n",
        but("http://127.0.0.1:8440", "https://dayfly.example")
    );
    let config = parse(&text).unwrap();
    assert_eq!(
        config.tls,
        Some(TlsFiles {
            cert: "/etc/dayfly/tls.crt".into(),
            key: "/etc/tls.key".into()
        })
    );
    let proxies: Vec<_> = config
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    let seconds = Span::from_seconds;
    assert_eq!(
        config.connections,
        Connections {
            total: 10,
            per_address: 3,
            header_bytes: 8192,
            headers: 20,
            header_timeout: seconds(1),
            body_timeout: seconds(2),
            request_timeout: seconds(3),
            idle_timeout: seconds(4),
            tls_timeout: seconds(5),
            drain_timeout: seconds(6),
        }
    );
}

#[test]
fn mistakes_at_the_front_door() {
    check(&[
        (
            with("tls = { cert = \"x\" }"),
            "6:1: `key` is missing in `tls`\n/etc/dayfly/dayfly.toml:6:1: `tls` is served and `public_url` is http: clients would not find it, wanted https",
        ),
        (
            but("http://127.0.0.1:8440", "https://dayfly.example").replace(
                "tenants ",
                "tls = { cert = \"a\", key = \"b\", ca = \"c\" }\ntenants ",
            ),
            "5:32: unknown key `tls.ca`",
        ),
        (
            with("trusted_proxies = []"),
            "6:1: `trusted_proxies` is an empty list",
        ),
        (
            with("trusted_proxies = [\"10.0.0.1/8\"]"),
            "6:20: `10.0.0.1/8` has bits set beyond its length",
        ),
        (
            with("trusted_proxies = [\"proxy.example\"]"),
            "6:20: `proxy.example` is no network, wanted one like `10.0.0.0/8` or `2001:db8::1`",
        ),
        (
            with("[connections]\nidle_timout = \"1s\""),
            "7:1: unknown key `connections.idle_timout`: did you mean `idle_timeout`?",
        ),
        (
            with("[connections]\nheader_bytes = 100"),
            "7:1: `connections.header_bytes` is 100, wanted 8192 to 262144",
        ),
        (
            with("[connections]\nbody_timeout = \"0s\""),
            "7:1: `connections.body_timeout` is 0s, wanted 100ms to 1h",
        ),
    ]);
}

#[track_caller]
fn check(cases: &[(String, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let got = parse(text).map_or_else(|error| error, |_| "loads".to_string());
        let expected = format!("/etc/dayfly/dayfly.toml:{expected}");
        if got != expected {
            wrong.push_str(&format!("\nwanted: {expected}\n   got: {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn with(line: &str) -> String {
    format!("{EXAMPLE}{line}\n")
}

#[test]
fn what_this_build_does_not_serve_is_refused() {
    check(&[
        (
            with("egress = {}"),
            "6:1: `egress` is not served by this build",
        ),
        (with("otel = {}"), "6:1: `otel` is not served by this build"),
        (
            but("\"sqlite\"", "\"postgres://u@h/db\""),
            "4:1: a postgres store is not served by this build, use `sqlite`",
        ),
    ]);
}

#[test]
fn sinks_are_kept_as_written_and_never_shown_whole() {
    let text = "heads = [\"https://heads.example/let-me-in\", \"file:h\"]\n\
        notify = [{ url = \"https://10.0.0.1:8443/let-me-in?key=abc\", secret_file = \"n.secret\", \
        on = [\"refused\", \"task.ended\", \"refused\"], behind = 7, keep = \"2h\" }]";
    let config = parse(&with(text)).unwrap();
    assert_eq!(config.heads.len(), 2);
    let sink = &config.notify[0];
    assert_eq!(sink.secret_file, Path::new("/etc/dayfly/n.secret"));
    assert_eq!(sink.on, ["refused", "task.ended"]);
    assert_eq!((sink.behind, sink.keep), (7, Span::from_seconds(7200)));
    assert_eq!(sink.url.to_string(), "https://10.0.0.1:8443");
    let shown = format!("{config:?}");
    assert!(!shown.contains("let-me-in"), "{shown}");
    assert!(!shown.contains("abc"), "{shown}");
}

#[test]
fn mistakes_in_sinks() {
    let notify = |url: &str, on: &str| {
        with(&format!(
            "notify = [{{ url = \"{url}\", secret_file = \"s\", on = [{on}] }}]"
        ))
    };
    let two = |second: &str| {
        with(&format!(
            "notify = [{{ url = \"https://x.example\", secret_file = \"s\", on = [\"refused\"] }}, {second}]"
        ))
    };
    check(&[
        (with("notify = []"), "6:1: `notify` is an empty list"),
        (
            notify("https://x.example", "\"task.endet\""),
            "6:65: `notify[0].on[0]` is `task.endet`, wanted `annex.erased`, `block.lifted`, `block.set`, `client.delegated`, `client.ended`, `client.registered`, `credential.issued`, `credential.revoked`, `declared.changed`, `finding.closed`, `finding.opened`, `key.rotated`, `ledger.restored`, `ledger.resumed`, `ledger.stalled`, `refused`, `review.signed`, `rights.removed`, `task.approved`, `task.denied`, `task.ended`, `task.requested`, `task.started`, `use.allowed` or `use.denied`: did you mean `task.ended`?",
        ),
        (
            notify("https://me:hunter2@x.example", "\"refused\""),
            "6:13: `notify[0].url` holds user information",
        ),
        (
            notify("http://x.example/hunter2", "\"refused\""),
            "6:13: `notify[0].url` is http on another host than this one, wanted https",
        ),
        (
            notify("https://169.254.169.254/", "\"refused\""),
            "6:13: `notify[0].url` may not be reached: `169.254.169.254` is at 169.254.169.254, which is no public or private address",
        ),
        (
            with("notify = [{ url = \"https://x.example\", on = [\"refused\"], secret = \"s\" }]"),
            "6:11: `secret_file` is missing in `notify[0]`\n/etc/dayfly/dayfly.toml:6:58: unknown key `notify[0].secret`",
        ),
        (
            two("{ url = \"https://x.example/\", secret_file = \"s\", on = [\"refused\"] }"),
            "6:79: `notify[1].url` is that of another sink",
        ),
        (
            with("heads = [\"https://me@x.example\"]"),
            "6:10: `heads[0]` holds user information",
        ),
        (
            with("heads = [\"http://x.example\"]"),
            "6:10: `heads[0]` is http on another host than this one, wanted https",
        ),
    ]);
}

#[test]
fn keys_are_replaced_as_often_as_is_written() {
    for text in [
        "[keys]\nrotate = \"90d\"\n",
        "keys = { rotate = \"90d\" }\n",
    ] {
        let config = parse(&format!("{EXAMPLE}{text}")).unwrap();
        assert_eq!(config.keys.rotate, Some(Span::from_seconds(90 * 86_400)));
    }
    for (text, told) in [
        (
            "keys = { rotate = \"23h\" }",
            "6:10: `keys.rotate` is 23h, wanted 24h to 87600h",
        ),
        ("keys = { rotate = 90 }", "6:10: `keys.rotate` is"),
        (
            "keys = { rotation = \"90d\" }",
            "6:10: unknown key `keys.rotation`: did you mean `rotate`?",
        ),
    ] {
        let why = parse(&format!("{EXAMPLE}{text}\n")).unwrap_err();
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn entries_are_kept_as_long_as_is_written() {
    let config = parse(&format!("{EXAMPLE}ledger = {{ retain = \"90d\" }}\n")).unwrap();
    assert_eq!(config.ledger.retain, Some(Span::from_seconds(90 * 86_400)));
    for (text, told) in [
        (
            "ledger = { retain = \"23h\" }",
            "6:12: `ledger.retain` is 23h, wanted 24h to 87600h",
        ),
        (
            "ledger = { retian = \"90d\" }",
            "6:12: unknown key `ledger.retian`: did you mean `retain`?",
        ),
    ] {
        let why = parse(&format!("{EXAMPLE}{text}\n")).unwrap_err();
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(&[
        (
            with("lisen = 1"),
            "6:1: unknown key `lisen`: did you mean `listen`?",
        ),
        (but("data       = \"data\"\n", "\n"), " `data` is missing"),
        (
            but("data       = \"data\"", "data = 1\n[x"),
            "4:3: unclosed table, expected `]`",
        ),
        (
            with("heads = [\"file:\"]"),
            "6:10: a file sink is `file:` and a path, like `file:heads.log`",
        ),
        (
            with("heads = \"file:x\""),
            "6:1: `heads` is a text, wanted a list",
        ),
        (
            with("key_file = \"data/dayfly.key\""),
            "6:1: `key_file` lies within `data`: a copy of the data would hold the key too",
        ),
        (
            with("[bounds]\nwindow_max = \"25h\""),
            "7:1: `bounds.window_max` is 25h, wanted 1s to 24h",
        ),
        (
            with("[bounds]\nleaf_bytes = 8193"),
            "7:1: `bounds.leaf_bytes` is 8193, wanted 1024 to 8192",
        ),
        (
            with("[bounds]\nclients = -1"),
            "7:1: `bounds.clients` is -1, wanted 1 to 65536",
        ),
        (
            with("[bounds]\nclient = 1"),
            "7:1: unknown key `bounds.client`: did you mean `clients`?",
        ),
        (
            with("[bounds]\nbreadth = 4"),
            "7:1: unknown key `bounds.breadth`",
        ),
        (
            but("\"sqlite\"", "\"sqlit\""),
            "4:1: `store` is `sqlit`, wanted `sqlite`: did you mean `sqlite`?",
        ),
        (
            but("\"127.0.0.1:8440\"", "\"localhost\""),
            "2:1: `listen` is `localhost`, wanted an address and a port like `127.0.0.1:8440`",
        ),
    ]);
}

#[test]
fn public_urls_that_may_not_stand() {
    let url = |url: &str| but("http://127.0.0.1:8440", url);
    check(&[
        (
            url("http://127.0.0.1:8440/"),
            "1:1: `http://127.0.0.1:8440/` ends with a slash, write `http://127.0.0.1:8440`",
        ),
        (
            url("http://127.0.0.1:8440/x"),
            "1:1: `http://127.0.0.1:8440/x` is more than scheme, host and port in their plain spelling, write `http://127.0.0.1:8440`",
        ),
        (
            url("https://Example.com:443"),
            "1:1: `https://Example.com:443` is more than scheme, host and port in their plain spelling, write `https://example.com`",
        ),
        (
            url("https://example.com?x"),
            "1:1: `https://example.com?x` is more than scheme, host and port in their plain spelling, write `https://example.com`",
        ),
        (
            url("http://example.com"),
            "1:1: `http://example.com` is http on another host than this one, wanted https",
        ),
        (
            url("https:example.com"),
            "1:1: `https:example.com` is not an http or https url",
        ),
        (
            url("example.com"),
            "1:1: `example.com` is not an absolute url",
        ),
    ]);
}

#[test]
fn public_urls_that_may_stand() {
    for url in [
        "https://dayfly.example",
        "https://dayfly.example:8443",
        "http://localhost:1",
        "http://[::1]:1",
        "http://127.9.9.9",
    ] {
        assert_eq!(
            parse(&but("http://127.0.0.1:8440", url))
                .unwrap()
                .public_url,
            url
        );
    }
}

#[test]
fn every_mistake_is_reported_at_once_in_order() {
    let error = parse(
        "zzz = 1\nstore = 1\nlisten = \"x\"\npublic_url = \"https://x.example\"\ndata = \"d\"",
    )
    .unwrap_err();
    assert_eq!(
        error.replace("/etc/dayfly/dayfly.toml", "f"),
        "f: `tenants` is missing\nf:1:1: unknown key `zzz`\nf:2:1: `store` is an integer, wanted a text\nf:3:1: `listen` is `x`, wanted an address and a port like `127.0.0.1:8440`"
    );
}

#[test]
fn files_and_tenants_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dayfly.toml");
    let missing = Config::load(&file).unwrap_err().to_string();
    assert!(
        missing.ends_with("dayfly.toml: cannot be read: No such file or directory (os error 2)"),
        "{missing}"
    );
    std::fs::write(&file, EXAMPLE).unwrap();
    let config = Config::load(&file).unwrap();
    assert!(config.tenant_names().is_err());
    for tenant in ["zoo", "acme", ".git"] {
        std::fs::create_dir_all(folder.path().join("tenants").join(tenant)).unwrap();
    }
    std::fs::write(folder.path().join("tenants/README"), "").unwrap();
    let names: Vec<_> = config
        .tenant_names()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["acme", "zoo"]);
    std::fs::create_dir(folder.path().join("tenants/Upper")).unwrap();
    assert!(
        config
            .tenant_names()
            .unwrap_err()
            .to_string()
            .contains("Upper: is no name of a tenant")
    );
}

#[test]
fn lengths_of_time_are_read_as_they_are_written() {
    for text in ["0s", "1ms", "1500ms", "90s", "5m", "1h", "24h", "864h"] {
        assert_eq!(parse_span(text).unwrap().to_string(), text);
    }
    assert_eq!(parse_span("36d"), Some(Span::from_seconds(36 * 86_400)));
    for text in [
        "",
        "5",
        "m",
        "-5m",
        "+5m",
        "5 m",
        "5M",
        "1h30m",
        "1.5h",
        "99999999999999999999s",
        "999999999999999999d",
        "٣s",
    ] {
        assert_eq!(parse_span(text), None, "{text}");
    }
}

#[test]
fn the_nearest_is_near() {
    let known = ["window", "owner", "linger"];
    assert_eq!(nearest("windwo", known), Some("window"));
    assert_eq!(nearest("lingr", known), Some("linger"));
    assert_eq!(nearest("heartbeat", known), None);
}

/// The example with an admin listener and `[operators]` of these keys.
fn operators(keys: &str) -> String {
    with(&format!("admin = \"127.0.0.1:8441\"\n[operators]\n{keys}"))
}

const PROVIDER: &str = "issuer = \"https://idp.example\"\nclient_id = \"dayfly\"\n";

#[test]
fn operators_are_named_by_group_subject_and_checked_address() {
    let lists =
        "admin = [\"group:sre\", \"sub:7\"]\noperator = []\nauditor = [\"email:a@b.example\"]";
    let config = parse(&operators(&format!("{PROVIDER}{lists}"))).unwrap();
    let operators = config.operators.unwrap();
    assert_eq!(operators.groups_claim, "groups");
    assert_eq!(operators.scopes, None);
    let roles = |sub: &str, groups: &[&str], email: Option<&str>| {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        operators.roles_of(Named {
            sub,
            groups: &groups,
            email,
        })
    };
    assert_eq!(roles("1", &["dev", "sre"], None), [Role::Admin]);
    assert_eq!(
        roles("7", &[], Some("a@b.example")),
        [Role::Admin, Role::Auditor]
    );
    assert!(roles("sre", &["SRE", "7"], Some("A@b.example")).is_empty());
}

#[test]
fn mistakes_in_operators() {
    let provider = |more: &str| operators(&format!("{PROVIDER}{more}"));
    check(&[
        (
            operators("client_id = \"d\""),
            "7:2: `issuer` is missing in `operators`",
        ),
        (
            provider("audtor = []"),
            "10:1: unknown key `operators.audtor`: did you mean `auditor`?",
        ),
        (
            provider("admin = [\"groups:sre\"]"),
            "10:10: `operators.admin[0]` is `groups:sre`, wanted `group:`, `sub:` or `email:` and a name: did you mean `group:`?",
        ),
        (
            operators("issuer = \"http://127.0.0.1:1\"\nclient_id = \"d\""),
            "8:1: `http://127.0.0.1:1` is http, wanted https, or `allow_private = true`",
        ),
        (
            with(&format!("[operators]\n{PROVIDER}")),
            "6:2: `operators` is of no use without `admin = \"address:port\"`, where they are served",
        ),
        (
            with(&format!(
                "admin = \"0.0.0.0:8441\"\n[operators]\n{PROVIDER}"
            )),
            "7:2: operators would show their tokens to `admin = \"0.0.0.0:8441\"` unencrypted: wanted `tls`, or `admin` on loopback",
        ),
    ]);
}
