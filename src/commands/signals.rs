//! SIGINT and SIGTERM as a flag that long work looks at between two slots, and as the exit code it then ends with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::Exit;

/// The flag, and which signal raised it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// From here on the two signals raise the flag and do nothing else.
    ///
    /// # Errors
    /// Where the kernel refuses the handler.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&stop.flag))?;
            flag::register_usize(signal, Arc::clone(&stop.signal), usize::try_from(signal).unwrap_or_default())?;
        }
        Ok(stop)
    }

    /// What long work looks at.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// How a command ends that was stopped; `None` while no signal came.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let terminated = usize::try_from(SIGTERM).unwrap_or_default();
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal if signal == terminated => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}
