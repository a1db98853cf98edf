//! A frame in plain memory, with the kernel helpers' rules for checksums that are complete already.

use netslot_packet::{Frame, Share, Sum, checksum};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub struct Memory(pub Vec<u8>);

impl Frame for Memory {
    fn load<T: FromBytes>(&self, at: u32) -> Option<T> {
        T::read_from_prefix(self.0.get(at as usize..)?).ok().map(|(value, _)| value)
    }

    fn store<T: IntoBytes + Immutable>(&mut self, at: u32, value: &T, _: Share) -> Option<()> {
        let bytes = value.as_bytes();
        self.0.get_mut(at as usize..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    fn mend(&mut self, at: u32, delta: u32, sum: Sum) -> Option<()> {
        let old = self.load::<[u8; 2]>(at)?;
        if sum == Sum::PseudoUdp && old == [0, 0] {
            return Some(());
        }
        let new = checksum::apply(old, delta);
        let new = if sum == Sum::PseudoUdp && new == [0, 0] { [0xff, 0xff] } else { new };
        self.store(at, &new, Share::Balanced)
    }

    fn load_some<const N: usize>(&self, at: u32, len: u32, out: &mut [u8; N]) -> Option<()> {
        let len = len as usize;
        out.get_mut(..len)?.copy_from_slice(self.0.get(at as usize..)?.get(..len)?);
        Some(())
    }
}
