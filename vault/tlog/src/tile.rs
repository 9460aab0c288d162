//! Where the tree's hashes and entries lie: tiles of 256 hashes, bundles of 256 entries, and their paths (C2SP tlog-tiles).
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]         hashes of level L: of entries at 0, above it of full tiles below
//! tile/entries/<N>[.p/<W>]     entries;  N in groups of three digits, all but the last begin with x: x001/x234/067
//! ```
//! Invariant: a place has one path, and only that path is read as it.

use std::fmt;

use thiserror::Error;

use crate::hash::{HASH_BYTES, Hash, Size};

/// Hashes of a full tile, entries of a full bundle.
pub const FULL: u16 = 256;
/// The highest level that a tree of 2^64 entries has.
pub const MAX_LEVEL: u8 = 7;

/// How much of a tile or bundle there is: 1 to 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width(u16);

/// A tile: a run of hashes at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: Width,
}

/// A bundle: a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bundle {
    /// Which, from 0.
    pub index: u64,
    /// How many entries.
    pub width: Width,
}

/// Why a path or a tile's bytes are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadTile {
    /// Not the one form of a path.
    #[error("not the path of a tile or bundle")]
    Path,
    /// No tree has such a tile.
    #[error("no tree has a tile there")]
    Place,
    /// Not between 1 and 256 whole hashes.
    #[error("a tile holds 1 to 256 hashes of 32 bytes")]
    Length,
}

impl Width {
    /// All 256.
    pub const FULL: Self = Self(FULL);

