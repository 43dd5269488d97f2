//! Declared state as tables of texts and what they load to.

mod bad;
mod defaults;
mod diff;
mod example;
mod parties;
mod rates;
mod source;
mod warnings;

use std::path::Path;

use super::{Declared, Source, SourceFile, TenantContext};
use crate::config::{Bounds, LoadError, Warning};

/// A tenant's folder with the files that the fixtures name.
pub(crate) struct Folder(tempfile::TempDir);

/// A tenant with one issuer of each kind and one workload, all correct.
pub(crate) const GOOD: &str = r#"[issuer.github]
[issuer.gitlab]
[issuer.cluster]
kind = "kubernetes"
url = "https://cluster.example"
[issuer.idp]
kind = "oidc"
url = "https://idp.example/"
[owner.team-platform]
name = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]
[resource.artifacts]
url = "https://artifacts.example"
[type.artifact]
fields = { region = "set", tier = "exact", size = "max", age = "min", folder = "path" }
[workload.release]
owner = "team-platform"
kind = "ci"
purpose = "publish release artifacts"
match = { issuer = "github", repository_id = "1296269" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]
"#;

/// The public key of RFC 7515, appendix A.3.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k",
"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            set_mode(&path, 0o600);
        };
        write("artifacts.secret", "s3cret\n");
        write("empty.secret", "\n");
        write("hook.secret", "a-secret-of-the-test\n");
        write("bad.whsec", "whsec_!\n");
        write("github-jwks.json", JWKS);
        write("no-keys.json", r#"{"keys":[]}"#);
        write("broken.json", "{");
        write("public.secret", "s3cret");
        set_mode(&folder.path().join("public.secret"), 0o644);
        Self(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn load(
        &self,
        files: &[(&str, &str)],
    ) -> Result<(Declared, Vec<Warning>), Vec<LoadError>> {
        let files = files
            .iter()
            .map(|(name, text)| SourceFile {
                name: (*name).into(),
                text: (*text).into(),
            })
            .collect();
        Declared::load(&Source::new(self.path(), files), &context())
    }

    /// The errors of one file with its policy, one a line, without the folder's own path.
    pub(super) fn errors(&self, text: &str) -> String {
        match self.load(&[("tenant.toml", text), POLICY]) {
            Ok(_) => "loads".to_string(),
            Err(errors) => self.lines(&errors),
        }
    }

    /// The warnings of one file that loads.
    pub(super) fn warnings(&self, text: &str) -> String {
        match self.load(&[("tenant.toml", text)]) {
            Ok((_, warnings)) => self.lines(&warnings),
            Err(errors) => panic!("{}", self.lines(&errors)),
        }
    }

    fn lines(&self, items: &[impl ToString]) -> String {
        let lines: Vec<_> = items.iter().map(ToString::to_string).collect();
        lines
            .join("\n")
            .replace(&format!("{}/", self.path().display()), "")
    }
}

/// Checks the errors of many texts; `loads` where there is none.
#[track_caller]
pub(super) fn check(cases: &[(String, &str)]) {
    let folder = Folder::new();
    let mut wrong = String::new();
    for (text, expected) in cases {
        let got = folder.errors(text);
        if got != *expected {
            wrong.push_str(&format!("\nwanted: {expected}\n   got: {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

const POLICY: (&str, &str) = (
    "policies/baseline.cedar",
    "permit(principal, action, resource);\n",
);

pub(super) fn context() -> TenantContext {
    TenantContext {
        issuer: "http://127.0.0.1:8440/acme".into(),
        bounds: Bounds::default(),
        operators: Some("https://people.example".into()),
    }
}

/// `GOOD` with one text replaced.
pub(super) fn good_but(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

/// `GOOD` with further keys of its workload, which then stand from line 18 on.
pub(super) fn good_with(keys: &str) -> String {
    good_but(
        "[workload.release]\n",
        &format!("[workload.release]\n{keys}\n"),
    )
}

/// The one workload of a text.
pub(super) fn workload(text: &str) -> dayfly_domain::Workload {
    let folder = Folder::new();
    match folder.load(&[("tenant.toml", text)]) {
        Ok((declared, _)) => declared.workloads.values().next().unwrap().workload.clone(),
        Err(errors) => panic!("{}", folder.lines(&errors)),
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
