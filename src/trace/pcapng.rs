//! Frames as a capture file that Wireshark and its like read (pcapng, draft-ietf-opsawg-pcapng): one interface for each
//! hook; bytes in, bytes out.

use super::{Direction, Hook, Seen};

/// Block types.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// The beginning of a file: what it is, and one interface for each hook, in that order. `comment` says what was traced.
#[must_use]
pub fn head(comment: &str, hooks: &[Hook], snaplen: u32) -> Vec<u8> {
    let application = concat!("netslot ", env!("CARGO_PKG_VERSION"));
    let mut file = Vec::new();
    block(&mut file, SECTION, |body| {
        body.extend(0x1a2b_3c4d_u32.to_ne_bytes()); // says in which order bytes stand
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend(u64::MAX.to_ne_bytes()); // as long as the file goes on
        option(body, 1, comment.as_bytes());
        option(body, 4, application.as_bytes());
        end_of_options(body);
    });
    for hook in hooks {
        block(&mut file, INTERFACE, |body| {
            body.extend(ETHERNET.to_ne_bytes());
            body.extend(0_u16.to_ne_bytes());
            body.extend(snaplen.to_ne_bytes());
            option(body, 2, hook.name().as_bytes());
            option(body, 3, hook.description().as_bytes());
            option(body, 9, &[9]); // times in 10⁻⁹ s
            end_of_options(body);
        });
    }
    file
}

/// One frame, of one of the file's hooks.
#[must_use]
pub fn packet(hooks: &[Hook], seen: &Seen) -> Vec<u8> {
    let mut file = Vec::new();
    block(&mut file, ENHANCED_PACKET, |body| {
        body.extend(interface(hooks, seen.hook).to_ne_bytes());
        time(body, seen.time_ns);
        body.extend(size(seen.bytes.len()).to_ne_bytes());
        body.extend(size(seen.length).to_ne_bytes());
        padded(body, &seen.bytes);
        // The two lowest bits: 1 = inbound, 2 = outbound, as the guest sees it at every hook.
        let flags: u32 = match seen.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        option(body, 2, &flags.to_ne_bytes());
        end_of_options(body);
    });
    file
}

/// The end of a hook's part at that time: how many frames it gave, and how many were lost for want of room.
#[must_use]
pub fn tail(hooks: &[Hook], hook: Hook, time_ns: u64, given: u64, lost: u64) -> Vec<u8> {
    let mut file = Vec::new();
    block(&mut file, STATISTICS, |body| {
        body.extend(interface(hooks, hook).to_ne_bytes());
        time(body, time_ns);
        option(body, 4, &given.saturating_add(lost).to_ne_bytes());
        option(body, 5, &lost.to_ne_bytes());
        end_of_options(body);
    });
    file
}

/// The number of a hook's interface: its place in the file's head.
fn interface(hooks: &[Hook], hook: Hook) -> u32 {
    size(hooks.iter().take_while(|other| **other != hook).count())
}

/// A block: its type, its length, its body, and its length once more for who reads backwards.
fn block(file: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    let length = size(body.len() + 12).to_ne_bytes();
    file.extend(kind.to_ne_bytes());
    file.extend(length);
    file.extend(body);
    file.extend(length);
}

/// An option's value is at most 65,535 bytes; ours are short texts and numbers, and a longer text is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_ne_bytes());
    body.extend(length.to_ne_bytes());
    padded(body, &value[..usize::from(length)]);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Everything begins at a multiple of four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn time(body: &mut Vec<u8>, time_ns: u64) {
    let [high, low] = [time_ns >> 32, time_ns & u64::from(u32::MAX)];
    for half in [high, low] {
        body.extend(u32::try_from(half).expect("32 bits").to_ne_bytes());
    }
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a frame, bounded by the kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file, by type and length, read as the format says: forwards, and each length found at its end.
    fn blocks(mut file: &[u8]) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
            let length = word(4) as usize;
            assert_eq!((length % 4, word(length - 4) as usize), (0, length));
            found.push((word(0), length));
            file = &file[length..];
        }
        found
    }

    #[test]
    fn blocks_are_whole_whatever_their_lengths() {
        let hooks = [Hook::Guest, Hook::Slot, Hook::Uplink];
        let mut file = head("slot 7", &hooks, 96);
        for len in 0..9 {
            let bytes = vec![7; len];
            let seen = Seen { time_ns: 1 << 60, hook: Hook::Uplink, direction: Direction::In, length: 1_500, bytes };
            file.extend(packet(&hooks, &seen));
        }
        file.extend(tail(&hooks, Hook::Guest, 5, 9, 1));
        let found = blocks(&file);
        let kinds: Vec<u32> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds[..4], [SECTION, INTERFACE, INTERFACE, INTERFACE]);
        assert_eq!((kinds[4..13].iter().all(|kind| *kind == ENHANCED_PACKET), kinds[13]), (true, STATISTICS));
        assert_eq!(found[4].1 + 4, found[5].1, "padded to four");
    }
}