    /// A width between 1 and 256.
    pub const fn new(width: u16) -> Option<Self> {
        if width >= 1 && width <= FULL { Some(Self(width)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether nothing is missing.
    pub const fn is_full(self) -> bool {
        self.0 == FULL
    }
}

impl Tile {
    /// A tile by its place.
    ///
    /// # Errors
    /// When it would begin beyond 2^64 entries.
    pub fn new(level: u8, index: u64, width: Width) -> Result<Self, BadTile> {
        let above = u64::MAX.checked_shr(8_u32.saturating_mul(u32::from(level).saturating_add(1)));
        // At the highest level one tile spans all: nothing lies beside it.
        let last = above.unwrap_or(0);
        (level <= MAX_LEVEL && index <= last)
            .then_some(Self { level, index, width })
            .ok_or(BadTile::Place)
    }

    /// The tile of that level and index as a tree of `size` has it; `None` when it has nothing there.
    pub fn within(size: Size, level: u8, index: u64) -> Option<Self> {
        let nodes = nodes(size, level)?;
        let width = width_within(nodes, index)?;
        Self::new(level, index, width).ok()
    }

    /// 0 for hashes of entries.
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Which tile of its level, from 0.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many hashes.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The path below the log's directory.
    pub fn path(self) -> String {
        format!("tile/{}/{}", self.level, numbered(self.index, self.width))
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When it is not the one path of a tile.
    pub fn parse(path: &str) -> Result<Self, BadTile> {
        let rest = path.strip_prefix("tile/").ok_or(BadTile::Path)?;
        let (level, rest) = rest.split_once('/').ok_or(BadTile::Path)?;
        let level = level.parse().map_err(|_| BadTile::Path)?;
        let (index, width) = read_numbered(rest)?;
        let tile = Self::new(level, index, width)?;
        if tile.path() == path { Ok(tile) } else { Err(BadTile::Path) }
    }
}

impl Bundle {
    /// The bundle of that index as a tree of `size` has it; `None` when it has nothing there.
    pub fn within(size: Size, index: u64) -> Option<Self> {
        Some(Self { index, width: width_within(size.0, index)? })
    }

    /// The path below the log's directory.
    pub fn path(self) -> String {
        format!("tile/entries/{}", numbered(self.index, self.width))
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When it is not the one path of a bundle.
    pub fn parse(path: &str) -> Result<Self, BadTile> {
        let rest = path.strip_prefix("tile/entries/").ok_or(BadTile::Path)?;
        let (index, width) = read_numbered(rest)?;
        let bundle = Self { index, width };
        if bundle.path() == path { Ok(bundle) } else { Err(BadTile::Path) }
    }

    /// The place of its first entry; `None` beyond 2^64.
    pub fn first(self) -> Option<u64> {
        self.index.checked_mul(u64::from(FULL))
    }
}

/// A tile's bytes.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads a tile's bytes.
///
/// # Errors
/// When they are not 1 to 256 whole hashes.
pub fn decode_hashes(bytes: &[u8]) -> Result<Vec<Hash>, BadTile> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if !rest.is_empty() || hashes.is_empty() || hashes.len() > usize::from(FULL) {
        return Err(BadTile::Length);
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// How many hashes a level of a tree has: of whole runs of 256^level entries.
pub(crate) fn nodes(size: Size, level: u8) -> Option<u64> {
    if level > MAX_LEVEL {
        return None;
    }
    size.0.checked_shr(u32::from(level).saturating_mul(8))
}

fn width_within(count: u64, index: u64) -> Option<Width> {
    let start = index.checked_mul(u64::from(FULL))?;
    let rest = count.checked_sub(start)?.min(u64::from(FULL));
    Width::new(u16::try_from(rest).ok()?)
}

fn numbered(index: u64, width: Width) -> String {
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    let number = groups.join("/");
    if width.is_full() { number } else { format!("{number}.p/{}", width.0) }
}

/// Reads leniently; whoever calls compares with what would be written.
fn read_numbered(text: &str) -> Result<(u64, Width), BadTile> {
    let (number, width) = match text.split_once(".p/") {
        None => (text, Width::FULL),
        Some((number, width)) => {
            let width = width.parse().ok().and_then(Width::new).filter(|width| !width.is_full());
            (number, width.ok_or(BadTile::Path)?)
        }
    };
    let mut index = 0_u64;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let digits: u64 = digits.parse().map_err(|_| BadTile::Path)?;
        index =
            index.checked_mul(1000).and_then(|it| it.checked_add(digits)).ok_or(BadTile::Path)?;
    }
    Ok((index, width))
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn width(width: u16) -> Width {
        Width::new(width).unwrap()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        // C2SP tlog-tiles: "index 1234067 will be encoded as x001/x234/067".
        let tile = Tile::new(0, 1_234_067, Width::FULL).unwrap();
        assert_eq!(tile.path(), "tile/0/x001/x234/067");
        assert_eq!(Tile::new(1, 0, width(1)).unwrap().path(), "tile/1/000.p/1");
        assert_eq!(Bundle { index: 273, width: width(112) }.path(), "tile/entries/273.p/112");
        // golang.org/x/mod sumdb/tlog, TestTilePath, without its height.
        assert_eq!(
            Tile::new(5, 123_456_078, width(2)),
            Tile::parse("tile/5/x123/x456/078.p/2"),
            "level 5"
        );
    }

    #[test]
    fn a_tree_has_the_tiles_that_the_specification_counts() {
        let size = Size(70_000);
        assert_eq!(Tile::within(size, 0, 272).unwrap().width(), Width::FULL);
        assert_eq!(Tile::within(size, 0, 273).unwrap().width(), width(112));
        assert_eq!(Tile::within(size, 0, 274), None);
        assert_eq!(Tile::within(size, 1, 0).unwrap().width(), Width::FULL);
        assert_eq!(Tile::within(size, 1, 1).unwrap().width(), width(17));
        assert_eq!(Tile::within(size, 2, 0).unwrap().width(), width(1));
        assert_eq!(Tile::within(size, 3, 0), None);
        assert_eq!(Tile::within(Size(256), 0, 0).unwrap().width(), Width::FULL);
        assert_eq!(Tile::within(Size(256), 1, 0).unwrap().width(), width(1));
        assert_eq!(Tile::within(Size(0), 0, 0), None);
        assert_eq!(Bundle::within(Size(256), 1), None);
        assert_eq!(Bundle::within(Size(257), 1).unwrap().width, width(1));
    }

    #[test]
    fn no_other_spelling_is_a_path() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/1",
            "tile/0/0001",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/0/001.p/0",
            "tile/0/001.p/256",
            "tile/0/001.p/05",
            "tile/0/001.p/+5",
            "tile/00/001",
            "tile/+0/001",
            "tile/8/000",
            "tile/7/001",
            "tile/-1/001",
            "tile/0/+01",
            "tile/0/x-01/001",
            "/tile/0/001",
            "tile/0/001/",
            "tile/0/../001",
            "tile/entries/1",
            "tile/entries/001.p/",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert!(Tile::parse(path).is_err(), "{path}");
            assert!(Bundle::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn no_tile_begins_beyond_what_can_be_counted() {
        assert!(Tile::new(7, 0, Width::FULL).is_ok());
        assert_eq!(Tile::new(7, 1, Width::FULL), Err(BadTile::Place));
        assert_eq!(Tile::new(8, 0, Width::FULL), Err(BadTile::Place));
        assert!(Tile::new(0, u64::MAX >> 8, Width::FULL).is_ok());
        assert_eq!(Tile::new(0, (u64::MAX >> 8) + 1, Width::FULL), Err(BadTile::Place));
        assert_eq!(Tile::within(Size(u64::MAX), 7, 0).unwrap().width(), width(255));
    }

    #[test]
    fn only_whole_hashes_are_a_tile() {
        let hashes = [Hash([1; 32]), Hash([2; 32])];
        let bytes = encode_hashes(&hashes);
        assert_eq!(decode_hashes(&bytes).unwrap(), hashes);
        assert_eq!(decode_hashes(&bytes[1..]), Err(BadTile::Length));
        assert_eq!(decode_hashes(&[]), Err(BadTile::Length));
        assert_eq!(decode_hashes(&vec![0; 257 * 32]), Err(BadTile::Length));
    }

    proptest! {
        #[test]
        fn a_path_names_its_place(level in 0_u8..=7, index: u64, width in 1_u16..=256) {
            let width = Width::new(width).unwrap();
            let index = index.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
            let tile = Tile::new(level, index, width).unwrap();
            prop_assert_eq!(Tile::parse(&tile.path()), Ok(tile));
            let bundle = Bundle { index, width };
            prop_assert_eq!(Bundle::parse(&bundle.path()), Ok(bundle));
        }

        #[test]
        fn a_path_that_is_read_is_the_one_that_is_written(path in "tile/(entries/|[0-9]/)?[x0-9/.p]{0,24}") {
            if let Ok(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path.clone());
            }
            if let Ok(bundle) = Bundle::parse(&path) {
                prop_assert_eq!(bundle.path(), path);
            }
        }
    }
}
