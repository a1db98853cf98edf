//! Spreads work on slots over a few threads and stops all of them at the first failure or signal; knows nothing of
//! the work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;

use crate::sys::thread;

/// Why not all items were worked on.
#[derive(Debug)]
pub enum Halt<E> {
    /// An item, or a thread's preparation, failed.
    Failed(E),
    /// Not even one thread could be started.
    NoThread(Errno),
    /// Asked to stop.
    Stopped,
}

/// Runs `work` on every item, on up to `threads` threads, or on as many as can be had, each with its own state from
/// `prepare`. Items are begun in order. A thread never returns to other work: it may leave its namespaces.
///
/// # Errors
/// The first failure, or another [`Halt`]; items begun before it are finished, later ones never begun.
pub fn for_each<T: Sync, S, E: Send>(
    threads: usize,
    items: &[T],
    stop: &AtomicBool,
    prepare: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, &T) -> Result<(), E> + Sync,
) -> Result<(), Halt<E>> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<E>> = Mutex::new(None);
    let halted = AtomicBool::new(false);
    let run = || -> Result<(), E> {
        let mut state = prepare()?;
        while !stop.load(Ordering::Relaxed) && !halted.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            work(&mut state, item)?;
        }
        Ok(())
    };
    let run = || {
        if let Err(error) = run() {
            halted.store(true, Ordering::Relaxed);
            failure.lock().expect("no holder panics").get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        for started in 0..threads.min(items.len()) {
            match thread::beside(scope, run) {
                Ok(_) => {}
                Err(errno) if started == 0 => return Err(Halt::NoThread(errno)),
                Err(_) => break,
            }
        }
        Ok(())
    })?;
    match failure.into_inner().expect("no holder panics") {
        Some(error) => Err(Halt::Failed(error)),
        None if next.load(Ordering::Relaxed) < items.len() => Err(Halt::Stopped),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        let sum = AtomicUsize::new(0);
        let items: Vec<usize> = (1..=100).collect();
        let work = |(): &mut (), n: &usize| {
            sum.fetch_add(*n, Ordering::Relaxed);
            Ok::<(), ()>(())
        };
        assert!(for_each(3, &items, &AtomicBool::new(false), || Ok(()), work).is_ok());
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn a_failure_keeps_later_items_from_beginning() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let work = |(): &mut (), n: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *n == 10 { Err("ten") } else { Ok(()) }
        };
        let result = for_each(1, &items, &AtomicBool::new(false), || Ok(()), work);
        assert!(matches!(result, Err(Halt::Failed("ten"))));
        assert_eq!(begun.into_inner(), 11);
    }

    #[test]
    fn a_stop_is_no_failure_and_not_the_end() {
        let stop = AtomicBool::new(false);
        let items = [1, 2, 3];
        let work = |(): &mut (), n: &i32| {
            stop.store(*n == 2, Ordering::Relaxed);
            Ok::<(), ()>(())
        };
        assert!(matches!(for_each(1, &items, &stop, || Ok(()), work), Err(Halt::Stopped)));
    }
}
