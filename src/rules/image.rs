//! The image of compiled rules: a ruleset with its sources as bytes, checked before anything in them is believed; pure.
//!
//! ```text
//! "NSRULES\n"  u32 version  u32 bytes of records │ record … │ 16 bytes checksum of all before (FNV-1a, 128 bits)
//! record: u8 tag  u32 length  bytes
//!   1 architecture   text: attributes are in its byte order, iptables' structures in its layout
//!   2 purpose        "slot" or "root"
//!   3 source         u32 length of the name, name, text
//!   4 feature        text: what of the kernel the rules need
//!   5 object         u8 NFT_MSG_…, u8 NFPROTO_…, attributes
//! ```
//! Numbers are little-endian. A reader takes its own version only: what is compiled once more costs nothing.

use std::collections::BTreeSet;

use super::normal::Ruleset;
use super::object::Object;
use crate::limits::{RULES_BYTES_MAX, RULES_IMAGE_BYTES_MAX, RULES_SOURCES_MAX, RULES_TEXT_BYTES_MAX};
use crate::netlink::nft::Mark;

const MAGIC: &[u8; 8] = b"NSRULES\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 16;

const ARCHITECTURE: u8 = 1;
const PURPOSE: u8 = 2;
const SOURCE: u8 = 3;
const FEATURE: u8 = 4;
const OBJECT: u8 = 5;

/// Where rules are made for: inside slots, devices have netslot's names and indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Every slot.
    Slot,
    /// The host.
    Root,
}

impl Purpose {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Root => "root",
        }
    }
}

/// A text that rules were compiled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, for people.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Compiled rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where they are for.
    pub purpose: Purpose,
    /// What they were compiled from.
    pub sources: Vec<Source>,
    /// What of the kernel they need.
    pub features: BTreeSet<String>,
    /// The rules.
    pub rules: Ruleset,
}

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It begins otherwise.
    #[error("this is no image of rules")]
    Foreign,
    /// It was made by another version.
    #[error(
        "the image has version {found}, and this netslot reads version {VERSION}: compile it anew with \
         netslot compile-rules"
    )]
    Version {
        /// Which.
        found: u32,
    },
    /// Its length or its checksum says that it is not what was written.
    #[error("the image is damaged ({0}): compile it anew with netslot compile-rules, or copy it once more")]
    Damaged(&'static str),
    /// It was made on a machine of another kind.
    #[error("the image was compiled on {found}, and this host is {here}: compile it on one of its kind", here = std::env::consts::ARCH)]
    Architecture {
        /// Which.
        found: String,
    },
    /// It is past a bound.
    #[error("{what} has {found} bytes, and {max} are the most")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How large.
        found: usize,
        /// The bound.
        max: usize,
    },
}

/// Whether those bytes are meant as an image, and not as rules in text.
#[must_use]
pub fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Image {
    /// What slots that have these rules are known by: rules alone, so that a changed comment in a source changes no slot.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut bytes = Vec::new();
        for object in self.rules.objects() {
            push_object(&mut bytes, object);
        }
        Mark(checksum(&bytes).to_be_bytes())
    }

    /// The image as bytes.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ImageError> {
        let mut records = Vec::new();
        push(&mut records, ARCHITECTURE, std::env::consts::ARCH.as_bytes());
        push(&mut records, PURPOSE, self.purpose.name().as_bytes());
        for source in &self.sources {
            let name = source.name.as_bytes();
            push(&mut records, SOURCE, &[&length(name), name, source.text.as_bytes()].concat());
        }
        for feature in &self.features {
            push(&mut records, FEATURE, feature.as_bytes());
        }
        for object in self.rules.objects() {
            push_object(&mut records, object);
        }
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &length(&records), &records].concat();
        bytes.extend(checksum(&bytes).to_le_bytes());
        within("the image", bytes.len(), RULES_IMAGE_BYTES_MAX)?;
        Ok(bytes)
    }

    /// The image that those bytes are.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        within("the image", bytes.len(), RULES_IMAGE_BYTES_MAX)?;
        let records = records_in(bytes)?;
        let mut image =
            Self { purpose: Purpose::Slot, sources: Vec::new(), features: BTreeSet::new(), rules: Ruleset::default() };
        let (mut objects, mut architecture) = (Vec::new(), String::new());
        let mut rest = records;
        while let Some((tag, value)) = take(&mut rest)? {
            match tag {
                ARCHITECTURE => architecture = text(value)?,
                PURPOSE if value == b"slot" => image.purpose = Purpose::Slot,
                PURPOSE if value == b"root" => image.purpose = Purpose::Root,
                SOURCE => image.sources.push(source(value)?),
                FEATURE => {
                    image.features.insert(text(value)?);
                }
                OBJECT => objects.push(object(value)?),
                _ => return Err(ImageError::Damaged("a record of no known kind")),
            }
        }
        if architecture != std::env::consts::ARCH {
            return Err(ImageError::Architecture { found: architecture });
        }
        if image.sources.len() > RULES_SOURCES_MAX {
            return Err(ImageError::Damaged("more sources than there can be"));
        }
        let size = objects.iter().map(|o: &Object| o.attributes.len()).sum();
        within("what the rules come to", size, RULES_BYTES_MAX)?;
        image.rules = Ruleset::of_objects(objects);
        Ok(image)
    }
}

