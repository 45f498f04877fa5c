//! The rows that have a term, as few bytes.
//!
//! Read [`Posting`]. Few rows are listed one by one; of many, only the row blocks are kept in
//! which they lie, as a list or as bits:
//!
//! ```text
//! count * 8 + form | all            nothing more: every row
//!                  | rows           first row, distances
//!                  | row blocks     how many, first row block, distances
//!                  | bits           one bit a row block
//!                  | pages          how many, first page, distances
//! ```

use roaring::RoaringBitmap;

use super::index_bytes::{Cursor, put_varint};

/// Rows of a row block: what is known of a term that many rows have.
pub(super) const BLOCK_ROWS: u32 = 128;
/// Rows of the coarser block of keys whose values are scattered: those of a page, which is what
/// a lookup decodes anyway.
pub(super) const PAGE_ROWS: u32 = 2048;
/// Bytes a list of single rows may take.
const ROW_LIST_BYTES: usize = 4096;

const ALL: u64 = 0;
const ROWS: u64 = 1;
const BLOCKS: u64 = 2;
const BITS: u64 = 3;
const PAGES: u64 = 4;

/// Where a term occurs in a row group.
#[derive(Debug, Clone, PartialEq)]
pub struct Posting {
    /// The number of rows that have it.
    pub count: u64,
    /// The rows that may have it; none besides do.
    pub rows: RoaringBitmap,
    /// Whether all of these rows have it.
    pub exact: bool,
}

impl Posting {
    /// Nowhere.
    pub fn none() -> Self {
        Self {
            count: 0,
            rows: RoaringBitmap::new(),
            exact: true,
        }
    }
}

/// How fine the rows of a key's rare values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Rows,
    Pages,
}

/// About the bytes that listing these rows takes.
pub(super) fn row_list_bytes(rows: &[u32]) -> usize {
    let mut last = 0;
    let mut bytes = 0;
    for row in rows {
        bytes += match row.wrapping_sub(last) {
            0..=0x7f => 1,
            0x80..=0x3fff => 2,
            0x4000..=0x1f_ffff => 3,
            _ => 5,
        };
        last = *row;
    }
    bytes
}

/// Appends the posting of `rows`, which are in order and distinct.
pub(super) fn put_posting(out: &mut Vec<u8>, rows: &[u32], row_count: u32, detail: Detail) {
    let header = |out: &mut Vec<u8>, form| put_varint(out, (rows.len() as u64) << 3 | form);
    if rows.len() == row_count as usize {
        return header(out, ALL);
    }
    let row_bytes = row_list_bytes(rows);
    if detail == Detail::Pages && rows.len() > 1 {
        let pages = blocks_of(rows, PAGE_ROWS);
        if pages.len() < (row_count / PAGE_ROWS / 4) as usize && pages.len() + 1 < row_bytes {
            header(out, PAGES);
            put_varint(out, pages.len() as u64);
            return put_distances(out, &pages);
        }
    }
    if row_bytes <= ROW_LIST_BYTES {
        header(out, ROWS);
        return put_distances(out, rows);
    }
    let blocks = blocks_of(rows, BLOCK_ROWS);
    let bit_bytes = row_count.div_ceil(BLOCK_ROWS).div_ceil(8) as usize;
    if row_list_bytes(&blocks) < bit_bytes {
        header(out, BLOCKS);
        put_varint(out, blocks.len() as u64);
        return put_distances(out, &blocks);
    }
    header(out, BITS);
    let at = out.len();
    out.resize(at + bit_bytes, 0);
    for block in blocks {
        out[at + block as usize / 8] |= 1 << (block % 8);
    }
}

/// Goes past a posting; `None` where it is damaged.
pub(super) fn skip_posting(cursor: &mut Cursor<'_>, row_count: u32) -> Option<()> {
    let header = cursor.varint()?;
    let listed = match header & 7 {
        ALL => 0,
        ROWS => header >> 3,
        BLOCKS | PAGES => cursor.varint()?,
        BITS => {
            cursor.take(row_count.div_ceil(BLOCK_ROWS).div_ceil(8) as usize)?;
            0
        }
        _ => return None,
    };
    (listed <= u64::from(row_count)).then_some(())?;
    (0..listed).try_for_each(|_| cursor.varint().map(|_| ()))
}

