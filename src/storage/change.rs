//! What one version of the lake holds that another does not.
//!
//! Read [`Change`]. It is pure; what is made of it is the business of caches.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Hour, LakeFile, Snapshot};

/// What a newer version of the lake can answer differently from an older one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The older version.
    pub from: u64,
    /// The newer version.
    pub to: u64,
    /// Files whose spans may be new.
    pub appended: Vec<Arc<LakeFile>>,
    /// Files whose spans may be gone.
    pub dropped: Vec<Arc<LakeFile>>,
}

impl Change {
    /// The change from one snapshot to a later one of the same lake.
    ///
    /// A version that both adds and removes files is a compaction: it holds the same spans, and
    /// nothing changes. Where several versions lie between the two it is not known which file
    /// came or went for which reason, and all are named.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let mut change = Self {
            from: before.version(),
            to: after.version(),
            ..Self::default()
        };
        if change.from == change.to {
            return change;
        }
        let (old, new) = (before.files_by_hour(), after.files_by_hour());
        let hours: BTreeSet<Hour> = old.keys().chain(new.keys()).copied().collect();
        for hour in hours {
            let (old, new) = (old.get(&hour), new.get(&hour));
            if let (Some(old), Some(new)) = (old, new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
            let old = old.map_or(&[][..], |files| files.as_slice());
            let new = new.map_or(&[][..], |files| files.as_slice());
            add_difference(new, old, &mut change.appended);
            add_difference(old, new, &mut change.dropped);
        }
        let is_one_version = change.from + 1 == change.to;
        if is_one_version && !change.appended.is_empty() && !change.dropped.is_empty() {
            change.appended.clear();
            change.dropped.clear();
        }
        change
    }

    /// Whether both versions answer alike.
    pub fn is_empty(&self) -> bool {
        self.appended.is_empty() && self.dropped.is_empty()
    }

    /// The files whose spans may be new or gone.
    pub fn files(&self) -> impl Iterator<Item = &Arc<LakeFile>> {
        self.appended.iter().chain(&self.dropped)
    }
}

/// Adds the files of one hour that `others` does not have. Both are in order of bucket and path.
fn add_difference(
    files: &[Arc<LakeFile>],
    others: &[Arc<LakeFile>],
    difference: &mut Vec<Arc<LakeFile>>,
) {
    let mut others = others.iter().peekable();
    for file in files {
        let key = (file.bucket, &file.path);
        while others
            .next_if(|other| (other.bucket, &other.path) < key)
            .is_some()
        {}
        if others.peek().is_none_or(|other| other.path != file.path) {
            difference.push(Arc::clone(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Bucket;

    fn file(hour: i32, path: &str) -> Arc<LakeFile> {
        let bucket = if path.starts_with('b') {
            Bucket::Of { index: 0, count: 1 }
        } else {
            Bucket::Level0
        };
        Arc::new(LakeFile {
            path: path.to_string(),
            size: 1,
            hour: Hour(hour),
            bucket,
            row_count: 1,
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
    }

    fn snapshot(version: u64, files: &[(i32, &str)]) -> Snapshot {
        Snapshot::new(version, files.iter().map(|(hour, path)| file(*hour, path)))
    }

    fn paths(files: &[Arc<LakeFile>]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn appended_and_expired_files_are_named_and_compacted_ones_are_not() {
        let one = snapshot(1, &[(1, "a"), (1, "c")]);
        let two = snapshot(2, &[(1, "a"), (1, "b"), (1, "c"), (2, "d")]);
        let appended = Change::between(&one, &two);
        assert_eq!(paths(&appended.appended), ["b", "d"]);
        assert!(appended.dropped.is_empty());
        let three = snapshot(3, &[(1, "b00"), (2, "d")]);
        assert!(Change::between(&two, &three).is_empty());
        let four = snapshot(4, &[(2, "d")]);
        let expired = Change::between(&three, &four);
        assert_eq!(paths(&expired.dropped), ["b00"]);
        assert!(expired.appended.is_empty());
        assert!(Change::between(&four, &four).is_empty());
    }

    #[test]
    fn across_several_versions_every_file_counts() {
        let one = snapshot(1, &[(1, "a")]);
        let three = snapshot(3, &[(1, "b00")]);
        let change = Change::between(&one, &three);
        assert_eq!(paths(&change.appended), ["b00"]);
        assert_eq!(paths(&change.dropped), ["a"]);
        assert_eq!(change.files().count(), 2);
    }
}
