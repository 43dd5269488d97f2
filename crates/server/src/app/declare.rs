//! Making a folder the declared state.

use std::collections::BTreeMap;

use dayfly_domain::Name;
use dayfly_store::{AppendError, OpenFilter, OpenTask};

use super::operate::{Operator, signed_by};
use super::tenant::{OpenError, declare};
use super::{App, Tenant};
use crate::declared::{Declared, LoadError, Source, diff};

/// What an apply did or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The differences, a line each.
    pub changes: Vec<String>,
    /// The revision in force afterwards.
    pub revision: u64,
    /// What is odd about the new state.
    pub warnings: Vec<String>,
    /// Whether it was applied rather than only compared.
    pub applied: bool,
}

/// Why the folder did not become the declared state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The folder does not load; the former state stays.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Load(Vec<LoadError>),
    /// Something that has open tasks would disappear.
    #[error("{} would disappear and {} open: end them first", .what, tasks(*.open))]
    OpenTasks {
        /// What would disappear.
        what: String,
        /// How many tasks it has open.
        open: u64,
    },
    /// Another apply came first.
    #[error("the declared state was changed by somebody else meanwhile; look again with --dry-run")]
    Raced,
    /// The store or the keys fail.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn tasks(open: u64) -> String {
    if open == 1 {
        "1 task is".to_owned()
    } else {
        format!("{open} tasks are")
    }
}

impl App {
    /// Makes the tenant's folder its declared state, or says what that would change.
    ///
    /// # Errors
    /// [`ApplyError`]; the former state then stays in force.
    pub async fn apply(
        &self,
        tenant: &Tenant,
        dry_run: bool,
        by: &Operator,
        reason: &str,
    ) -> Result<Applied, ApplyError> {
        let _one_at_a_time = tenant.applying.lock().await;
        let before = tenant.loaded();
        let source =
            Source::read_folder(tenant.folder()).map_err(|why| ApplyError::Load(vec![why]))?;
        let (declared, warnings) =
            Declared::load(&source, tenant.context()).map_err(ApplyError::Load)?;
        let changes: Vec<String> = diff(&before.source, &source)
            .iter()
            .map(ToString::to_string)
            .collect();
        self.check_nothing_open_disappears(tenant, &before.declared, &declared)?;
        let mut applied = Applied {
            changes,
            revision: before.revision,
            warnings: warnings.iter().map(ToString::to_string).collect(),
            applied: false,
        };
        let now = self.now();
        if dry_run {
            return Ok(applied);
        }
        if source.hash() == before.source.hash() {
            tenant.refresh(self.store.as_ref(), now).await?;
            return Ok(applied);
        }
        let annex = signed_by(by, reason).map_err(OpenError::from)?;
        match self
            .store
            .append(tenant.name(), declare(&source, now, annex, before.revision))
            .await
        {
            Ok(_) => {}
            Err(AppendError::Revised) => return Err(ApplyError::Raced),
            Err(error) => return Err(OpenError::from(error).into()),
        }
        tenant.reload(self.store.as_ref(), now).await?;
        applied.revision = tenant.loaded().revision;
        applied.applied = true;
        Ok(applied)
    }

    fn check_nothing_open_disappears(
        &self,
        tenant: &Tenant,
        before: &Declared,
        after: &Declared,
    ) -> Result<(), ApplyError> {
        let gone_workload = |name: &Name| {
            before.workloads.contains_key(name) && !after.workloads.contains_key(name)
        };
        let gone_owner =
            |name: &Name| before.owners.contains_key(name) && !after.owners.contains_key(name);
        let gone_issuer =
            |name: &Name| before.issuers.contains_key(name) && !after.issuers.contains_key(name);
        let mut open: BTreeMap<String, u64> = BTreeMap::new();
        self.each_open(tenant, |task| {
            let task = &task.task;
            for (gone, what) in [
                (
                    gone_workload(&task.workload),
                    format!("workload {}", task.workload),
                ),
                (gone_owner(&task.owner), format!("owner {}", task.owner)),
                (gone_issuer(&task.issuer), format!("issuer {}", task.issuer)),
            ] {
                if gone {
                    *open.entry(what).or_default() += 1;
                }
            }
        })
        .map_err(OpenError::from)?;
        match open.into_iter().next() {
            None => Ok(()),
            Some((what, open)) => Err(ApplyError::OpenTasks { what, open }),
        }
    }

    /// Visits every open task of a tenant, a page at a time.
    pub(super) fn each_open(
        &self,
        tenant: &Tenant,
        mut visit: impl FnMut(&OpenTask),
    ) -> Result<(), dayfly_store::Unavailable> {
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(tenant.name(), &OpenFilter::All, cursor, 1024)?;
            for open in &page {
                visit(open);
            }
            match page.last() {
                Some(last) => cursor = Some(last.task.id),
                None => return Ok(()),
            }
        }
    }
}
