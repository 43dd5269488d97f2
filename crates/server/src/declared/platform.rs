//! What is known about each kind of issuer: its address, its claims, and how it names a run.

use dayfly_domain::{KeyRule, Reopen, Span};

/// What an issuer is; it decides how its tokens are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerKind {
    /// GitHub Actions.
    Github,
    /// GitLab CI.
    Gitlab,
    /// A Kubernetes cluster.
    Kubernetes,
    /// Any OpenID provider.
    Oidc,
}

/// The kinds that this build serves, by their words in configuration.
pub(super) const SERVED: [(&str, IssuerKind); 4] = [
    ("github", IssuerKind::Github),
    ("gitlab", IssuerKind::Gitlab),
    ("kubernetes", IssuerKind::Kubernetes),
    ("oidc", IssuerKind::Oidc),
];

/// The kinds that the design knows and this build does not serve.
pub(super) const NOT_SERVED: [&str; 6] = ["buildkite", "circleci", "spiffe", "aws", "gcp", "azure"];

/// The issuer of everybody's tokens at GitHub.
pub(super) const GITHUB_URL: &str = "https://token.actions.githubusercontent.com";
/// The issuer of everybody's tokens at GitLab.
pub(super) const GITLAB_URL: &str = "https://gitlab.com";

impl IssuerKind {
    /// Its word in configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Kubernetes => "kubernetes",
            Self::Oidc => "oidc",
        }
    }

    /// How long the claim of a task key is kept after the last proof of it.
    pub(super) const fn keep(self) -> Span {
        match self {
            Self::Github | Self::Gitlab => Span::from_seconds(36 * 86_400),
            Self::Kubernetes | Self::Oidc => Span::from_seconds(25 * 3600),
        }
    }

    /// After which ends a task may start again, by what the workload says of `reopen`. A pod keeps
    /// its identity while its containers fail and start again.
    pub(super) const fn reopen(self, declared: Option<bool>) -> Reopen {
        match (self, declared) {
            (_, Some(false)) | (Self::Github | Self::Gitlab | Self::Oidc, None) => Reopen::Never,
            (Self::Kubernetes, Some(true) | None) => Reopen::SilentOrFailed,
            (Self::Github | Self::Gitlab | Self::Oidc, Some(true)) => Reopen::Silent,
        }
    }

    /// The claim that says what started a run, and the values accepted where `match` names none.
    pub(super) const fn events(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::Github => Some((
                "event_name",
                &[
                    "push",
                    "schedule",
                    "release",
                    "workflow_dispatch",
                    "repository_dispatch",
                    "merge_group",
                ],
            )),
            Self::Gitlab => Some((
                "pipeline_source",
                &[
                    "push",
                    "web",
                    "schedule",
                    "api",
                    "trigger",
                    "pipeline",
                    "parent_pipeline",
                ],
            )),
            Self::Kubernetes | Self::Oidc => None,
        }
    }

    /// The claims that keep their value for the life of what they name and are never given again,
    /// the narrowest first.
    pub(super) const fn immutable(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["repository_id", "repository_owner_id", "enterprise_id"],
            Self::Gitlab => &["project_id", "namespace_id"],
            Self::Kubernetes => &["serviceaccount_uid", "node_uid"],
            Self::Oidc => &["sub"],
        }
    }

    /// The claims that say whose run it is, by id or by name, where the issuer serves everybody.
    pub(super) fn whose(self, url: &str) -> &'static [&'static str] {
        match (self, url) {
            (Self::Github, GITHUB_URL) => &[
                "repository_id",
                "repository_owner_id",
                "enterprise_id",
                "repository",
                "repository_owner",
                "enterprise",
                "sub",
                "job_workflow_ref",
            ],
            (Self::Gitlab, GITLAB_URL) => &[
                "project_id",
                "namespace_id",
                "project_path",
                "namespace_path",
                "user_id",
                "user_login",
                "sub",
            ],
            (Self::Github | Self::Gitlab | Self::Kubernetes | Self::Oidc, _) => &[],
        }
    }

    /// The claims that its tokens are known to carry, to tell a misspelt one by.
    pub(super) const fn claims(self) -> &'static [&'static str] {
        match self {
            Self::Github => GITHUB_CLAIMS,
            Self::Gitlab => GITLAB_CLAIMS,
            Self::Kubernetes => &[
                "namespace",
                "serviceaccount",
                "serviceaccount_uid",
                "pod",
                "pod_uid",
                "node",
                "node_uid",
                "sub",
            ],
            Self::Oidc => &[],
        }
    }

    /// The words that `task` may have, the default first. None where it must be a table.
    pub(super) const fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["job", "run"],
            Self::Gitlab => &["job", "pipeline"],
            Self::Kubernetes => &["pod"],
            Self::Oidc => &[],
        }
    }

    /// How a proof names its task, for one of the words of [`IssuerKind::tasks`].
    pub(super) fn key_rule(self, task: &str) -> Option<KeyRule> {
        let rule = |key: &[&str], series: &[&str], attempt: Option<&str>, hint: &str| KeyRule {
            key: key.iter().map(ToString::to_string).collect(),
            series: series.iter().map(ToString::to_string).collect(),
            attempt: attempt.map(ToString::to_string),
            hint: hint.to_string(),
        };
        let run = ["repository_id", "run_id"];
        match (self, task) {
            (Self::Github, "job") => Some(rule(
                &["repository_id", "run_id", "check_run_id"],
                &run,
                Some("run_attempt"),
                "a token without `check_run_id` names no job: declare `task = \"run\"`",
            )),
            (Self::Github, "run") => Some(rule(&run, &run, Some("run_attempt"), "")),
            (Self::Gitlab, "job") => Some(rule(&["job_id"], &["job_id"], None, "")),
            (Self::Gitlab, "pipeline") => Some(rule(&["pipeline_id"], &["pipeline_id"], None, "")),
            (Self::Kubernetes, "pod") => Some(rule(
                &["pod_uid"],
                &["pod_uid"],
                None,
                "only a token that is bound to a pod is accepted: project one with a service account token volume",
            )),
            (Self::Github | Self::Gitlab | Self::Kubernetes | Self::Oidc, _) => None,
        }
    }
}

const GITHUB_CLAIMS: &[&str] = &[
    "actor",
    "actor_id",
    "base_ref",
    "check_run_id",
    "enterprise",
    "enterprise_id",
    "environment",
    "event_name",
    "head_ref",
    "job_workflow_ref",
    "job_workflow_sha",
    "ref",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "run_attempt",
    "run_id",
    "run_number",
    "runner_environment",
    "sha",
    "sub",
    "workflow",
    "workflow_ref",
    "workflow_sha",
];

const GITLAB_CLAIMS: &[&str] = &[
    "ci_config_ref_uri",
    "ci_config_sha",
    "deployment_tier",
    "environment",
    "environment_protected",
    "job_id",
    "job_namespace_id",
    "job_namespace_path",
    "job_project_id",
    "job_project_path",
    "namespace_id",
    "namespace_path",
    "pipeline_id",
    "pipeline_source",
    "project_id",
    "project_path",
    "project_visibility",
    "ref",
    "ref_path",
    "ref_protected",
    "ref_type",
    "runner_environment",
    "runner_id",
    "sha",
    "sub",
    "user_access_level",
    "user_email",
    "user_id",
    "user_login",
];
