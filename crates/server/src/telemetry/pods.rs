//! What is told of clusters that are asked about their pods, read where it is counted.

use super::{Metrics, OfIssuer, Origin, Reviewed};
use crate::app::App;

impl Metrics {
    pub(super) fn look_at_pods(&self, app: &App) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // They are counted where they are asked, and read here like a state.
        self.token_reviews.clear();
        self.token_reviews_failing.clear();
        self.watched_pods.clear();
        self.pods_turned_away.clear();
        self.unasked_tasks.clear();
        for status in app.token_reviews() {
            for (outcome, count) in [
                ("stands", status.stands),
                ("fell", status.fell),
                ("unanswered", status.unanswered),
            ] {
                let origin = status.origin.clone();
                let counted = self
                    .token_reviews
                    .get_or_create(&Reviewed { origin, outcome });
                counted.inc_by(count);
            }
            let label = Origin {
                origin: status.origin,
            };
            let failing = i64::from(status.failure.is_some());
            let gauge = self.token_reviews_failing.get_or_create(&label);
            gauge.set(gauge.get().max(failing));
        }
        for of in app.pods_of_clusters() {
            let label = OfIssuer {
                tenant: of.tenant.to_string(),
                issuer: of.issuer.to_string(),
            };
            let pods = count(of.pods as u64);
            self.watched_pods.get_or_create(&label).set(pods);
            let turned_away = self.pods_turned_away.get_or_create(&label);
            turned_away.inc_by(of.turned_away);
            if let Some(unasked) = of.unasked {
                self.unasked_tasks.get_or_create(&label).set(count(unasked));
            }
        }
    }
}
