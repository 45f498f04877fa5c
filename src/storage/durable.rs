//! A local file system whose writes survive a power cut once they have returned.
//!
//! Read [`DurableLocal`]. Reading, listing and deleting are object_store's own.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

const STORE: &str = "local disk";

/// What is read for nothing rather than by a call of its own left out.
const GAP_BYTES: u64 = 4096;

/// The local file system, from its root.
///
/// A file is written under another name, synced, and only then given its own, so that no name
/// ever stands for half a file; then its directory is synced, and those made for it.
#[derive(Debug)]
pub(super) struct DurableLocal {
    inner: LocalFileSystem,
}

impl DurableLocal {
    pub(super) fn new() -> Self {
        Self {
            inner: LocalFileSystem::new(),
        }
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        run_blocking(move || put_synced(&path, &payload, create).map_err(|e| name(e, &path)))
            .await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let parent = parent(&path).to_owned();
        run_blocking(move || create_directories(&parent).map_err(|e| name(e, &parent))).await?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // The pages of a column lie one after the other: a call for each takes longer than
        // reading it.
        let together = Arc::new(together(ranges));
        let path = self.inner.path_to_filesystem(location)?;
        let read = Arc::clone(&together);
        let read = run_blocking(move || read_ranges(&path, &read).map_err(|e| name(e, &path)));
        let read = read.await?;
        let parts = ranges.iter().map(|range| {
            let place = together.partition_point(|read| read.start <= range.start) - 1;
            let start = (range.start - together[place].start) as usize;
            read[place].slice(start..start + (range.end - range.start) as usize)
        });
        Ok(parts.collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let path = self.inner.path_to_filesystem(to)?;
        run_blocking(move || sync_file(&path).map_err(|e| name(e, &path))).await
    }
}

/// An upload in parts, synced when it is complete.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        let path = self.path.clone();
        // Nothing refers to a data file before it is committed, so syncing it under its own
        // name is enough.
        run_blocking(move || sync_file(&path).map_err(|e| name(e, &path))).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Fewer ranges, in order, in which all of `ranges` lie.
fn together(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut together: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match together.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => together.push(range),
        }
    }
    together
}

/// What stands at each of `ranges`.
fn read_ranges(path: &FsPath, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let read = ranges.iter().map(|range| {
        let length = range.end.saturating_sub(range.start);
        if range.end > size {
            let message = format!("{size} bytes, of which {range:?} were wanted");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        // Not filled with zeros first, as slices to read into would have to be.
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
        file.seek(SeekFrom::Start(range.start))?;
        (&file).take(length).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes.into()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    });
    read.collect()
}

fn put_synced(path: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
    create_directories(parent(path))?;
    let staging = staging_path(path);
    let written = write_and_name(&staging, path, payload, create);
    if written.is_err() || create {
        // After a hard link the staging name is a second one; after a failure it is rubbish.
        let removed = fs::remove_file(&staging);
        written?;
        removed?;
    }
    sync_directory(parent(path))
}

fn write_and_name(
    staging: &FsPath,
    path: &FsPath,
    payload: &PutPayload,
    create: bool,
) -> io::Result<()> {
    let mut file = File::create_new(staging)?;
    for bytes in payload {
        file.write_all(bytes)?;
    }
    file.sync_all()?;
    drop(file);
    if create {
        fs::hard_link(staging, path)
    } else {
        fs::rename(staging, path)
    }
}

/// A name beside `path` that listings leave out: they ignore `#` and digits at the end.
fn staging_path(path: &FsPath) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    // Random: process ids come again, in containers soon, and would meet what a killed process
    // of the same number left behind.
    name.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    PathBuf::from(name)
}

/// A file that was written under its staging name and never got its own.
#[derive(Debug)]
pub(super) struct Abandoned {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) modified_ms: i64,
}

/// What writers that were killed left below a directory; listings do not show it.
pub(super) fn abandoned(directory: &FsPath) -> io::Result<Vec<Abandoned>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file()
                && is_staging_name(&entry.file_name().to_string_lossy())
                && let Ok(meta) = entry.metadata()
            {
                let modified = chrono::DateTime::<chrono::Utc>::from(meta.modified()?);
                found.push(Abandoned {
                    path: entry.path(),
                    size: meta.len(),
                    modified_ms: modified.timestamp_millis(),
                });
            }
        }
    }
    Ok(found)
}

/// Whether [`staging_path`] makes such names of those of a lake.
fn is_staging_name(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, digits)| {
        let ours = [".parquet", ".json", "_last_checkpoint"];
        ours.iter().any(|ending| name.ends_with(ending))
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Makes a directory and those above it, each entry synced in the directory that holds it.
fn create_directories(path: &FsPath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_directories(above)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            result => result?,
        }
        return sync_directory(above);
    }
    Ok(())
}

fn sync_file(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_directory(parent(path))
}

#[cfg(unix)]
fn sync_directory(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &FsPath) -> io::Result<()> {
    // Directories cannot be opened there; the file system orders its own entries.
    Ok(())
}

fn parent(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(path)
}

/// The error of a path, of the kind that object_store's own file system would give.
fn name(error: io::Error, path: &FsPath) -> Error {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists {
            path,
            source: error.into(),
        },
        io::ErrorKind::NotFound => Error::NotFound {
            path,
            source: error.into(),
        },
        _ => Error::Generic {
            store: STORE,
            // Still one of I/O: its kind tells a full disk from a broken one.
            source: io::Error::new(error.kind(), format!("{path}: {error}")).into(),
        },
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::JoinError { source: error })?
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn at(directory: &tempfile::TempDir, name: &str) -> Path {
        Path::from_absolute_path(directory.path().join(name)).unwrap()
    }

    #[tokio::test]
    async fn ranges_are_read_in_the_order_asked_for_near_or_far() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableLocal::new();
        let path = at(&directory, "file");
        let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let ranges = [
            15_000..15_010,
            3..7,
            0..3,
            5..12,
            6000..6001,
            19_990..20_000,
        ];
        let read = store.get_ranges(&path, &ranges).await.unwrap();
        for (range, read) in ranges.iter().zip(&read) {
            assert_eq!(
                read,
                &bytes[range.start as usize..range.end as usize],
                "{range:?}"
            );
        }
        let beyond = std::slice::from_ref(&(19_990..20_010));
        assert!(store.get_ranges(&path, beyond).await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_created_once_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableLocal::new();
        let path = at(&directory, "a/b/c");
        store
            .put_opts(&path, "one".into(), PutMode::Create.into())
            .await
            .unwrap();
        let again = store
            .put_opts(&path, "two".into(), PutMode::Create.into())
            .await;
        assert!(
            matches!(again, Err(Error::AlreadyExists { .. })),
            "{again:?}"
        );
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, "one");
        store.put(&path, "three".into()).await.unwrap();
        let names: Vec<_> = fs::read_dir(directory.path().join("a/b"))
            .unwrap()
            .collect();
        assert_eq!(names.len(), 1);
    }

    #[tokio::test]
    async fn parts_become_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableLocal::new();
        let path = at(&directory, "day=1/x.parquet");
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("ab".into()).await.unwrap();
        upload.put_part("cd".into()).await.unwrap();
        upload.complete().await.unwrap();
        let prefix = Path::from_absolute_path(directory.path()).unwrap();
        let found: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
        assert_eq!((found.len(), found[0].size), (1, 4));
    }
}
