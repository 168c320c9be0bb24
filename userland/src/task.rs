//! Futures over sockets: the least that runs one.
//!
//! Sockets register the waker of the task that waits for them; whoever takes the sockets' news
//! ([`block_on`] here, or [`crate::poll::Poll::poll`]) wakes it. Any executor works that calls one
//! of the two when it has nothing to do. A socket has one waiting task: a second replaces it.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering::*};
use core::task::{Context, Poll};

use crate::runtime::Runtime;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Release);
    }
}

/// Runs `future` to its end on this thread, sleeping while nothing has news.
pub fn block_on<F: Future>(rt: &Runtime, future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = woken.clone().into();
    let mut context = Context::from_waker(&waker);
    loop {
        while !woken.0.swap(false, AcqRel) {
            rt.wait(None);
            rt.take_console();
            while let Some(id) = rt.next_ready() {
                rt.wake_task(id);
            }
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
