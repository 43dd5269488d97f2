//! The server is killed with SIGKILL at random moments under load, twenty times: what it had
//! acknowledged before each kill holds after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::client::{Client, Outcome};
use crate::stage::{Shared, Stage, TENANT, client};

const ROUNDS: u64 = 20;
const WORKERS: u64 = 4;

/// What was acknowledged to one worker, in order.
#[derive(Default)]
struct Acknowledged {
    open: Vec<Client>,
    ended: Vec<Client>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    // Tokens that outlive the test on a machine that is slow: one that expired proves nothing.
    let declared = TENANT.replace("access  = [", "token   = { ttl = \"50m\" }\naccess  = [");
    let mut stage = Stage::configured("http", "", &declared, client([]));
    let mut held = Acknowledged::default();
    for round in 0..ROUNDS {
        stage.start().await;
        check(&stage, &held, round).await;
        // Only a sample goes on to the next round, so that checking stays quick.
        held.open.truncate(40);
        held.ended.truncate(40);

        let acknowledged = Arc::new(AtomicUsize::new(0));
        let killed = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (acknowledged, killed) = (Arc::clone(&acknowledged), Arc::clone(&killed));
                let stage = stage.shared();
                let seed = round * WORKERS + worker;
                tokio::spawn(work(stage, seed, acknowledged, killed))
            })
            .collect();
        // A number of acknowledgements, different in each round, and no clock, says when.
        let moment = 20 + usize::try_from(mix(round) % 150).unwrap();
        while acknowledged.load(Ordering::SeqCst) < moment {
            tokio::task::yield_now().await;
        }
        stage.kill();
        killed.store(true, Ordering::SeqCst);
        for worker in workers {
            let mut done = worker.await.unwrap();
            held.open.append(&mut done.open);
            held.ended.append(&mut done.ended);
        }
    }
    stage.start().await;
    check(&stage, &held, ROUNDS).await;
    stage.stop();
    stage.fsck();
}

/// Opens tasks and ends every second of them, until the server is gone.
async fn work(
    stage: Arc<Shared>,
    seed: u64,
    acknowledged: Arc<AtomicUsize>,
    killed: Arc<AtomicBool>,
) -> Acknowledged {
    let mut done = Acknowledged::default();
    for run in 0.. {
        if killed.load(Ordering::SeqCst) {
            break;
        }
        let Outcome::Answered(client) = Client::grant(&stage, seed * 100_000 + run).await else {
            continue;
        };
        acknowledged.fetch_add(1, Ordering::SeqCst);
        if run % 2 == 0 {
            done.open.push(client);
            continue;
        }
        match client.end(&stage).await {
            Outcome::Answered(()) => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
                done.ended.push(client);
            }
            // Neither acknowledged as ended nor known to be open: it proves nothing.
            Outcome::Lost => {}
        }
    }
    done
}

async fn check(stage: &Stage, held: &Acknowledged, round: u64) {
    let shared = stage.shared();
    for client in &held.open {
        let told = client.introspect(&shared).await;
        assert!(
            told,
            "round {round}: an answered grant is gone: {}",
            client.task
        );
        let with_another_key = client.replay_with_another_key(&shared).await;
        assert_eq!(
            with_another_key, "retry_other_key",
            "round {round}: a spent proof is not spent"
        );
    }
    for client in &held.ended {
        let told = client.introspect(&shared).await;
        assert!(
            !told,
            "round {round}: an acknowledged end does not end: {}",
            client.task
        );
        let again = client.replay(&shared).await;
        assert_eq!(
            again, "proof_spent",
            "round {round}: a spent proof is not spent"
        );
        assert_eq!(client.renew(&shared).await, "task_ended", "round {round}");
    }
}

/// SplitMix64: the moments differ from round to round and are the same in every run.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
