//! Documents that cannot fall behind: first sentences of files, links, and the table of HTTP errors.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

mod support;

use std::fs;
use std::path::Path;

use dayfly_server::config::Config;
use dayfly_server::declared::{Declared, Source, TenantContext};
use support::links::{anchors, links};
use support::tree::{files, root};

#[test]
fn every_file_says_what_it_is_for() {
    let mut silent = Vec::new();
    for file in files() {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let mark = match extension {
            Some("rs") => "//! ",
            Some("mjs" | "js") => "// ",
            Some("sh") => "# ",
            Some(_) => continue,
            // Scripts without an ending are known by their first line.
            None => "# ",
        };
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let mut lines = text.lines().peekable();
        let script = lines.next_if(|line| line.starts_with("#!/")).is_some();
        if extension.is_none() && !script {
            continue;
        }
        let sentence = lines
            .next()
            .and_then(|line| line.strip_prefix(mark))
            .is_some_and(|sentence| sentence.contains(' '));
        if !sentence {
            silent.push(shown(&file));
        }
    }
    assert!(silent.is_empty(), "no first sentence in {silent:#?}");
}

#[test]
fn every_link_within_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for file in files() {
        if file.extension().and_then(|extension| extension.to_str()) != Some("md") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("utf-8");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if path.is_empty() {
                file.clone()
            } else {
                file.parent().unwrap_or(Path::new("")).join(path)
            };
            let there = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).any(|known| known == anchor)));
            if !there {
                broken.push(format!("{}: {link}", shown(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let rows: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| P") && line.contains('`'))
        .collect();
    assert_eq!(rows.len(), 8, "eight promises, each with its tests");
    let mut sources = String::new();
    for file in files() {
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("rs" | "mjs" | "txt")) {
            sources.push_str(&fs::read_to_string(&file).unwrap_or_default());
        }
    }
    for row in rows {
        let tests = row.rsplit('|').nth(1).unwrap_or_default();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in {row}");
        for test in named {
            assert!(sources.contains(test), "no test `{test}`: {row}");
        }
    }
}

#[test]
fn the_configuration_of_the_readme_loads() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let blocks: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let [
        server,
        tenant,
        jobs,
        batch,
        pods,
        signals,
        production,
        people,
    ] = blocks.as_slice()
    else {
        panic!(
            "dayfly.toml and tenant.toml, to begin with, of jobs that share a task, of a job that comes back, of a cluster, of signals, and in production"
        );
    };
    let folder = tempfile::tempdir().expect("a folder");
    // What the kubelet puts into each pod.
    let pods = pods.replace("/var/run/secrets/kubernetes.io/serviceaccount/", "");
    for name in ["token", "ca.crt"] {
        fs::write(folder.path().join(name), "s").expect("written");
    }
    for server in [server, production] {
        let config = Config::parse(&folder.path().join("dayfly.toml"), server);
        let config = config.unwrap_or_else(|why| panic!("dayfly.toml: {why}"));
        // What is added for people stands beside what was there before.
        fs::write(folder.path().join("tenant.toml"), tenant).expect("written");
        fs::write(folder.path().join("people.toml"), people).expect("written");
        fs::write(folder.path().join("jobs.toml"), jobs).expect("written");
        fs::write(folder.path().join("batch.toml"), batch).expect("written");
        fs::write(folder.path().join("pods.toml"), &pods).expect("written");
        fs::write(folder.path().join("signals.toml"), signals).expect("written");
        let secret = folder.path().join("idp-events.secret");
        fs::write(secret, "a-secret-of-the-events").expect("written");
        fs::write(folder.path().join("artifacts.secret"), "s").expect("written");
        let source = Source::read_folder(folder.path()).expect("a source");
        let name = "main".parse().expect("a name");
        if let Err(why) = Declared::load(&source, &TenantContext::new(&config, &name)) {
            panic!("tenant.toml: {why:#?}");
        }
    }
}

#[test]
fn the_table_of_http_errors_is_what_the_server_answers() {
    let document = fs::read_to_string(root().join("docs/http-errors.md")).expect("the document");
    let written: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let answered = support::errors::table();
    if written != answered {
        panic!(
            "docs/http-errors.md and the server differ; the table is\n\n{}\n",
            answered.join("\n")
        );
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
