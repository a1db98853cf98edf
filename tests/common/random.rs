//! Numbers from a seed: a failure is told with it, and comes again.
#![allow(dead_code, reason = "each test binary uses its part")]

/// SplitMix64: one seed, one stream, on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound` − 1.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound.max(1))).expect("below a u32")
    }

    /// A place in something of that length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(length.max(1)).expect("small")).expect("below a usize")
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.place(from.len())).copied()
    }
}
