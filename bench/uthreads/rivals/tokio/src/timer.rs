//! Deadlines: waits that end before theirs, and how late one is that comes. tokio's clock has milliseconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::{now, on_worker};

const SLEEP_NS: u64 = 200_000;
const SECOND: Duration = Duration::from_secs(1);

async fn wait_a_second(sem: &Semaphore) {
    let permit = timeout(SECOND, sem.acquire())
        .await
        .expect("somebody came within a second");
    permit.expect("it is open").forget();
}

/// As the semaphore's ping-pong, but each of the two waits has a deadline of a second.
pub fn timed(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let both = Arc::new((Semaphore::new(0), Semaphore::new(0)));
        let other = tokio::spawn({
            let both = Arc::clone(&both);
            async move {
                for _ in 0..ops {
                    wait_a_second(&both.0).await;
                    both.1.add_permits(1);
                }
            }
        });
        let start = now();
        for _ in 0..ops {
            both.0.add_permits(1);
            wait_a_second(&both.1).await;
        }
        let took = now() - start;
        other.await.expect("the task ran");
        took
    })
}

/// How late after it was due the task goes on.
pub fn late(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let mut total = 0;
        for _ in 0..ops {
            let due = now() + SLEEP_NS;
            sleep(Duration::from_nanos(SLEEP_NS)).await;
            total += now().saturating_sub(due);
        }
        total
    })
}
