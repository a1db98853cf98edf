//! Lock files: one holder at a time, let go by the kernel when the holder dies; carry the holder's pid for people.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::fault;

/// A held lock; let go when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{path} is held by {holder}: wait until it is done, or stop it first", path = path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// `process 4242`, or `another process`.
        holder: String,
    },
    /// The file itself failed.
    #[error("lock file {path}: {error}", path = path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Lock {
    /// Takes the lock without waiting; makes the directory for it.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's pid where the file tells it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let err = |error| LockError::File { path: path.into(), error };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(err)?;
            fault::point();
        }
        // Not truncated at open: the content is the holder's until the lock is ours.
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(err)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                fault::point();
                held.set_len(0).map_err(err)?;
                held.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(err)?;
                fault::point();
                Ok(Self(held))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let holder = match pid.trim().parse::<u32>() {
                    Ok(pid) => format!("process {pid}"),
                    Err(_) => "another process".into(),
                };
                Err(LockError::Held { path: path.into(), holder })
            }
            Err((_, errno)) => Err(err(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: std::time::Duration = std::time::Duration::from_millis(1);

    #[test]
    fn a_second_taker_is_told_who_holds_it_and_the_drop_lets_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/lock");
        let first = Lock::take(&path).expect("free");
        let refused = Lock::take(&path).expect_err("held").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        // A child that another test starts has all descriptors until it becomes its program, this lock's too.
        let free = || {
            (0..1_000).any(|_| {
                Lock::take(&path).is_ok() || {
                    std::thread::sleep(MOMENT);
                    false
                }
            })
        };
        assert!(free());
    }
}
