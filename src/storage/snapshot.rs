//! The files of one version of the lake.
//!
//! Read [`Snapshot`]. It never changes; a refresh of the log makes another.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::{Hour, LakeFile};

/// What the lake holds at one version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    version: u64,
    inner: Arc<Files>,
    attribute_columns: Arc<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Files {
    by_hour: BTreeMap<Hour, Vec<Arc<LakeFile>>>,
    file_count: usize,
    row_count: u64,
    byte_count: u64,
}

impl Snapshot {
    /// The snapshot of a version with these files.
    pub fn new(version: u64, files: impl IntoIterator<Item = Arc<LakeFile>>) -> Self {
        let mut inner = Files::default();
        for file in files {
            inner.file_count += 1;
            inner.row_count += file.row_count;
            inner.byte_count += file.size;
            inner.by_hour.entry(file.hour).or_default().push(file);
        }
        for files in inner.by_hour.values_mut() {
            // The order of the log is not defined; that of answers without ORDER BY should be.
            files.sort_by(|a, b| (a.bucket, &a.path).cmp(&(b.bucket, &b.path)));
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
        let removed: HashSet<&str> = removes.iter().map(|file| file.path.as_str()).collect();
        let kept = self
            .files()
            .filter(|file| !removed.contains(file.path.as_str()));
        let mut columns = Arc::clone(&self.attribute_columns);
        let names = adds.iter().flat_map(|file| &file.attribute_columns);
        for name in names {
            if !columns.contains(name) {
                Arc::make_mut(&mut columns).insert(name.clone());
            }
        }
        let added = adds.iter().cloned().map(|mut file| {
            // The table's schema has them now.
            file.attribute_columns = Vec::new();
            Arc::new(file)
        });
        let mut snapshot = Self::new(version, kept.cloned().chain(added));
        snapshot.attribute_columns = columns;
        snapshot
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
        self.inner.by_hour.values().flatten()
    }

    /// The files of each hour, in order of bucket and path. No hour is without a file.
    pub fn files_by_hour(&self) -> &BTreeMap<Hour, Vec<Arc<LakeFile>>> {
        &self.inner.by_hour
    }

    /// The file with that path, if it is in the lake.
    pub fn file(&self, hour: Hour, path: &str) -> Option<&Arc<LakeFile>> {
        let files = self.inner.by_hour.get(&hour)?;
        files.iter().find(|file| file.path == path)
    }

    /// Whether a file is in the lake.
    pub fn contains(&self, file: &LakeFile) -> bool {
        self.file(file.hour, &file.path).is_some()
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
