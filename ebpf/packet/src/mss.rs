//! Lowers the largest segment that a TCP SYN offers to what the slot's MTU holds, for guests that ignore the MTU.

use crate::DropReason;
use crate::checksum::delta2;
use crate::frame::{Frame, Share, Sum};

/// Options looked at. Linux, Windows and the BSDs send the MSS first; twenty are half of what 40 bytes can hold.
const OPTIONS_MAX: u32 = 20;

const SYN: u8 = 2;

/// Lowers the MSS option of the TCP header at `at` to `largest`, if it is a SYN's and higher.
///
/// # Errors
/// `Malformed` where the header is cut short, `Kernel` where the kernel refused the store.
#[inline(never)]
pub fn clamp<F: Frame>(frame: &mut F, at: u32, largest: u16) -> Result<(), DropReason> {
    let h = frame.load::<[u8; 2]>(at + 12).ok_or(DropReason::Malformed)?;
    if h[1] & SYN == 0 {
        return Ok(());
    }
    let end = at + ((h[0] >> 4) as u32) * 4;
    let mut option = at + 20;
    for _ in 0..OPTIONS_MAX {
        if option + 4 > end {
            return Ok(());
        }
        let o = frame.load::<[u8; 4]>(option).ok_or(DropReason::Malformed)?;
        match o[0] {
            0 => return Ok(()),
            1 => option += 1,
            2 if o[1] == 4 => {
                let old = [o[2], o[3]];
                if u16::from_be_bytes(old) <= largest {
                    return Ok(());
                }
                let new = largest.to_be_bytes();
                // A field at an odd place straddles two words of the sum: its bytes count the other way round.
                let odd = (option - at) & 1 == 1;
                let delta = if odd { delta2([old[1], old[0]], [new[1], new[0]]) } else { delta2(old, new) };
                frame.store(option + 2, &new, Share::Balanced).ok_or(DropReason::Kernel)?;
                return frame.mend(at + 16, delta, Sum::Body).ok_or(DropReason::Kernel);
            }
            _ if o[1] < 2 => return Ok(()),
            _ => option += o[1] as u32,
        }
    }
    Ok(())
}
