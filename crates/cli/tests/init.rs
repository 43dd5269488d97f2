//! `dayfly init`: what it writes can be loaded, and it writes over nothing.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dayfly_server::config::{AddressRates, Config, Connections};
use dayfly_server::declared::{Declared, Source, TenantContext};
use dayfly_server::policy::Policies;
use tempfile::TempDir;

/// An address that nobody answers on: port 1 of this machine.
const NOBODY: &str = "http://127.0.0.1:1";

fn init(folder: &Path, api: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .arg("init")
        .arg(folder)
        .args(arguments)
        .env("GITHUB_API_URL", api)
        .output()
        .unwrap()
}

fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Loads the one tenant as `dayfly serve` does.
fn load(folder: &Path) -> (Declared, Vec<String>) {
    let config = Config::load(&folder.join("dayfly.toml")).unwrap();
    let names = config.tenant_names().unwrap();
    let [name] = names.as_slice() else {
        panic!("{names:?}");
    };
    let source = Source::read_folder(&config.tenant_folder(name)).unwrap();
    let context = TenantContext::new(&config, name);
    let (declared, mut warnings) = Declared::load(&source, &context).unwrap();
    let (policies, doubts) =
        Policies::load(&source, &declared).unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(policies.count(), 1);
    warnings.extend(doubts);
    (declared, warnings.iter().map(ToString::to_string).collect())
}

/// Answers one request with this status and body, and gives its first line.
fn api(status: &'static str, body: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        while !lines.next().unwrap().unwrap().is_empty() {}
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close");
        write!(stream, "{head}\r\n\r\n{body}").unwrap();
        first
    });
    (url, asked)
}

fn fresh() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("new/conf");
    (folder, inside)
}

#[test]
fn without_a_repository_the_workload_is_unfinished_and_everything_loads() {
    let (_kept, folder) = fresh();
    let said = succeeded(&init(&folder, NOBODY, &[]));
    let (declared, warnings) = load(&folder);
    let release = &declared.workloads[&"release".parse().unwrap()];
    assert_eq!(release.unfinished.as_deref(), Some("repository_id"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("is unfinished")));
    assert_eq!((declared.owners.len(), declared.resources.len()), (1, 1));
    assert!(said.contains("dayfly proof") && said.contains("dayfly serve --config"));
    let secret = folder.join("tenants/main/artifacts.secret");
    let mode = secret.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn github_is_asked_for_the_id() {
    let (_kept, folder) = fresh();
    let (url, asked) = api("200 OK", r#"{"id":1296269,"default_branch":"trunk"}"#);
    let said = succeeded(&init(&folder, &url, &["--github", "octo-org/octo-repo"]));
    assert_eq!(
        asked.join().unwrap(),
        "GET /repos/octo-org/octo-repo HTTP/1.1"
    );
    assert!(said.contains("1296269"), "{said}");
    let (declared, warnings) = load(&folder);
    assert!(warnings.is_empty(), "{warnings:?}");
    let release = &declared.workloads[&"release".parse().unwrap()];
    assert_eq!(release.unfinished, None);
    let wanted = |claim: &str| {
        let clauses = &release.workload.matching.clauses;
        let clause = clauses.iter().find(|clause| clause.claim == claim);
        clause.unwrap().any_of.clone()
    };
    assert_eq!(wanted("repository_id"), ["1296269"]);
    assert_eq!(wanted("ref"), ["refs/heads/trunk"]);
}

#[test]
fn an_id_that_github_does_not_tell_is_left_to_be_filled_in() {
    let (url, _) = api("404 Not Found", "{}");
    for (api, why) in [
        (url.as_str(), "shows no such repository"),
        (NOBODY, "cannot be reached"),
    ] {
        let (_kept, folder) = fresh();
        let said = succeeded(&init(&folder, api, &["--github", "octo-org/octo-repo"]));
        assert!(said.contains(why), "{said}");
        let (declared, _) = load(&folder);
        let release = &declared.workloads[&"release".parse().unwrap()];
        assert_eq!(release.unfinished.as_deref(), Some("repository_id"));
    }
}

/// What the comment of the unfinished match says can be done as it says.
#[test]
fn the_line_to_fill_in_takes_the_place_of_the_two_below_it() {
    let (_kept, folder) = fresh();
    succeeded(&init(&folder, NOBODY, &["--github", "octo-org/octo-repo"]));
    let file = folder.join("tenants/main/tenant.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().filter_map(|line| match line {
        _ if line.starts_with("# match = ") => Some(line[2..].replace('…', "1296269")),
        _ if line.starts_with("match = ") || line.starts_with("unfinished = ") => None,
        _ => Some(line.to_owned()),
    });
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let (declared, warnings) = load(&folder);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(
        declared.workloads[&"release".parse().unwrap()].unfinished,
        None
    );
}

#[test]
fn nothing_is_overwritten() {
    let (_kept, folder) = fresh();
    let file = folder.join("tenants/main/tenant.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "mine").unwrap();
    let output = init(&folder, NOBODY, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tenant.toml"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(!folder.join("dayfly.toml").exists());

    let (_kept, folder) = fresh();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".gitignore"), "mine").unwrap();
    let said = succeeded(&init(&folder, NOBODY, &[]));
    assert!(said.contains("left "), "{said}");
    assert_eq!(
        std::fs::read_to_string(folder.join(".gitignore")).unwrap(),
        "mine"
    );
    assert_eq!(init(&folder, NOBODY, &[]).status.code(), Some(1));
}

#[test]
fn what_is_no_repository_is_wrong_use() {
    let (_kept, folder) = fresh();
    let output = init(&folder, NOBODY, &["--github", "https://github.com/a/b"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.exists());
}

/// What the file shows in comments is not only text: taken in, it loads, and tables say the defaults.
#[test]
fn what_stands_in_comments_loads_when_it_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new");
    succeeded(&init(&folder, "http://127.0.0.1:1", &[]));
    let file = folder.join("dayfly.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    let key = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        line.starts_with('[') || line.contains('=') && plain && !name.is_empty()
    };
    let taken: Vec<&str> = written
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(shown) if key(shown) => shown,
            Some(_) | None => line,
        })
        .collect();
    let text = taken
        .join("\n")
        .replace("http://127.0.0.1:8440\"", "https://dayfly.example\"");
    let config = Config::parse(&file, &text).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(config.connections, Connections::default());
    assert_eq!(config.rate.unverified, AddressRates::default().unverified);
    assert!(config.rate.address.is_some() && config.admin.is_some() && config.tls.is_some());
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.heads.len(), 2);
    let [sink] = config.notify.as_slice() else {
        panic!("{:?}", config.notify);
    };
    let defaults =
        r#"notify = [{ url = "https://x.example", secret_file = "x", on = ["refused"] }]"#;
    let defaults = Config::parse(&file, &format!("{defaults}\n{written}")).unwrap();
    let wanted = (defaults.notify[0].behind, defaults.notify[0].keep);
    assert_eq!((sink.behind, sink.keep), wanted);
}
