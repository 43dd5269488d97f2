//! The client for one place that is asked again and again: a connection serves many questions, and none outlives the check of its address for long.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use dayfly_domain::{Span, Time};
use reqwest::Client;
use zeroize::Zeroizing;

use super::{FetchError, Request, Roots, ask, check, client, roots};
use crate::verify::address::Reach;

/// How long a client is kept, and with it each connection.
const KEPT: Span = Span::from_seconds(60);
/// How many of its connections are kept open while nobody uses them.
const IDLE: usize = 16;

/// The client for one place that is asked again and again, so that a connection serves many questions.
#[derive(Debug, Default)]
pub(in crate::verify) struct KeptClient(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    client: Client,
    /// Tells it from those that were kept before.
    number: u64,
    reach: Reach,
    roots: Option<Roots>,
    made: Time,
}

impl KeptClient {
    /// Asks with a POST of JSON, under the bounds of [`get`], but that a connection is kept for a minute:
    /// it was made to an address that was judged then. A `ca_file` is read each time, so that a renewed
    /// one counts at once. Question and answer may hold a secret: both are wiped when they are dropped.
    ///
    /// A question may be asked twice: a server may close a connection while the next question is on
    /// its way there.
    pub(in crate::verify) async fn post(
        &self,
        request: Request<'_>,
        question: Zeroizing<Vec<u8>>,
        now: Time,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let (url, reach) = check(request)?;
        let roots = roots(request.ca_file).await?;
        let question = Bytes::from_owner(question);
        let ask = |client: Client| ask(request, client.post(url.clone()), question.clone());
        let (client, number) = match self.at_hand(reach, roots.as_ref(), now) {
            Some(kept) => kept,
            None => return ask(self.another(reach, roots, None, now)?).await,
        };
        match ask(client).await {
            Err(FetchError::Http { source, .. })
                if !source.is_connect() && !source.is_timeout() =>
            {
                ask(self.another(reach, roots, Some(number), now)?).await
            }
            answer => answer,
        }
    }

    /// The client that is kept, where it may be used still.
    fn at_hand(&self, reach: Reach, roots: Option<&Roots>, now: Time) -> Option<(Client, u64)> {
        let kept = self.kept();
        let kept = kept.as_ref()?;
        // Whichever is first: a clock that was set back keeps no connection.
        let age = now.since(kept.made).max(kept.made.since(now));
        let same = kept.reach == reach && kept.roots.as_ref() == roots;
        (same && age < KEPT).then(|| (kept.client.clone(), kept.number))
    }

    /// A client in the place of this one, or of whichever may not be used any more.
    fn another(
        &self,
        reach: Reach,
        roots: Option<Roots>,
        instead: Option<u64>,
        now: Time,
    ) -> Result<Client, FetchError> {
        let mut kept = self.kept();
        let number = kept.as_ref().map_or(0, |kept| kept.number);
        // Somebody else has made one since.
        if let Some(kept) = kept.as_ref()
            && instead.is_some_and(|instead| instead != kept.number)
        {
            return Ok(kept.client.clone());
        }
        let client = client(reach, roots.as_ref(), IDLE)?;
        *kept = Some(Kept {
            client: client.clone(),
            number: number + 1,
            reach,
            roots,
            made: now,
        });
        Ok(client)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        // INVARIANT: what is kept is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
