//! The parts of a time range in which the newest spans are looked for, one after another.
//!
//! Read [`windows`], which is pure.

use super::search_plan::TimeWindow;
use crate::storage::Snapshot;

/// How much more each window holds than the one before.
const GROWTH: u64 = 4;

/// Windows that together are `range`, newest first, each with several times the spans of the one
/// before, the first at least `wanted`. They end where hours do. The first is open towards the future and the last towards the
/// past, as far as the range is, since spans may arrive in hours the snapshot does not know.
pub(super) fn windows(snapshot: &Snapshot, range: TimeWindow, mut wanted: u64) -> Vec<TimeWindow> {
    let mut windows = Vec::new();
    let mut to_nano = range.to_nano;
    let mut spans = 0;
    for (hour, files) in snapshot.files_by_hour().iter().rev() {
        let start = hour.start_nano();
        if to_nano.is_some_and(|to| to <= start) {
            continue;
        }
        if range.from_nano.is_some_and(|from| from >= start) {
            break;
        }
        spans += files.iter().map(|file| file.row_count).sum::<u64>();
        if spans >= wanted {
            windows.push(TimeWindow {
                from_nano: Some(start),
                to_nano,
            });
            to_nano = Some(start);
            wanted = wanted.saturating_mul(GROWTH);
            spans = 0;
        }
    }
    windows.push(TimeWindow {
        from_nano: range.from_nano,
        to_nano,
    });
    windows
}
