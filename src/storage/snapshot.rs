//! The files of one version of the lake.
//!
//! Read [`Snapshot`]. It never changes; a refresh of the log makes another.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::{Hour, LakeFile};

/// What the lake holds at one version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    version: u64,
    inner: Arc<Files>,
    attribute_columns: Arc<BTreeSet<String>>,
}

/// The files of an hour in order of bucket and path. Snapshots share those that did not change.
pub type HourFiles = Arc<Vec<Arc<LakeFile>>>;

#[derive(Debug, Default, Clone)]
struct Files {
    by_hour: BTreeMap<Hour, HourFiles>,
    file_count: usize,
    row_count: u64,
    byte_count: u64,
}

impl Files {
    fn add(&mut self, file: Arc<LakeFile>) {
        let files = self.by_hour.entry(file.hour).or_default();
        // The order of the log is not defined; that of answers without ORDER BY should be.
        let Err(place) = place(files, &file) else {
            return;
        };
        self.file_count += 1;
        self.row_count += file.row_count;
        self.byte_count += file.size;
        Arc::make_mut(files).insert(place, file);
    }

    fn remove(&mut self, file: &LakeFile) {
        let Some(files) = self.by_hour.get_mut(&file.hour) else {
            return;
        };
        let Ok(place) = place(files, file) else {
            return;
        };
        let gone = Arc::make_mut(files).remove(place);
        self.file_count -= 1;
        self.row_count -= gone.row_count;
        self.byte_count -= gone.size;
        if files.is_empty() {
            self.by_hour.remove(&file.hour);
        }
    }
}

/// Where a file stands among those of its hour, or would.
fn place(files: &[Arc<LakeFile>], file: &LakeFile) -> std::result::Result<usize, usize> {
    files.binary_search_by(|other| (other.bucket, &other.path).cmp(&(file.bucket, &file.path)))
}

impl Snapshot {
    /// The snapshot of a version with these files.
    pub fn new(version: u64, files: impl IntoIterator<Item = Arc<LakeFile>>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        // In order, each is added behind those before.
        files.sort_by(|a, b| (a.hour, a.bucket, &a.path).cmp(&(b.hour, b.bucket, &b.path)));
        let mut inner = Files::default();
        for file in files {
            inner.add(file);
        }
        Self {
            version,
            inner: Arc::new(inner),
            attribute_columns: Arc::default(),
        }
    }

    /// The snapshot, whose table has these columns of attributes.
    pub(super) fn with_attribute_columns(mut self, names: BTreeSet<String>) -> Self {
        self.attribute_columns = Arc::new(names);
        self
    }

    /// The snapshot after a commit upon this one.
    pub(super) fn with_changes(
        &self,
        version: u64,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
    ) -> Self {
        let mut columns = Arc::clone(&self.attribute_columns);
        let mut inner = Files::clone(&self.inner);
        for file in removes {
            inner.remove(file);
        }
        for file in adds {
            let mut file = file.clone();
            // The table's schema has them now.
            for name in mem::take(&mut file.attribute_columns) {
                if !columns.contains(&name) {
                    Arc::make_mut(&mut columns).insert(name);
                }
            }
            inner.add(Arc::new(file));
        }
        Self {
            version,
            inner: Arc::new(inner),
            attribute_columns: columns,
        }
    }

    /// The version of the table, from 0.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The names of the columns of attributes that files may have, as far as the table's schema
    /// has them; see [`AttributeColumn`](crate::span::AttributeColumn).
    pub fn attribute_columns(&self) -> &BTreeSet<String> {
        &self.attribute_columns
    }

    /// The number of files.
    pub fn file_count(&self) -> usize {
        self.inner.file_count
    }

    /// The rows of all files.
    pub fn row_count(&self) -> u64 {
        self.inner.row_count
    }

    /// The bytes of all files.
    pub fn byte_count(&self) -> u64 {
        self.inner.byte_count
    }

    /// All files, by hour, bucket and path.
    pub fn files(&self) -> impl Iterator<Item = &Arc<LakeFile>> {
        self.inner.by_hour.values().flat_map(|files| files.iter())
    }

    /// The files of each hour, in order of bucket and path. No hour is without a file.
    pub fn files_by_hour(&self) -> &BTreeMap<Hour, HourFiles> {
        &self.inner.by_hour
    }

    /// The file with that path, if it is in the lake.
    pub fn file(&self, hour: Hour, path: &str) -> Option<&Arc<LakeFile>> {
        let files = self.inner.by_hour.get(&hour)?;
        files.iter().find(|file| file.path == path)
    }

    /// Whether a file is in the lake.
    pub fn contains(&self, file: &LakeFile) -> bool {
        let files = self.inner.by_hour.get(&file.hour);
        files.is_some_and(|files| place(files, file).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Bucket;

    #[test]
    fn a_hundred_thousand_files_are_grouped_by_hour_at_once() {
        let files = (0..100_000).map(|number: i32| {
            Arc::new(LakeFile {
                path: format!("{number}"),
                size: 10,
                hour: Hour(number / 100),
                bucket: Bucket::Level0,
                row_count: 2,
                min_start_nano: 0,
                max_start_nano: 0,
                min_ingested_micros: 0,
                max_ingested_micros: 0,
                min_duration_nano: None,
                max_duration_nano: None,
                null_duration_count: 0,
                modified_ms: 0,
                attribute_columns: Vec::new(),
            })
        });
        let snapshot = Snapshot::new(7, files);
        assert_eq!(snapshot.files_by_hour().len(), 1000);
        assert_eq!(
            (snapshot.file_count(), snapshot.row_count()),
            (100_000, 200_000)
        );
        assert!(snapshot.file(Hour(5), "512").is_some());
        assert!(snapshot.file(Hour(6), "512").is_none());
    }
}