/// The count of a posting, without its rows.
pub(super) fn posting_count(mut cursor: Cursor<'_>) -> Option<u64> {
    Some(cursor.varint()? >> 3)
}

/// Adds the rows of a posting to `rows`; its count, and whether the rows are exact.
pub(super) fn add_posting(
    cursor: &mut Cursor<'_>,
    row_count: u32,
    rows: &mut RoaringBitmap,
) -> Option<(u64, bool)> {
    let header = cursor.varint()?;
    let count = header >> 3;
    let mut add_blocks = |first: u32, width: u32| {
        let start = first
            .checked_mul(width)
            .filter(|start| *start < row_count)?;
        rows.insert_range(start..start.saturating_add(width).min(row_count));
        Some(())
    };
    match header & 7 {
        ALL => {
            rows.insert_range(0..row_count);
            return Some((count, true));
        }
        ROWS => {
            let mut next = 0u32;
            for _ in 0..count {
                let row = next.checked_add(cursor.small()?)?;
                (row < row_count).then(|| rows.insert(row))?;
                next = row + 1;
            }
            return Some((count, true));
        }
        form @ (BLOCKS | PAGES) => {
            let width = if form == PAGES { PAGE_ROWS } else { BLOCK_ROWS };
            let listed = cursor.varint()?;
            let mut next = 0u32;
            for _ in 0..listed {
                let block = next.checked_add(cursor.small()?)?;
                add_blocks(block, width)?;
                next = block.checked_add(1)?;
            }
        }
        BITS => {
            let blocks = row_count.div_ceil(BLOCK_ROWS);
            let bits = cursor.take(blocks.div_ceil(8) as usize)?;
            let set = (0..blocks).filter(|block| bits[*block as usize / 8] >> (block % 8) & 1 == 1);
            // Neighbours together: a bitmap takes a range faster than its parts.
            let mut run = 0..0;
            for block in set.chain([u32::MAX]) {
                if block != run.end {
                    let end = run.end.saturating_mul(BLOCK_ROWS).min(row_count);
                    rows.insert_range(run.start * BLOCK_ROWS..end);
                    run.start = block;
                }
                run.end = block.saturating_add(1);
            }
        }
        _ => return None,
    }
    Some((count, false))
}

fn blocks_of(rows: &[u32], width: u32) -> Vec<u32> {
    let mut blocks: Vec<u32> = rows.iter().map(|row| row / width).collect();
    blocks.dedup();
    blocks
}

/// The first number, then how many are left out before each next one.
fn put_distances(out: &mut Vec<u8>, numbers: &[u32]) {
    let mut next = 0;
    for number in numbers {
        put_varint(out, u64::from(number - next));
        next = number + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8], row_count: u32) -> Option<Posting> {
        let mut rows = RoaringBitmap::new();
        let (count, exact) = add_posting(&mut Cursor::new(bytes, 0), row_count, &mut rows)?;
        Some(Posting { count, rows, exact })
    }

    proptest! {
        #[test]
        fn a_posting_holds_all_its_rows_and_exact_ones_no_others(
            seed in proptest::collection::btree_set(0u32..60_000, 0..300),
            dense in 1u32..400, row_count in 1u32..60_000, pages: bool,
        ) {
            let detail = if pages { Detail::Pages } else { Detail::Rows };
            let dense = (0..row_count).step_by(dense as usize);
            let sparse = seed.into_iter().filter(|row| *row < row_count);
            for rows in [sparse.collect::<Vec<_>>(), dense.collect()] {
                let mut bytes = Vec::new();
                put_posting(&mut bytes, &rows, row_count, detail);
                let posting = decoded(&bytes, row_count).unwrap();
                let expected: RoaringBitmap = rows.iter().copied().collect();
                prop_assert_eq!(posting.count, rows.len() as u64);
                prop_assert!(expected.is_subset(&posting.rows));
                prop_assert!(!posting.exact || posting.rows == expected);
                prop_assert!(posting.rows.max().is_none_or(|row| row < row_count));
                let mut cursor = Cursor::new(&bytes, 0);
                skip_posting(&mut cursor, row_count).unwrap();
                prop_assert!(cursor.is_at_end());
            }
        }

        #[test]
        fn damaged_postings_end_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decoded(&bytes, 5000);
            let _ = skip_posting(&mut Cursor::new(&bytes, 0), 5000);
        }
    }
}
