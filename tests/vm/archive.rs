//! A newc cpio archive, as the kernel unpacks an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst);
//! bytes alone, no file is read or written.

/// What an entry is: the file type bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that grows by entries; a directory comes before what is in it.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), data);
    }

    pub fn symlink(&mut self, path: &str, to: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), to.as_bytes());
    }

    pub fn character_device(&mut self, path: &str, device: (u32, u32)) {
        self.entry(path, CHARACTER | 0o600, device, &[]);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(data.len()).expect("a file below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a short path");
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device that it is (2), name's size, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    /// Header with name, and data, each end on a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[test]
fn an_archive_is_what_cpio_reads() {
    let mut archive = Archive::default();
    archive.directory("bin");
    archive.file("bin/a", 0o755, b"12345");
    archive.symlink("bin/b", "a");
    let bytes = archive.finish();
    assert_eq!(bytes.len() % 4, 0);
    // Header, name and data of the file, as the format has them.
    let file = &bytes[116..];
    assert_eq!(&file[..14], b"07070100000002");
    assert_eq!(&file[14..22], b"000081ed");
    assert_eq!(&file[54..62], b"00000005");
    assert_eq!(&file[110..116], b"bin/a\0");
    assert_eq!(&file[116..124], b"12345\0\0\0");
}
