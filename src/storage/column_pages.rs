//! The pages of a file in which some rows lie, fetched at once and decompressed as they are
//! decoded.
//!
//! Read [`ColumnPages`]. A reader of the Parquet library makes a decompressor for each column it
//! reads, and to make one takes longer than the few pages of a look-up: here there is one for each
//! thread, so the library is given pages that need none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{RowGroups, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

/// Bytes between two pages that are read with them: to ask twice takes longer.
const NEAR_BYTES: u64 = 16 << 10;

/// Pages of some columns of some row groups.
pub struct ColumnPages {
    metadata: Arc<ParquetMetaData>,
    row_groups: Vec<usize>,
    /// By row group and leaf column.
    columns: HashMap<(usize, usize), Arc<FetchedColumn>>,
}

impl ColumnPages {
    /// Fetches what the selected rows of these row groups need of these leaf columns.
    pub async fn fetch(
        input: &mut impl AsyncFileReader,
        metadata: &Arc<ParquetMetaData>,
        (row_groups, selection): (&[usize], Option<&RowSelection>),
        leaves: &[usize],
    ) -> Result<Self> {
        let mut rest = selection.cloned();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut places = Vec::new();
        for group in row_groups {
            let row_group = metadata.row_group(*group);
            let row_count = usize::try_from(row_group.num_rows())?;
            let selected = rest.as_mut().map(|rest| rest.split_off(row_count));
            for leaf in leaves {
                let (start, length) = row_group.column(*leaf).byte_range();
                let first = ranges.len();
                match (&selected, page_locations(metadata, *group, *leaf)) {
                    (Some(selected), Some(pages)) => {
                        let data = pages.first().map(|page| page.offset as u64);
                        // A dictionary stands before the pages.
                        let dictionary = data.filter(|d| *d > start).map(|d| start..d);
                        for range in dictionary.into_iter().chain(selected.scan_ranges(pages)) {
                            match ranges[first..].last_mut() {
                                Some(last) if range.start <= last.end + NEAR_BYTES => {
                                    last.end = range.end;
                                }
                                _ => ranges.push(range),
                            }
                        }
                    }
                    _ => ranges.push(start..start + length),
                }
                places.push(((*group, *leaf), length, ranges.len() - first));
            }
        }
        let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
        let fetched = input.get_byte_ranges(ranges).await?;
        let mut fetched = starts.into_iter().zip(fetched);
        let columns = places.into_iter().map(|(place, length, count)| {
            let pieces = fetched.by_ref().take(count).collect();
            (place, Arc::new(FetchedColumn { length, pieces }))
        });
        Ok(Self {
            columns: columns.collect(),
            metadata: Arc::clone(metadata),
            row_groups: row_groups.to_vec(),
        })
    }

    fn pages(&self, group: usize, leaf: usize) -> Result<Box<dyn PageReader>> {
        let Some(fetched) = self.columns.get(&(group, leaf)) else {
            let message = format!("column {leaf} was not fetched");
            return Err(ParquetError::General(message));
        };
        let row_group = self.metadata.row_group(group);
        let column = row_group.column(leaf);
        let pages = page_locations(&self.metadata, group, leaf).map(<[PageLocation]>::to_vec);
        let reader = |column: &ColumnChunkMetaData| {
            let row_count = usize::try_from(row_group.num_rows())?;
            SerializedPageReader::new(Arc::clone(fetched), column, row_count, pages)
        };
        if !matches!(column.compression(), Compression::ZSTD(_)) {
            return Ok(Box::new(reader(column)?));
        }
        let raw = column.clone().into_builder();
        let raw = raw.set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Box::new(Decompressing {
            pages: reader(&raw)?,
            max_bytes: usize::try_from(column.uncompressed_size())?,
        }))
    }
}

fn page_locations(
    metadata: &ParquetMetaData,
    group: usize,
    leaf: usize,
) -> Option<&[PageLocation]> {
    let index = metadata.offset_index()?.get(group)?.get(leaf)?;
    Some(index.page_locations().as_slice())
}

