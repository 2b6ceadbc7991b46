//! A value that others watch. As tokio's `watch`, but those that wait are woken in the order in which they began to.
//!
//! tokio wakes them in an order drawn at random, so a simulation that is to replay exactly would take another course
//! whenever two loops wait for the same change. The value, and what of it was seen, are tokio's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// The sender is gone: nothing will change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing will change any more")]
pub struct Closed;

#[derive(Debug, Default)]
struct Waiting {
    wake: Notify,
    closed: AtomicBool,
}

/// The one that changes the value.
#[derive(Debug)]
pub struct Sender<T> {
    value: watch::Sender<T>,
    waiting: Arc<Waiting>,
}

/// One that watches the value; clones have seen what the original had.
#[derive(Debug, Clone)]
pub struct Receiver<T> {
    value: watch::Receiver<T>,
    waiting: Arc<Waiting>,
}

/// A sender and a first receiver, which has seen `value`.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A sender without receivers.
    pub fn new(value: T) -> Sender<T> {
        Sender { value: watch::Sender::new(value), waiting: Arc::default() }
    }

    /// A receiver that has seen the value as it stands.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), waiting: Arc::clone(&self.waiting) }
    }

    /// The value; keep the guard for a moment only.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    /// Replaces the value, and returns the old one.
    pub fn send_replace(&self, value: T) -> T {
        let old = self.value.send_replace(value);
        self.waiting.wake.notify_waiters();
        old
    }

    /// Changes the value in place.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.value.send_modify(modify);
        self.waiting.wake.notify_waiters();
    }

    /// The same where `modify` says that it changed something; returns that.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.value.send_if_modified(modify);
        if modified {
            self.waiting.wake.notify_waiters();
        }
        modified
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.waiting.closed.store(true, Ordering::SeqCst);
        self.waiting.wake.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// The value; keep the guard for a moment only.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Whether the value is one that was not seen.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn has_changed(&self) -> Result<bool, Closed> {
        if self.waiting.closed.load(Ordering::SeqCst) {
            return Err(Closed);
        }
        self.value.has_changed().map_err(|_| Closed)
    }

    /// The value counts as not seen.
    pub fn mark_changed(&mut self) {
        self.value.mark_changed();
    }

    /// The value counts as seen.
    pub fn mark_unchanged(&mut self) {
        self.value.mark_unchanged();
    }

    /// Waits for a value that was not seen; it counts as seen then. Losing the future loses nothing.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let woken = self.waiting.wake.notified();
            tokio::pin!(woken);
            // Before the look, so that a change between the look and the wait wakes.
            woken.as_mut().enable();
            if self.has_changed()? {
                self.value.mark_unchanged();
                return Ok(());
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_woken_in_order_and_all_of_them() {
        let sender = Sender::new(0);
        let order: Arc<Mutex<Vec<u32>>> = Arc::default();
        for number in 0..40 {
            let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
            tokio::spawn(async move {
                receiver.changed().await.unwrap();
                order.lock().unwrap().push(number);
            });
        }
        tokio::task::yield_now().await;
        sender.send_replace(1);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_before_the_wait_is_not_missed_and_seen_once() {
        let (sender, mut receiver) = channel(0);
        sender.send_modify(|value| *value += 1);
        assert_eq!(receiver.has_changed(), Ok(true));
        receiver.changed().await.unwrap();
        assert_eq!((*receiver.borrow(), receiver.has_changed()), (1, Ok(false)));
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(receiver.has_changed(), Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_sender_ends_the_wait() {
        let (sender, mut receiver) = channel(0);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
    }
}
