//! Threads for work that computes rather than waits.
//!
//! Read [`compute`] for short pieces of work and [`long`] for long ones. The runtime's own
//! threads for blocking work are many and take turns, and the allocator keeps for each what it
//! may need again: with megabytes a piece that adds up. Here few threads do all of it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

type Work = Box<dyn FnOnce() + Send>;

/// How the threads of [`compute`] rank among all, of 99: well below the 49 of those that answer, so
/// that a look-up does not wait for its turn behind whole batches.
const COMPUTE_PRIORITY: u8 = 25;
/// The same of [`long`]: above the others, so that what many small batches leave behind is merged
/// however fast they come.
const LONG_PRIORITY: u8 = 37;

/// What waits for a thread of those that stay, the oldest first.
struct Queue {
    waiting: Mutex<VecDeque<Work>>,
    arrived: Condvar,
}

impl Queue {
    fn push(&self, work: Work) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(work);
        self.arrived.notify_one();
    }

    fn serve(&self) {
        set_priority(COMPUTE_PRIORITY);
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let work = loop {
                match waiting.pop_front() {
                    Some(work) => break work,
                    None => {
                        let woken = self.arrived.wait(waiting);
                        waiting = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(waiting);
            work();
        }
    }
}

/// One queue and a thread a core, made when first used.
static QUEUE: LazyLock<&'static Queue> = LazyLock::new(|| {
    let queue: &'static Queue = Box::leak(Box::new(Queue {
        waiting: Mutex::default(),
        arrived: Condvar::new(),
    }));
    let cores = thread::available_parallelism().map_or(2, usize::from);
    for number in 0..cores {
        let named = thread::Builder::new().name(format!("worker-{number}"));
        // With none at all, work waits for ever; but a process without room for a thread does
        // not come this far.
        let _ = named.spawn(|| queue.serve());
    }
    queue
});

/// Runs a piece of work that computes on one of a few threads that stay. It may use the runtime
/// of its caller, but must not wait for other work of this kind.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (work, outcome) = piece(work);
    QUEUE.push(work);
    outcome.await.map_err(stopped)?
}

/// Runs a long piece of work on a thread of its own, which ends with it. The result comes through
/// the channel; dropping that does not stop the work.
pub(super) fn long<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (work, outcome) = piece(work);
    thread::Builder::new()
        .name("long-work".to_owned())
        .spawn(|| {
            set_priority(LONG_PRIORITY);
            work();
        })?;
    Ok(outcome)
}

fn set_priority(priority: u8) {
    if let Ok(priority) = ThreadPriorityValue::try_from(priority) {
        // Where the system does not let it, work is done as fast as everything else.
        let _ = set_current_thread_priority(ThreadPriority::Crossplatform(priority));
    }
}

/// The error of a piece of work that ended without a result.
pub(super) fn stopped(_: oneshot::error::RecvError) -> Error {
    Error::internal("a thread stopped before its work was done")
}

/// A piece of work that sends its result, and where it arrives; nothing does if it panics.
fn piece<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<T>>) {
    let (sender, outcome) = oneshot::channel();
    let runtime = Handle::current();
    let piece = move || {
        let _entered = runtime.enter();
        // The thread outlives the work; what the work held is dropped by unwinding.
        if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        }
    };
    (Box::new(piece), outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_piece_of_work_that_panics_is_an_error_and_the_next_is_done() {
        for _ in 0..64 {
            let broken = compute::<()>(|| panic!("as intended")).await;
            assert!(broken.unwrap_err().message().contains("stopped"));
        }
        assert_eq!(compute(|| Ok(7)).await.unwrap(), 7);
        let spawned = long(|| Ok(Handle::current().metrics().num_workers()));
        assert_eq!(spawned.unwrap().await.unwrap().unwrap(), 1);
    }
}
