//! What the provider of people says in a run, and who is let in again.

use dayfly_domain::BlockOn;

use super::{Lie, Running, Verdict, nth};
use crate::persons::{PEOPLE, Word};
use crate::reached::Place;

/// How many words are kept to be said again: the last.
const KEPT: usize = 12;
/// How far in the future, and how long ago, a word may be made that is believed.
const SKEW_SECONDS: u64 = 60;
const LATE_SECONDS: u64 = 30 * 86_400;

impl Running {
    /// A word about somebody, said so late, of what happened so long before: mostly about one of those
    /// for whom something runs or waits, or who approved it.
    pub(super) async fn say(&mut self, word: (usize, u64, u64, bool)) -> Verdict {
        let (who, late, before, gone) = word;
        let (any, who) = (who.is_multiple_of(4), who / 4);
        let concerned = nth(&self.model.concerned(), who).filter(|_| !any);
        let who = concerned.unwrap_or(who % PEOPLE.len());
        let word = Word::new(self.model.now, who, late, before, gone);
        self.words.push(word.clone());
        if self.words.len() > KEPT {
            self.words.remove(0);
        }
        self.hear(&word).await
    }

    /// One that was said before.
    pub(super) async fn say_again(&mut self, place: usize) -> Verdict {
        let Some(word) = nth(&self.words, place) else {
            return Ok(());
        };
        let now = self.model.now;
        let ahead = word.made.since(now).seconds() >= SKEW_SECONDS;
        if ahead || now.since(word.made).seconds() >= LATE_SECONDS {
            return Ok(());
        }
        self.reached.count(Place::SaidAgain);
        self.hear(&word).await
    }

    /// It is obeyed at once, whatever becomes of the ledger.
    async fn hear(&mut self, word: &Word) -> Verdict {
        let said = word.say(&self.world).await;
        self.judge(Some(true), said)?;
        if self.lie != Lie::WordsAreNothing {
            let open = |running: &Self| {
                let of = running.model.tasks.values();
                let of = of.filter(|task| task.person.is_some_and(|login| login.who == word.who));
                of.filter(|task| !running.model.is_over(task)).count()
            };
            let (before, out) = (open(self), self.model.words.out.len());
            self.model.hear_of(word.who, word.upto, word.gone);
            let ended = open(self) < before;
            self.reached.count_if(ended, Place::LoggedOut);
            let put_out = self.model.words.out.len() > out;
            self.reached.count_if(put_out, Place::PutOut);
            self.reached.count_if(!self.is_clear(), Place::SaidInAStall);
        }
        Ok(())
    }

    /// Somebody who is out is let in again.
    pub(super) async fn let_in(&mut self, place: usize) -> Verdict {
        let out: Vec<usize> = self.model.words.out.keys().copied().collect();
        let Some(who) = nth(&out, place) else {
            return Ok(());
        };
        let on = self.block_on(who).await;
        let done = self.lift_block(on).await?;
        if done {
            self.model.let_in(who);
            self.reached.count(Place::LetIn);
        }
        Ok(())
    }

    /// What keeps a person out.
    pub(super) async fn block_on(&self, who: usize) -> BlockOn {
        let word = Word::new(self.model.now, who % PEOPLE.len(), 0, 0, false);
        word.block(&self.world).await
    }
}
