//! Follows one tenant's ledger for one `notify` sink, by position, behind the commits.

use std::sync::Arc;
use std::time::Duration;

use dayfly_domain::{Name, Time};
use dayfly_ledger::ReadLeaf;
use dayfly_store::{
    Append, AppendError, Document, EntryRange, FactsQuery, Store, StoredEntry, Unavailable,
};
use dayfly_token::hash::sha256;
use tokio::sync::watch;

use super::courier::{Courier, NotTaken};
use super::letter::{Beside, Letter, WebhookKey};
use super::{Subscriber, stop};
use crate::app::{App, Tenant};
use crate::config::NotifySink;

/// How often the ledger is looked at once everything of it was told.
const LOOK: Duration = Duration::from_millis(500);
/// How many entries are read at once, which is also how many deliveries a crash repeats at most.
const PAGE: usize = 64;
/// After how many entries of other kinds the position is kept though nothing was delivered.
const QUIET: u64 = 1024;
/// How long keeping the position may take while the server stops.
const LAST: Duration = Duration::from_secs(2);

/// One sink in one ledger.
pub(super) struct Follower {
    app: Arc<App>,
    tenant: Arc<Tenant>,
    sink: NotifySink,
    key: WebhookKey,
    courier: Courier,
    /// The document that holds the position.
    document: String,
    /// The next position to look at.
    next: u64,
    /// The position that is durable.
    kept: u64,
    /// Whether something was delivered that the durable position does not know of.
    delivered: bool,
}

/// Why there is no further step now.
#[derive(Debug)]
enum Held {
    NotTaken,
    Store(Unavailable),
}

impl From<NotTaken> for Held {
    fn from(_: NotTaken) -> Self {
        Self::NotTaken
    }
}

impl From<Unavailable> for Held {
    fn from(why: Unavailable) -> Self {
        Self::Store(why)
    }
}

impl Follower {
    pub(super) async fn open(
        app: Arc<App>,
        tenant: Arc<Tenant>,
        subscriber: &Subscriber,
        courier: Courier,
    ) -> Result<Self, Unavailable> {
        let document = document(&subscriber.sink);
        let size = app.store().head(tenant.name())?.size;
        let kept = kept(app.store(), tenant.name(), &document)?;
        let mut follower = Self {
            app,
            tenant,
            sink: subscriber.sink.clone(),
            key: subscriber.key.clone(),
            courier,
            document,
            next: kept.unwrap_or(size),
            kept: kept.unwrap_or(size),
            delivered: false,
        };
        if kept.is_none() {
            let keep = follower.keep().await;
            keep.map_err(|why| Unavailable(why.to_string()))?;
        }
        Ok(follower)
    }

