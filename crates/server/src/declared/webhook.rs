//! `webhook_secret_file`: what proves that it is a platform that says that a run is over.

use std::path::Path;

use super::platform::IssuerKind;
use crate::config::{Node, Report, Secret, Table, is_world_readable};

/// How many secrets hold side by side: one is replaced by another, and nobody needs a third for long.
const MOST: usize = 4;
/// Fewest bytes of a secret.
const LEAST_BYTES: usize = 16;

/// What webhooks of an issuer are proven by.
#[derive(Clone, Debug)]
pub enum WebhookSecret {
    /// A text that both sides know.
    Text(Secret),
    /// A key of Standard Webhooks, decoded.
    Standard(Secret),
}

/// Reads the secrets, one file or a list of them.
pub(super) fn read(
    table: &mut Table<'_>,
    kind: Option<IssuerKind>,
    of_people: bool,
    base: &Path,
    report: &mut Report,
) -> Vec<WebhookSecret> {
    let Some(node) = table.get("webhook_secret_file") else {
        return Vec::new();
    };
    if of_people {
        let message = "no webhook ends what people started: its claims would have to name them";
        node.error(message, report);
        return Vec::new();
    }
    let items = node.one_or_more(report);
    if items.len() > MOST {
        let message = format!("`{}` names more than {MOST} files", node.name_of());
        node.error(message, report);
        return Vec::new();
    }
    let Some(kind) = kind else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| one(item, kind, base, report))
        .collect()
}

fn one(
    node: &Node<'_>,
    kind: IssuerKind,
    base: &Path,
    report: &mut Report,
) -> Option<WebhookSecret> {
    let path = node.path(base, report)?;
    let shown = path.display();
    let read = Secret::read(&path).map_err(|why| why.to_string());
    match read.and_then(|secret| of_kind(secret, kind)) {
        Ok(secret) => {
            if is_world_readable(&path) {
                let message = format!("everyone on this machine can read `{shown}`");
                report.warn(node.place(), message, None);
            }
            Some(secret)
        }
        Err(why) => {
            node.error(format!("the secret file `{shown}` {why}"), report);
            None
        }
    }
}

fn of_kind(secret: Secret, kind: IssuerKind) -> Result<WebhookSecret, String> {
    let standard = match kind {
        IssuerKind::Github => None,
        IssuerKind::Gitlab => secret.standard_webhooks(),
        IssuerKind::Kubernetes | IssuerKind::Oidc => Some(
            secret
                .standard_webhooks()
                .ok_or("does not begin with `whsec_`, as a secret of Standard Webhooks does")?,
        ),
    };
    let secret = match standard {
        None => WebhookSecret::Text(secret),
        Some(Ok(key)) => WebhookSecret::Standard(key),
        Some(Err(why)) => return Err(why.to_string()),
    };
    let (WebhookSecret::Text(bytes) | WebhookSecret::Standard(bytes)) = &secret;
    let length = bytes.expose().len();
    if length < LEAST_BYTES {
        return Err(format!(
            "holds a secret of {length} bytes, wanted {LEAST_BYTES} or more"
        ));
    }
    Ok(secret)
}
