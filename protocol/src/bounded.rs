//! Text and lists of bounded length, kept in place so that neither side of the wire allocates; no encoding.

use core::fmt;
use core::ops::Deref;

/// Text of at most `N` ≤ 255 bytes of UTF-8.
///
/// The bytes past its length are zero, so equal texts are equal in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

/// A text or list past its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} is more than the {max} that fit")]
pub struct TooLong {
    /// Bytes or items there were.
    pub len: usize,
    /// Bytes or items that fit.
    pub max: usize,
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = {
        assert!(N <= 255, "the length is one byte");
        Self { bytes: [0; N], len: 0 }
    };

    /// That text, whole.
    ///
    /// # Errors
    /// [`TooLong`] past `N` bytes.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let cut = Self::cut(text);
        if cut.as_str().len() == text.len() { Ok(cut) } else { Err(TooLong { len: text.len(), max: N }) }
    }

    /// As much of that text as fits, cut between two characters.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        let mut cut = Self::EMPTY;
        cut.append(text);
        cut
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only whole characters are ever appended")
    }

    fn append(&mut self, text: &str) {
        let start = usize::from(self.len);
        let mut take = text.len().min(N - start);
        while !text.is_char_boundary(take) {
            take -= 1;
        }
        self.bytes[start..start + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len = u8::try_from(start + take).expect("at most N, which is at most 255");
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// Never fails: what does not fit is cut off, so that an explanation can be formatted without allocating.
impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text);
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// At most `N` items in order.
#[derive(Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }

    /// Appends one item.
    ///
    /// # Errors
    /// [`TooLong`] when `N` are there already.
    pub fn push(&mut self, item: T) -> Result<(), TooLong> {
        *self.items.get_mut(self.len).ok_or(TooLong { len: self.len + 1, max: N })? = item;
        self.len += 1;
        Ok(())
    }

    /// Empties the list; nothing is written but its length, so a long-lived list costs what it holds.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn a_text_holds_its_bound_and_not_a_byte_more() {
        assert_eq!(Text::<4>::new("abcd").as_deref(), Ok("abcd"));
        assert_eq!(Text::<4>::new("abcde"), Err(TooLong { len: 5, max: 4 }));
        assert_eq!(Text::<0>::new("").as_deref(), Ok(""));
    }

    #[test]
    fn a_text_is_cut_between_characters_never_inside_one() {
        assert_eq!(&*Text::<4>::cut("abc\u{e9}"), "abc");
        let mut text = Text::<5>::default();
        write!(text, "ab\u{20ac}c").expect("never fails");
        assert_eq!(&*text, "ab\u{20ac}");
    }

    #[test]
    fn a_cleared_list_equals_a_new_one() {
        let mut list = List::<u8, 2>::new();
        assert!(list.push(1).is_ok() && list.push(2).is_ok());
        assert_eq!(list.push(3), Err(TooLong { len: 3, max: 2 }));
        list.clear();
        assert_eq!(list, List::new());
    }
}
