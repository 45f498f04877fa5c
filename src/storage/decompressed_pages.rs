//! Pages as they were before they were compressed with zstd.
//!
//! Read [`DecompressedPages`]. A reader of the Parquet library makes a decompressor for each column
//! it reads, and to make one takes longer than the few pages of a look-up: here there is one for
//! each thread.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::Result;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

/// Decompresses the pages of a reader that takes them to be uncompressed.
pub(super) struct DecompressedPages<R: ChunkReader> {
    pub(super) pages: SerializedPageReader<R>,
    /// The most that one of them may become.
    pub(super) max_bytes: usize,
}

impl<R: ChunkReader> DecompressedPages<R> {
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

impl<R: ChunkReader> Iterator for DecompressedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for DecompressedPages<R> {
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