impl RowGroups for ColumnPages {
    fn num_rows(&self) -> usize {
        let counts = self.row_groups().map(|group| group.num_rows());
        counts.sum::<i64>().try_into().unwrap_or(0)
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let readers = self.row_groups.iter().map(|group| self.pages(*group, leaf));
        Ok(Box::new(ColumnReaders(
            readers.collect::<Vec<_>>().into_iter(),
        )))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        let groups = self.row_groups.iter();
        Box::new(groups.map(|group| self.metadata.row_group(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of a column, row group by row group.
struct ColumnReaders(std::vec::IntoIter<Result<Box<dyn PageReader>>>);

impl Iterator for ColumnReaders {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl PageIterator for ColumnReaders {}

/// Pieces of a column chunk, each with its place in the file, in order.
struct FetchedColumn {
    length: u64,
    pieces: Vec<(u64, Bytes)>,
}

impl FetchedColumn {
    /// What was fetched from there on.
    fn from(&self, start: u64) -> Result<Bytes> {
        let after = self.pieces.partition_point(|(place, _)| *place <= start);
        let piece = after.checked_sub(1).map(|index| &self.pieces[index]);
        let bytes = piece.and_then(|(place, bytes)| {
            let begin = usize::try_from(start - place).ok()?;
            (begin <= bytes.len()).then(|| bytes.slice(begin..))
        });
        bytes.ok_or_else(|| ParquetError::General(format!("no page was fetched at {start}")))
    }
}

impl Length for FetchedColumn {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for FetchedColumn {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("a page at {start} is cut short")));
        }
        Ok(bytes.slice(..length))
    }
}

/// Pages that are compressed with zstd, as they were before.
struct Decompressing {
    pages: SerializedPageReader<FetchedColumn>,
    /// The most that one of them may become.
    max_bytes: usize,
}

impl Decompressing {
    fn decompress(&self, bytes: &Bytes, plain: usize) -> Result<Bytes> {
        let (before, compressed) = bytes.split_at(plain.min(bytes.len()));
        if compressed.is_empty() {
            return Ok(bytes.clone());
        }
        thread_local! {
            static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
        }
        let size = Decompressor::upper_bound(compressed);
        let size = size.unwrap_or(self.max_bytes).min(self.max_bytes);
        let read = DECOMPRESSOR.with_borrow_mut(|decompressor| -> io::Result<Vec<u8>> {
            let decompressor = match decompressor {
                Some(decompressor) => decompressor,
                none => none.insert(Decompressor::new()?),
            };
            decompressor.decompress(compressed, size)
        })?;
        if before.is_empty() {
            return Ok(read.into());
        }
        Ok([before, read.as_slice()].concat().into())
    }

    fn decompressed(&self, mut page: Page) -> Result<Page> {
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = self.decompress(buf, 0)?;
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                if std::mem::replace(is_compressed, false) {
                    *buf = self.decompress(buf, levels)?;
                }
            }
        }
        Ok(page)
    }
}

impl Iterator for Decompressing {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Decompressing {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.decompressed(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelector,
    };
    use parquet::arrow::{ArrowWriter, ProjectionMask, parquet_to_arrow_field_levels};
    use parquet::basic::ZstdLevel;
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    fn rows() -> RecordBatch {
        let numbers = Int64Array::from_iter((0..1000).map(|n| (n % 7 > 0).then_some(n)));
        let texts =
            StringArray::from_iter((0..1000).map(|n| (n % 5 > 0).then(|| format!("text {n}"))));
        let few = StringArray::from_iter_values((0..1000).map(|n| ["a", "b", "c"][n % 3]));
        let lists = (0..1000).map(|n| (n % 4 > 0).then(|| vec![Some(n); n as usize % 4 - 1]));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let columns: [(&str, ArrayRef); 4] = [
            ("numbers", Arc::new(numbers)),
            ("texts", Arc::new(texts)),
            ("few", Arc::new(few)),
            ("lists", Arc::new(lists)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    }

    fn written(rows: &RecordBatch, version: WriterVersion, compression: Compression) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(compression)
            .set_data_page_row_count_limit(20)
            .set_write_batch_size(20)
            .set_max_row_group_row_count(Some(400))
            .set_column_dictionary_enabled("texts".into(), false)
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        file
    }

    async fn read(file: Vec<u8>, groups: &[usize], selection: Option<RowSelection>) -> RecordBatch {
        let mut input = Cursor::new(file);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load_async(&mut input, options)
            .await
            .unwrap();
        let leaves = [0, 1, 2, 3];
        let rows = (groups, selection.as_ref());
        let pages = ColumnPages::fetch(&mut input, metadata.metadata(), rows, &leaves);
        let pages = pages.await.unwrap();
        let mask = ProjectionMask::all();
        let fields = metadata.schema().fields();
        let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, Some(fields));
        let levels = levels.unwrap();
        let reader =
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &pages, 64, selection);
        let batches: Vec<_> = reader.unwrap().map(std::result::Result::unwrap).collect();
        concat_batches(metadata.schema(), &batches).unwrap()
    }

    #[tokio::test]
    async fn rows_are_those_that_were_written_however_pages_are_compressed() {
        let all = rows();
        let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for compression in [zstd, Compression::LZ4_RAW, Compression::UNCOMPRESSED] {
                let file = written(&all, version, compression);
                assert_eq!(read(file.clone(), &[0, 1, 2], None).await, all);
                // Of the first and the last row group: rows 3 to 5, 250 and 990 to 992.
                let stretches = [(3, 2), (245, 1), (339, 2)];
                let selectors = stretches.into_iter().flat_map(|(skipped, selected)| {
                    [RowSelector::skip(skipped), RowSelector::select(selected)]
                });
                let selection = RowSelection::from(selectors.collect::<Vec<_>>());
                let found = read(file, &[0, 2], Some(selection)).await;
                let wanted = [all.slice(3, 2), all.slice(250, 1), all.slice(990, 2)];
                assert_eq!(found, concat_batches(&all.schema(), &wanted).unwrap());
            }
        }
    }

    #[tokio::test]
    async fn what_was_not_fetched_or_is_damaged_is_an_error() {
        let column = FetchedColumn {
            length: 100,
            pieces: vec![
                (10, Bytes::from_static(b"0123")),
                (50, Bytes::from_static(b"ab")),
            ],
        };
        assert_eq!(&column.get_bytes(12, 2).unwrap()[..], b"23");
        assert_eq!(&column.from(50).unwrap()[..], b"ab");
        assert!(column.get_bytes(12, 3).is_err());
        assert!(column.from(9).is_err());
        assert!(column.from(20).is_err());
    }
}