/// Judges header, length and checksum.
fn records_in(bytes: &[u8]) -> Result<&[u8], ImageError> {
    if !is_image(bytes) {
        return Err(ImageError::Foreign);
    }
    let number = |at: usize| bytes.get(at..at + 4).and_then(|n| n.try_into().ok()).map(u32::from_le_bytes);
    let short = ImageError::Damaged("it ends within its header");
    let (Some(version), Some(length)) = (number(8), number(12)) else { return Err(short) };
    if version != VERSION {
        return Err(ImageError::Version { found: version });
    }
    if bytes.len() != HEADER_BYTES + length as usize + CHECKSUM_BYTES {
        return Err(ImageError::Damaged("its length is not what it says"));
    }
    let (told, sum) = bytes.split_at(HEADER_BYTES + length as usize);
    if sum != checksum(told).to_le_bytes() {
        return Err(ImageError::Damaged("its checksum does not fit"));
    }
    Ok(&told[HEADER_BYTES..])
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, ImageError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let cut = || ImageError::Damaged("a record is cut short");
    let (header, behind) = rest.split_at_checked(5).ok_or_else(cut)?;
    let length = header[1..].try_into().map(u32::from_le_bytes).map_err(|_| cut())?;
    let (value, behind) = behind.split_at_checked(length as usize).ok_or_else(cut)?;
    *rest = behind;
    Ok(Some((header[0], value)))
}

fn text(value: &[u8]) -> Result<String, ImageError> {
    String::from_utf8(value.to_vec()).map_err(|_| ImageError::Damaged("a text is no UTF-8"))
}

fn source(value: &[u8]) -> Result<Source, ImageError> {
    let cut = || ImageError::Damaged("a source is cut short");
    let (length, rest) = value.split_first_chunk().ok_or_else(cut)?;
    let (name, told) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
    within("a source in the image", told.len(), RULES_TEXT_BYTES_MAX)?;
    Ok(Source { name: text(name)?, text: text(told)? })
}

fn object(value: &[u8]) -> Result<Object, ImageError> {
    let ([kind, family], attributes) =
        value.split_first_chunk().ok_or(ImageError::Damaged("an object is cut short"))?;
    Ok(Object { kind: *kind, family: *family, attributes: attributes.to_vec() })
}

fn push_object(records: &mut Vec<u8>, object: &Object) {
    push(records, OBJECT, &[&[object.kind, object.family][..], &object.attributes].concat());
}

fn push(records: &mut Vec<u8>, tag: u8, value: &[u8]) {
    records.push(tag);
    records.extend(length(value));
    records.extend(value);
}

/// A length as it is written; one that does not fit stands in an image that is refused as too large.
fn length(value: &[u8]) -> [u8; 4] {
    u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), ImageError> {
    if found > max { Err(ImageError::TooLarge { what, found, max }) } else { Ok(()) }
}

/// FNV-1a with 128 bits: against damage and to tell rulesets apart, not against forgery. Who can write an image is root
/// already.
fn checksum(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |sum, byte| (sum ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image() -> impl Strategy<Value = Image> {
        let object = (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40));
        let object = object.prop_map(|(kind, family, attributes)| Object { kind, family, attributes });
        let source = ("[a-z]{0,9}", "\\PC{0,40}").prop_map(|(name, text)| Source { name, text });
        (
            any::<bool>(),
            proptest::collection::vec(source, 0..3),
            proptest::collection::btree_set("[a-z ]{1,9}", 0..4),
            proptest::collection::vec(object, 0..6),
        )
            .prop_map(|(root, sources, features, objects)| Image {
                purpose: if root { Purpose::Root } else { Purpose::Slot },
                sources,
                features,
                rules: Ruleset::of_objects(objects),
            })
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(checksum(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let image =
            Image { purpose: Purpose::Slot, sources: Vec::new(), features: BTreeSet::new(), rules: Ruleset::default() };
        let mut bytes = image.to_bytes().expect("small");
        bytes[8] = 2;
        assert_eq!(Image::from_bytes(&bytes), Err(ImageError::Version { found: 2 }));
        assert_eq!(Image::from_bytes(b"table inet filter {}"), Err(ImageError::Foreign));
        assert_eq!(Image::from_bytes(MAGIC), Err(ImageError::Damaged("it ends within its header")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(image in image()) {
            prop_assert_eq!(Image::from_bytes(&image.to_bytes().expect("small")), Ok(image));
        }

        #[test]
        fn no_changed_byte_and_no_missing_one_passes(image in image(), at: prop::sample::Index, bit in 0..8_u32) {
            let bytes = image.to_bytes().expect("small");
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1_u8 << bit;
            prop_assert!(Image::from_bytes(&changed).is_err());
            prop_assert!(Image::from_bytes(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn records_of_any_bytes_are_read_to_an_end(records in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &length(&records), &records].concat();
            bytes.extend(checksum(&bytes).to_le_bytes());
            let _ = Image::from_bytes(&bytes);
        }
    }
}
