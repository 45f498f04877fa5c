//! Numbers, checksums and compression of the index.
//!
//! Read [`Cursor`]. Whatever it reads may be damaged or hostile: it answers `None`, and never
//! allocates more than what is there can account for.

/// The most bytes that one compressed byte may stand for; denser data is stored as it is.
const MAX_RATIO: usize = 256;

/// The zstd level of the index: most of it is decompressed again while someone waits.
const LEVEL: i32 = 3;

/// Appends a number in seven-bit groups, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// How many bytes were read, counted from the start of the bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// How many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that fits a `u32`.
    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A number of things of which each takes a byte at the least.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.remaining()).then_some(count)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// What [`put_bytes`] wrote.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    /// What [`put_bytes`] wrote, where it is text.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Tells damaged bytes from whole ones; not a protection against forgery. Part of the format:
/// it must not change.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(FACTOR);
        hash ^ (hash >> 29)
    };
    let mut hash = bytes.len() as u64 ^ FACTOR;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(
            hash,
            u64::from_le_bytes(word.try_into().unwrap_or_default()),
        );
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let hash = mix(hash, u64::from_le_bytes(last));
    mix(hash, FACTOR)
}

/// The bytes behind a byte that says how they are stored.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![1];
    put_varint(&mut packed, bytes.len() as u64);
    // Nothing but memory can make this fail; then the bytes stand as they are.
    let compressed = zstd::bulk::compress(bytes, LEVEL).unwrap_or_default();
    let pays = compressed.len() < bytes.len() && bytes.len() / MAX_RATIO < compressed.len();
    if pays {
        packed.extend_from_slice(&compressed);
    } else {
        packed[0] = 0;
        packed.extend_from_slice(bytes);
    }
    packed
}

/// What [`pack`] was given.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(packed, 0);
    let form = cursor.byte()?;
    let length = usize::try_from(cursor.varint()?).ok()?;
    let stored = cursor.take(cursor.remaining())?;
    match form {
        0 => (stored.len() == length).then(|| stored.to_vec()),
        1 if length / MAX_RATIO <= stored.len() => {
            let bytes = zstd::bulk::decompress(stored, length).ok()?;
            (bytes.len() == length).then_some(bytes)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_endless_ones_end() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 1 << 40, u64::MAX];
        for number in numbers {
            put_varint(&mut out, number);
        }
        let mut cursor = Cursor::new(&out, 0);
        for number in numbers {
            assert_eq!(cursor.varint(), Some(number));
        }
        assert!(cursor.is_at_end());
        assert_eq!(cursor.varint(), None);
        assert_eq!(Cursor::new(&[0xff; 20], 0).varint(), None);
        assert_eq!(Cursor::new(&[9, 1, 2], 0).bytes(), None);
    }

    #[test]
    fn packed_bytes_come_back_and_bombs_do_not() {
        for bytes in [&b""[..], b"abc", &[7; 100], &[0; 1 << 20]] {
            assert_eq!(unpack(&pack(bytes)).as_deref(), Some(bytes));
        }
        let mut bomb = vec![1];
        put_varint(&mut bomb, 1 << 40);
        bomb.extend_from_slice(&zstd::bulk::compress(&[0; 1 << 16], 3).unwrap());
        assert_eq!(unpack(&bomb), None);
        for form in [1, 2, 0xff] {
            assert_eq!(unpack(&[form, 3, 1, 2, 3]), None);
        }
    }
}