    pub(super) async fn run(mut self, stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            () = stop(stopping) => {}
        }
        if self.next != self.kept {
            let _late = tokio::time::timeout(LAST, self.keep()).await;
        }
    }

    async fn follow(&mut self) {
        let mut unread = false;
        loop {
            let step = self.step().await;
            if self.delivered || self.next.saturating_sub(self.kept) >= QUIET {
                // What is not kept is repeated after a crash, which the sink was told to expect.
                if let Err(why) = self.keep().await {
                    tracing::debug!(%why, sink = %self.sink.url, "the position of a sink is not kept");
                }
            }
            match step {
                Ok(more) => {
                    unread = false;
                    if !more {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                Err(Held::NotTaken) => self.courier.pause().await,
                Err(Held::Store(why)) => {
                    if !unread {
                        tracing::error!(%why, tenant = %self.tenant.name(), "the ledger cannot be read for a sink");
                    }
                    unread = true;
                    self.courier.pause().await;
                }
            }
        }
    }

    /// Goes on by one page at most. Gives whether there may be more.
    async fn step(&mut self) -> Result<bool, Held> {
        let size = self.app.store().head(self.tenant.name())?.size;
        let range = EntryRange::From(self.next);
        let page = self.app.store().entries(self.tenant.name(), range, PAGE)?;
        let Some(first) = page.first() else {
            return Ok(false);
        };
        if let Some(to) = self.given_up(first, size)? {
            self.tell_gap(to).await?;
            return Ok(true);
        }
        let more = page.len() == PAGE;
        for entry in page {
            let origin = self.tenant.origin();
            let loaded = self.tenant.loaded();
            let beside = Beside {
                owners: &loaded.declared.owners,
                admin_url: self.app.admin_url(),
            };
            if let Some(letter) = Letter::of(&entry, origin, &self.sink.on, &beside) {
                self.deliver(&letter).await?;
            }
            self.next = entry.pos + 1;
        }
        Ok(more)
    }

    async fn deliver(&mut self, letter: &Letter) -> Result<(), Held> {
        let sealed = letter.seal(&self.key, self.app.now());
        let (headers, body) = sealed.map_err(|why| Unavailable(why.to_string()))?;
        self.courier.post(headers, body).await?;
        self.delivered = true;
        Ok(())
    }

    /// Up to where the entries are told no more, because they are too many or too old. Half of what
    /// may wait is left, so that one gap is not followed by another at once.
    fn given_up(&self, first: &StoredEntry, size: u64) -> Result<Option<u64>, Unavailable> {
        let mut to = self.next;
        if size.saturating_sub(self.next) > self.sink.behind {
            to = size - self.sink.behind / 2;
        }
        let oldest = self.app.now() - self.sink.keep;
        if at(first).is_some_and(|at| at < oldest) {
            to = to.max(self.first_since(oldest, size)?);
        }
        Ok((to > self.next).then_some(to))
    }

    /// The first position whose entry is not older than this; the end where all are.
    fn first_since(&self, oldest: Time, size: u64) -> Result<u64, Unavailable> {
        // INVARIANT: `at` never decreases with the position.
        let (mut low, mut high) = (self.next, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let range = EntryRange::From(middle);
            let found = self.app.store().entries(self.tenant.name(), range, 1)?;
            if found.first().and_then(at).is_some_and(|at| at < oldest) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    async fn tell_gap(&mut self, to: u64) -> Result<(), Held> {
        let gap = self.next..to;
        let (tenant, origin) = (self.tenant.name().as_str(), self.tenant.origin());
        let letter = Letter::of_gap(tenant, origin, &gap, self.app.now());
        self.deliver(&letter).await?;
        tracing::warn!(tenant = %self.tenant.name(), to = %self.sink.url, from = gap.start, until = gap.end, "a sink was away too long: it was told of a gap instead of these entries");
        self.next = to;
        Ok(())
    }

    async fn keep(&mut self) -> Result<(), AppendError> {
        let append = Append {
            now: self.app.now(),
            documents: vec![Document {
                name: self.document.clone(),
                bytes: Some(self.next.to_string().into_bytes()),
            }],
            ..Append::default()
        };
        self.app.store().append(self.tenant.name(), append).await?;
        self.kept = self.next;
        self.delivered = false;
        Ok(())
    }
}

/// The name of a sink's position: by its URL, so that sinks may be written in another order.
fn document(sink: &NotifySink) -> String {
    let digest = sha256(sink.url.expose().as_str().as_bytes());
    let half = digest.iter().take(16);
    half.fold("notify/".to_owned(), |name, byte| {
        format!("{name}{byte:02x}")
    })
}

/// The position that was kept; none for a sink that is new to the ledger.
fn kept(store: &dyn Store, tenant: &Name, document: &str) -> Result<Option<u64>, Unavailable> {
    let query = FactsQuery {
        documents: Some(document),
        ..FactsQuery::default()
    };
    let documents = store.facts(tenant, &query)?.documents;
    let Some((_, bytes)) = documents.into_iter().find(|(name, _)| name == document) else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).ok();
    let position = text.and_then(|text| text.parse().ok());
    match position {
        Some(position) => Ok(Some(position)),
        None => Err(Unavailable(format!("`{document}` holds no position"))),
    }
}

fn at(entry: &StoredEntry) -> Option<Time> {
    let read = ReadLeaf::parse(entry.leaf.as_bytes()).ok()?;
    Some(Time::from_millis(read.leaf.at))
}
