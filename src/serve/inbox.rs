//! What other threads hand to the loop: a list behind a lock, and a wake-up; knows nothing of what is handed over.

use std::sync::Mutex;

use mio::Waker;

/// The loop's inbox.
#[derive(Debug)]
pub struct Inbox<T> {
    items: Mutex<Vec<T>>,
    waker: Waker,
}

impl<T> Inbox<T> {
    /// An empty inbox that wakes the loop by that waker.
    #[must_use]
    pub const fn new(waker: Waker) -> Self {
        Self { items: Mutex::new(Vec::new()), waker }
    }

    /// Hands something over.
    pub fn put(&self, item: T) {
        self.items.lock().expect("no holder panics").push(item);
        if let Err(error) = self.waker.wake() {
            log::error!("the daemon's loop cannot be woken: {error}");
        }
    }

    /// Takes all there is, and leaves the emptied `spare` in its place.
    pub fn take(&self, spare: &mut Vec<T>) {
        std::mem::swap(&mut *self.items.lock().expect("no holder panics"), spare);
    }
}
