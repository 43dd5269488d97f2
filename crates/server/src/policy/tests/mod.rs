//! Tests of the policy layer as a whole: one tenant, and questions to policies written beside them.

mod decisions;
mod explained;
mod loading;
mod slices;

use std::net::IpAddr;
use std::path::Path;

use dayfly_domain::{Claims, Name, Time};

use super::{Action, Asked, Facts, Handed, Policies, Question, Verdict};
use crate::declared::{Declared, LoadError, Source, SourceFile, TenantContext, Warning};

/// Two owners, three workloads, two resources.
const TENANT: &str = r#"
[issuer.github]
kind = "github"

[owner.team]
name = "Team"
contact = "team@example.com"

[owner.other]
name = "Other"
contact = "other@example.com"

[resource.artifacts]
url = "https://artifacts.example"

[resource.queue]
url = "https://queue.example"

[workload.release]
owner   = "team"
kind    = "ci"
purpose = "publish"
match   = { issuer = "github", repository_id = "1" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*" },
]

[workload.nightly]
owner   = "team"
kind    = "batch"
purpose = "count"
match   = { issuer = "github", repository_id = "2" }
access  = [{ resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*" }]

[workload.agent]
owner   = "other"
kind    = "agent"
purpose = "help"
match   = { issuer = "github", repository_id = "3" }
access  = [{ resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*" }]
"#;

pub(super) fn source(policies: &[(&str, &str)]) -> Source {
    let file = |name: String, text: &str| SourceFile {
        name,
        text: text.to_owned(),
    };
    let mut files = vec![file("tenant.toml".to_owned(), TENANT)];
    files.extend(
        policies
            .iter()
            .map(|(name, text)| file(format!("policies/{name}"), text)),
    );
    Source::new(Path::new("/t"), files)
}

pub(super) fn declared(source: &Source) -> Declared {
    let context = TenantContext {
        issuer: "https://dayfly.example/acme".to_owned(),
        bounds: crate::config::Bounds::default(),
        operators: None,
    };
    Declared::load(source, &context).unwrap().0
}

fn load(policies: &[(&str, &str)]) -> Result<(Policies, Vec<Warning>), Vec<LoadError>> {
    let source = source(policies);
    Policies::load(&source, &declared(&source))
}

/// Mistakes or, where there is none, warnings, one a line.
fn said(policies: &[(&str, &str)]) -> String {
    let lines: Vec<String> = match load(policies) {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    lines.join("\n")
}

/// A request to be asked about.
struct Asks {
    workload: &'static str,
    resource: &'static str,
    action: Action,
    claims: Claims,
    address: Option<IpAddr>,
    open_tasks: u64,
}

/// When everything is asked.
const NOW: Time = Time::from_millis(1_795_287_689_123);

impl Default for Asks {
    fn default() -> Self {
        let claims = [("ref", "refs/heads/main"), ("actor", "octocat")];
        Self {
            workload: "release",
            resource: "artifacts",
            action: Action::Issue,
            claims: claims
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            address: Some("192.0.2.7".parse().unwrap()),
            open_tasks: 3,
        }
    }
}

impl Asks {
    fn of(&self, policies: &Policies) -> Verdict {
        let source = source(&[]);
        let declared = declared(&source);
        let workload: Name = self.workload.parse().unwrap();
        let resource: Name = self.resource.parse().unwrap();
        let workload = &declared.workloads[&workload].workload;
        let facts = Facts {
            claims: &self.claims,
            now: NOW,
            address: self.address,
            open_tasks: self.open_tasks,
            starts_last_hour: 5,
            subject: None,
            said: None,
            approvals: 0,
        };
        let question = Question {
            action: self.action,
            workload,
            resource: &resource,
            asked: Asked::of(&workload.access, &resource),
            handed: (self.action == Action::Delegate).then(|| Handed {
                depth: 1,
                parent: workload,
                chain: vec![workload],
            }),
        };
        policies.evaluate(&question, &facts)
    }

    fn of_text(&self, text: &str) -> Verdict {
        match load(&[("p.cedar", text)]) {
            Ok((policies, _)) => self.of(&policies),
            Err(errors) => panic!("{errors:#?}"),
        }
    }
}

/// `allow` or `deny`, by which policies, and the errors.
fn shown(verdict: &Verdict) -> String {
    let decision = match verdict.decision {
        super::Decision::Allow => "allow",
        super::Decision::Deny => "deny",
    };
    let errors: Vec<&str> = verdict.errors.iter().map(|e| e.policy.as_str()).collect();
    format!(
        "{decision} by [{}] errors [{}]",
        verdict.policies.join(", "),
        errors.join(", ")
    )
}
