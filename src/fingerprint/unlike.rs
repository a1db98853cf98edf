//! Settings of a slot's devices held against each other: what a namespace takes from the host's when it is made is the
//! same for all of its devices, whatever it is; so a device that has another has it from somebody else.

use super::schema::Class;
use super::{Fact, Field, HEADER, Path, UNLIKE};

/// Puts, in the place of each device's settings, the numbers of those in which it is unlike the slot's uplink.
pub fn hold_settings_together(facts: &mut [Fact], uplink: u32) {
    let is_uplink = |fact: &&Fact| fact.class == Class::Link && fact.number([HEADER, 4, 0, 0]) == Some(uplink);
    let yardstick: Vec<Field> = facts.iter().find(is_uplink).map(|fact| fact.fields.clone()).unwrap_or_default();
    let of_uplink =
        |path: Path| yardstick.iter().find(|f| f.path == path).map(|f| f.value.as_slice()).unwrap_or_default();
    let settings = facts.iter_mut().filter(|fact| fact.class == Class::Link).flat_map(|fact| &mut fact.fields);
    for field in settings.filter(|field| field.path[3] == UNLIKE) {
        field.value = unlike(&field.value, of_uplink(field.path));
    }
}

/// The places, numbers of 16 bits, at which two arrays of numbers of 32 are not the same.
fn unlike(a: &[u8], b: &[u8]) -> Vec<u8> {
    let at = |array: &[u8], n: usize| array.get(n * 4..n * 4 + 4).map(<[u8]>::to_vec);
    let places = 0..a.len().max(b.len()) / 4;
    let other = places.filter(|n| at(a, *n) != at(b, *n)).filter_map(|n| u16::try_from(n).ok());
    other.flat_map(u16::to_ne_bytes).collect()
}
