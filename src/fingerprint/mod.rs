//! The fingerprint of a slot: what the kernel shows of it as a sorted list of facts that can be compared, without what
//! changes of its own accord, and with each slot-specific value replaced by another slot's; pure.
//!
//! What the kernel shows and this module does not know is compared all the same: only what `schema` names is left out.

mod difference;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod translate;
mod unlike;

pub use difference::{Difference, compare};
pub use read::{fact, told};
pub use schema::Class;
pub use text::{Line, line};
pub use translate::for_slot;
pub use unlike::hold_settings_together;

/// Where a field stands in its message: the numbers of the attributes that lead to it; a field of the fixed header has
/// [`HEADER`] and its offset.
pub type Path = [u16; 4];

/// First number of a path into the fixed header: no attribute has it.
pub const HEADER: u16 = 0xffff;

/// Last number of the path to all settings of a device but those that are compared one by one.
pub const UNLIKE: u16 = 0xffff;

/// Name and kind of each tunnel module's fallback device (callers of `net_has_fallback_tunnels`, Linux 6.12).
const FALLBACKS: [(&str, &str); 9] = [
    ("tunl0", "ipip"),
    ("gre0", "gre"),
    ("gretap0", "gretap"),
    ("erspan0", "erspan"),
    ("ip_vti0", "vti"),
    ("ip6_vti0", "vti6"),
    ("sit0", "sit"),
    ("ip6tnl0", "ip6tnl"),
    ("ip6gre0", "ip6gre"),
];

/// `NUD_PERMANENT`: somebody has taught it.
const PERMANENT: u32 = 0x80;

/// A value of a thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// Which.
    pub path: Path,
    /// As the kernel wrote it, host byte order where it is a number.
    pub value: Vec<u8>,
    /// Part of what tells the thing from others of its class.
    pub key: bool,
}

/// A thing in a slot: a device, a route, a sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What kind of thing.
    pub class: Class,
    /// All that is compared of it, in the order of the paths.
    pub fields: Vec<Field>,
}

impl Fact {
    /// A value of it.
    #[must_use]
    pub fn value(&self, path: Path) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.path == path).map(|field| field.value.as_slice())
    }

    /// A number of it, of four bytes or fewer.
    #[must_use]
    pub fn number(&self, path: Path) -> Option<u32> {
        number(self.value(path)?)
    }

    /// Whether it is the device that a tunnel's module makes in every namespace, as long as nobody has raised it. Which
    /// slots have it, and under which index, depends on when the module came, and nobody can take it away.
    #[must_use]
    fn is_fallback(&self) -> bool {
        const UP: u32 = 1;
        let text = |path| self.value(path).map(|text| text.strip_suffix(&[0]).unwrap_or(text));
        let (name, kind) = (text([3, 0, 0, 0]), text([18, 1, 0, 0]));
        self.class == Class::Link
            && FALLBACKS.iter().any(|(n, k)| name == Some(n.as_bytes()) && kind == Some(k.as_bytes()))
            && self.number([HEADER, 8, 0, 0]).is_some_and(|flags| flags & UP == 0)
    }

    /// What tells it from others.
    fn key(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.fields.iter().filter(|field| field.key).map(|field| (field.path, field.value.as_slice()))
    }

    /// Whether a guest's own traffic leaves such things behind: it is nobody's doing while a slot is leased.
    #[must_use]
    pub fn is_trace(&self) -> bool {
        let state = self.number([HEADER, 8, 0, 0]).unwrap_or_default();
        match self.class {
            // The kernel itself takes down how to send to groups and to loopback (NUD_NOARP); flags are an admin's.
            Class::Neighbour => state & PERMANENT == 0 && self.number([HEADER, 10, 0, 0]) == Some(0),
            Class::Forwarding => state == 0,
            Class::Exception | Class::Count => true,
            Class::Link
            | Class::Address
            | Class::Route
            | Class::Rule
            | Class::Qdisc
            | Class::Filter
            | Class::NextHop
            | Class::Program
            | Class::Tables
            | Class::Sysctl => false,
        }
    }
}

/// A number of one, two or four bytes in host order.
fn number(value: &[u8]) -> Option<u32> {
    match *value {
        [byte] => Some(byte.into()),
        [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Facts in the order in which they are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Fact>);

impl Fingerprint {
    /// Of facts in any order; but for tunnels' fallback devices, see [`Fact::is_fallback`].
    #[must_use]
    pub fn of(mut facts: Vec<Fact>) -> Self {
        facts.retain(|fact| !fact.is_fallback());
        facts.sort_by(|a, b| {
            a.class.cmp(&b.class).then_with(|| a.key().cmp(b.key())).then_with(|| a.fields.cmp(&b.fields))
        });
        Self(facts)
    }

    /// The facts.
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.0
    }
}
