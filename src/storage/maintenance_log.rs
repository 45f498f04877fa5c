//! What was done to keep a lake in shape, as long as the process remembers.
//!
//! Read [`MaintenanceLog`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Works that are remembered; older ones are forgotten.
const REMEMBERED: usize = 1000;

/// One work on a lake, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceRecord {
    /// When it began, in microseconds since 1970.
    pub started_micros: i64,
    /// How long it took, in nanoseconds.
    pub duration_nano: i64,
    /// `compact`, `expire` or `vacuum`.
    pub task: &'static str,
    /// The hour it was about, where it was about one.
    pub hour: Option<String>,
    /// Files merged or dropped.
    pub files_before: u64,
    /// Files that took their place.
    pub files_after: u64,
    /// Bytes merged or dropped.
    pub bytes_before: u64,
    /// Bytes that took their place.
    pub bytes_after: u64,
    /// Spans merged or dropped.
    pub span_count: u64,
    /// Exact duplicates dropped.
    pub duplicate_count: u64,
    /// Why it failed; `None` where it did not.
    pub error: Option<String>,
}

/// The works done by this process, the last ones.
#[derive(Debug, Default)]
pub struct MaintenanceLog {
    records: Mutex<VecDeque<MaintenanceRecord>>,
}

impl MaintenanceLog {
    /// Remembers a work.
    pub fn add(&self, record: MaintenanceRecord) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= REMEMBERED {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// The works remembered, the oldest first.
    pub fn records(&self) -> Vec<MaintenanceRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_works_are_forgotten() {
        let log = MaintenanceLog::default();
        for number in 0..REMEMBERED as u64 + 5 {
            log.add(MaintenanceRecord {
                span_count: number,
                ..MaintenanceRecord::default()
            });
        }
        let records = log.records();
        assert_eq!((records.len(), records[0].span_count), (REMEMBERED, 5));
    }
}
