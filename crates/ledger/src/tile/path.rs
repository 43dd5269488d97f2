//! The one spelling of a tile's path, written and read by the same rules.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;
use core::str::FromStr;

use super::{TILE_HEIGHT, TILE_WIDTH};

/// A path below a log's prefix (C2SP tlog-tiles): `tile/0/x001/x234/067`, `tile/entries/000.p/15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TilePath {
    /// A tile of hashes.
    Hashes {
        /// 0 for hashes of leaves, 7 at most.
        level: u8,
        /// Number of the tile from the left.
        index: u64,
        /// How many hashes it has, 1 to 256; 256 is a full tile.
        width: u16,
    },
    /// A bundle of entries.
    Entries {
        /// Number of the bundle from the left.
        index: u64,
        /// How many entries it has, 1 to 256; 256 is a full bundle.
        width: u16,
    },
}

/// A text that is no tile path of any tree of less than 2^64 leaves, or not its one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct TilePathError;

/// The longest path: seven groups of digits for an index below 2^56, a level, a width.
const MAX_PATH_BYTES: usize = "tile/entries/x072/x057/x594/x037/x927/935.p/255".len();

impl FromStr for TilePath {
    type Err = TilePathError;

    fn from_str(text: &str) -> Result<Self, TilePathError> {
        if text.len() > MAX_PATH_BYTES {
            return Err(TilePathError);
        }
        let path = parse(text).ok_or(TilePathError)?;
        // What is written back differs from every other spelling of the same tile.
        if path.to_string() == text {
            Ok(path)
        } else {
            Err(TilePathError)
        }
    }
}

fn parse(text: &str) -> Option<TilePath> {
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok()?),
        None => (rest, TILE_WIDTH),
    };
    let index = parse_index(index)?;
    let level = if kind == "entries" {
        0
    } else {
        kind.parse().ok()?
    };
    let full = width == TILE_WIDTH && !text.contains(".p/");
    let partial = (1..TILE_WIDTH).contains(&width);
    if !(full || partial) || index > last_index(level)? {
        return None;
    }
    Some(match kind {
        "entries" => TilePath::Entries { index, width },
        _ => TilePath::Hashes {
            level,
            index,
            width,
        },
    })
}

fn parse_index(text: &str) -> Option<u64> {
    let mut index = 0_u64;
    for group in text.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// The last tile of a level in the largest tree; none above level 7.
fn last_index(level: u8) -> Option<u64> {
    let shift = TILE_HEIGHT * (u32::from(level) + 1);
    (shift <= u64::BITS).then(|| u64::MAX.checked_shr(shift).unwrap_or(0))
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match *self {
            Self::Hashes {
                level,
                index,
                width,
            } => {
                write!(f, "tile/{level}/")?;
                (index, width)
            }
            Self::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (index, width)
            }
        };
        f.write_str(&index_text(index))?;
        if width < TILE_WIDTH {
            write!(f, ".p/{width}")
        } else {
            Ok(())
        }
    }
}

fn index_text(index: u64) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_example() {
        let path = TilePath::Hashes {
            level: 0,
            index: 1_234_067,
            width: 256,
        };
        assert_eq!(path.to_string(), "tile/0/x001/x234/067");
        assert_eq!("tile/0/x001/x234/067".parse(), Ok(path));
        let partial = TilePath::Entries {
            index: 0,
            width: 15,
        };
        assert_eq!("tile/entries/000.p/15".parse(), Ok(partial));
        let last = TilePath::Entries {
            index: u64::MAX >> 8,
            width: 255,
        };
        assert_eq!(last.to_string().len(), MAX_PATH_BYTES);
        assert_eq!(last.to_string().parse(), Ok(last));
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/+1/000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/x001/x000",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/8/000",
            "tile/7/001",
            "tile/-1/000",
            "tile/data/000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/000.p/+5",
            "tile/0/x072/x057/x594/x037/x927/936",
            "tile/0/000.p/1.p/1",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(bad.parse::<TilePath>(), Err(TilePathError), "{bad}");
        }
    }
}
