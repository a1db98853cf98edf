//! Values of the command line as pure text → value functions: durations, slots, VNIs; no clap types, no I/O.

use std::time::Duration;

use netslot_abi::{GENERATION_MAX, SlotState, TAG_BYTES};

use crate::address;
use crate::limits::{SLOTS_MAX, VNI_MAX};
use crate::slot::{Generation, SlotId};

/// Why a text is no such value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    /// A number and nothing after it.
    #[error("a duration needs its unit: {0}s, {0}ms or {0}m?")]
    NoUnit(u64),
    /// Neither number nor unit, or a unit that is none of ours.
    #[error("a duration is a whole number and its unit (ms, s, m or h), as in 500ms, 2s or 1m")]
    Duration,
    /// More milliseconds than 64 bits hold.
    #[error("that is longer than any wait can be")]
    TooLong,
    /// Not a slot.
    #[error("a slot is a number from 0 to {}, or one of its names, as in 42, slot42 or slot-0042", SLOTS_MAX - 1)]
    Slot,
    /// Not a number of slots.
    #[error("a number of slots is a whole number from 1 to {SLOTS_MAX}")]
    Count,
    /// Not a generation.
    #[error("a generation is a whole number from 1 to {GENERATION_MAX}: the one that the lease was answered with")]
    Generation,
    /// Not a VNI.
    #[error("a VNI is a whole number from 1 to {VNI_MAX} (24 bits)")]
    Vni,
    /// Not a tag.
    #[error("a tag is 1 to {TAG_BYTES} bytes of text without control characters; this has {0} bytes")]
    Tag(usize),
    /// Not a state.
    #[error("a state is one of {}", SlotState::ALL.map(SlotState::name).join(", "))]
    State,
}

/// Reads `500ms`, `2s`, `1m` or `1h`: one whole number with its unit. A bare `0` is taken, as nothing is nothing.
///
/// # Errors
/// Anything else, with what would be right.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(ValueError::Duration);
    }
    let number: u64 = number.parse().map_err(|_| ValueError::TooLong)?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 1,
        "" => return Err(ValueError::NoUnit(number)),
        _ => return Err(ValueError::Duration),
    };
    number.checked_mul(ms_per_unit).map(Duration::from_millis).ok_or(ValueError::TooLong)
}

/// Reads a slot's number, or the name of its host end or of its namespace, so that either can be pasted.
///
/// # Errors
/// Text that is neither, and numbers past [`SLOTS_MAX`].
pub fn slot(text: &str) -> Result<SlotId, ValueError> {
    let by_number = || {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| plain).and_then(SlotId::new)
    };
    by_number()
        .or_else(|| address::slot_of_host_end(text))
        .or_else(|| address::slot_of_vault_name(text))
        .ok_or(ValueError::Slot)
}

/// Reads a number of slots.
///
/// # Errors
/// Text that is no number, 0, and numbers past [`SLOTS_MAX`].
pub fn count(text: &str) -> Result<u32, ValueError> {
    text.parse().ok().filter(|count| (1..=SLOTS_MAX).contains(count)).ok_or(ValueError::Count)
}

/// Reads a lease's generation.
///
/// # Errors
/// Text that is no number, 0 (no lease ever has it), and what the ledger's 56 bits do not hold.
pub fn generation(text: &str) -> Result<Generation, ValueError> {
    let number = text.parse().map_err(|_| ValueError::Generation)?;
    if (1..=GENERATION_MAX).contains(&number) { Ok(Generation(number)) } else { Err(ValueError::Generation) }
}

/// Reads a virtual network identifier.
///
/// # Errors
/// Text that is no number, 0 (a record keeps it for "none"), and numbers past 24 bits.
pub fn vni(text: &str) -> Result<u32, ValueError> {
    text.parse().ok().filter(|vni| (1..=VNI_MAX).contains(vni)).ok_or(ValueError::Vni)
}

/// Reads a lease's tag: what fits the ledger's record and is fit to be shown.
///
/// # Errors
/// Empty text, more than [`TAG_BYTES`] bytes, control characters.
pub fn tag(text: &str) -> Result<String, ValueError> {
    let fits = (1..=TAG_BYTES).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(ValueError::Tag(text.len())) }
}

/// Reads a slot's state by its name.
///
/// # Errors
/// Any other word.
pub fn state(text: &str) -> Result<SlotState, ValueError> {
    SlotState::ALL.into_iter().find(|state| state.name() == text).ok_or(ValueError::State)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        for (text, ms) in [("0", 0), ("0s", 0), ("500ms", 500), ("2s", 2_000), ("1m", 60_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("2"), Err(ValueError::NoUnit(2)));
        assert_eq!(ValueError::NoUnit(2).to_string(), "a duration needs its unit: 2s, 2ms or 2m?");
        for bad in ["", "s", "-1s", "+1s", "1.5s", "1 s", "1s ", "1d", "1S", "1ss", "1m30s"] {
            assert_eq!(duration(bad), Err(ValueError::Duration), "{bad:?}");
        }
        for long in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(long), Err(ValueError::TooLong), "{long:?}");
        }
    }

    #[test]
    fn a_slot_is_named_by_number_host_end_or_namespace() {
        for text in ["42", "slot42", "slot-0042", "0042"] {
            assert_eq!(slot(text).map(SlotId::number), Ok(42), "{text}");
        }
        for bad in ["", "-1", "+1", "65536", "slot", "slot042", "slot-42", "eth0", "4 2"] {
            assert_eq!(slot(bad), Err(ValueError::Slot), "{bad:?}");
        }
    }

    #[test]
    fn bounds_hold_at_both_ends() {
        assert_eq!((count("1"), count("65536")), (Ok(1), Ok(SLOTS_MAX)));
        for bad in ["0", "65537", "-1", "x", ""] {
            assert_eq!(count(bad), Err(ValueError::Count), "{bad:?}");
        }
        assert_eq!(generation("1"), Ok(Generation(1)));
        assert_eq!(generation("72057594037927935"), Ok(Generation(GENERATION_MAX)));
        for bad in ["0", "72057594037927936", "-1", "x", ""] {
            assert_eq!(generation(bad), Err(ValueError::Generation), "{bad:?}");
        }
        assert_eq!((vni("1"), vni("16777215")), (Ok(1), Ok(VNI_MAX)));
        for bad in ["0", "16777216", "-1", "0x10", ""] {
            assert_eq!(vni(bad), Err(ValueError::Vni), "{bad:?}");
        }
        assert_eq!(tag(&"x".repeat(24)), Ok("x".repeat(24)));
        for bad in [String::new(), "x".repeat(25), "é".repeat(13), "a\x1b[2J".into()] {
            assert_eq!(tag(&bad), Err(ValueError::Tag(bad.len())), "{bad:?}");
        }
    }

    #[test]
    fn every_state_is_read_by_the_name_it_is_shown_with() {
        for each in SlotState::ALL {
            assert_eq!(state(each.name()), Ok(each));
        }
        assert_eq!(state("Free"), Err(ValueError::State));
        assert_eq!(
            ValueError::State.to_string(),
            "a state is one of building, free, leased, scrubbing, quarantined, rebuilding"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
            let _ = (duration(&text), slot(&text), count(&text), generation(&text), vni(&text), tag(&text), state(&text));
        }
    }
}
