//! The daemon's listening socket: bound under its group, or taken over from the service manager; and its end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use super::error::ServeError;
use crate::sys::{fault, seqpacket};

/// The group that may talk to the daemon, where the host has it.
const GROUP: &str = "netslot";

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub fd: OwnedFd,
    /// The file that is ours to remove; none where the service manager keeps the socket.
    path: Option<PathBuf>,
}

impl Listener {
    /// The service manager's socket, which stays when the daemon ends.
    #[must_use]
    pub fn of_manager(fd: OwnedFd, path: &Path) -> Self {
        if let Some(elsewhere) = seqpacket::path(&fd).filter(|bound| bound != path) {
            let elsewhere = elsewhere.display();
            log::warn!("the service manager listens at {elsewhere}; clients look at {} ('socket')", path.display());
        }
        Self { fd, path: None }
    }

    /// The socket of the daemon before this one, which was bound to `path`.
    #[must_use]
    pub fn of_predecessor(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: Some(path.into()) }
    }

    /// Binds `path`. The caller holds the daemon's lock, so a socket that lies there is a dead daemon's.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn open(path: &Path) -> Result<Self, ServeError> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(ServeError::file("create", dir))?;
        }
        match fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => {
                fs::remove_file(path).map_err(ServeError::file("remove the old socket", path))?;
                fault::point();
            }
            Ok(_) => return Err(ServeError::NotASocket(path.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ServeError::file("look at", path)(error)),
        }
        // The group's bits before its number: until the next call they are root's group's.
        let fd = seqpacket::listen_at(path, Mode::from_bits_truncate(0o660))
            .map_err(|errno| ServeError::file("listen at", path)(errno.into()))?;
        match group_id(GROUP) {
            Some(gid) => {
                chown(path, None, Some(gid)).map_err(ServeError::file("chown to the group netslot", path))?;
                fault::point();
            }
            None => log::info!("there is no group '{GROUP}': only root can use {}", path.display()),
        }
        Ok(Self { fd, path: Some(path.into()) })
    }

    /// Whether the file is ours.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.path.is_some()
    }

    /// Removes the file, if it is ours.
    pub fn close(self) {
        let Some(path) = self.path else { return };
        match fs::remove_file(&path) {
            Ok(()) => fault::point(),
            Err(error) => log::debug!("remove {}: {error}", path.display()),
        }
    }
}

/// The group's number by the local file. Not by getgrnam(3): in a static binary that needs the host's own C library.
fn group_id(name: &str) -> Option<u32> {
    parse_group(&fs::read_to_string("/etc/group").ok()?, name)
}

fn parse_group(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))??.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_number_is_the_third_field_of_its_line() {
        let file = "root:x:0:\nnetslot2:x:7:\n# netslot:x:1:\nnetslot:x:997:alice,bob\nodd\n";
        assert_eq!(parse_group(file, "netslot"), Some(997));
        assert_eq!(parse_group(file, "odd"), None);
        assert_eq!(parse_group(file, "absent"), None);
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_another_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/s");
        let first = Listener::open(&path).expect("bound");
        drop(first.fd);
        let second = Listener::open(&path).expect("bound over what was left");
        second.close();
        assert!(!path.exists());
        fs::write(&path, "precious").expect("written");
        assert!(matches!(Listener::open(&path), Err(ServeError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
    }
}
