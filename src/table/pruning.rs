//! Which files of a lake a query must read, and what each step ruled out.
//!
//! Read [`choose_files`], which is pure, and [`FilePlan`]. The last step, the trace-id filters,
//! needs the files themselves and is [`FilePlan::prune_by_filters`]. Skipping pages and rows
//! inside a file is DataFusion's.

use std::sync::Arc;

use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use futures::{StreamExt, TryStreamExt};

use super::index_matches::{RowMatches, file_matches};
use super::index_predicate::IndexPredicate;
use super::newest::Newest;
use super::predicate::SpanPredicate;
use crate::error::Result;
use crate::span::TraceId;
use crate::storage::{FileIndex, Hour, Indexes, LakeFile, Snapshot, Store, TraceFilters};

/// How many trace-id filters or indexes are read at the same time.
const FILTER_READS: usize = 16;
/// How many indexes are read at the same time where the first may be enough.
const NEWEST_READS: usize = 4;

/// Files left, newest hour first, and what was ruled out on the way.
#[derive(Debug, Default, Clone)]
pub(super) struct FilePlan {
    /// The files to read.
    pub files: Vec<PlannedFile>,
    /// What each step removed.
    pub report: PruningReport,
}

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct PlannedFile {
    /// The file.
    pub file: Arc<LakeFile>,
    /// Those of the trace ids asked for that it may hold, in order; empty where any will do.
    pub trace_ids: Vec<TraceId>,
    /// For each row group, its rows and those that can pass; empty where any may.
    pub row_groups: Vec<(u64, RowMatches)>,
}

impl PlannedFile {
    /// The rows that its index leaves.
    pub(super) fn row_count(&self) -> u64 {
        if self.row_groups.is_empty() {
            return self.file.row_count;
        }
        let groups = self.row_groups.iter();
        let rows = groups.map(|(count, matches)| matches.rows.as_ref().map_or(*count, |r| r.len()));
        rows.sum()
    }

    fn of_any_trace(file: &Arc<LakeFile>) -> Self {
        Self {
            file: Arc::clone(file),
            trace_ids: Vec::new(),
            row_groups: Vec::new(),
        }
    }
}

/// How many files each step of pruning removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PruningReport {
    /// Files of the snapshot.
    pub considered: usize,
    /// Their hour lies outside the time asked for.
    pub by_hour: usize,
    /// Their bucket holds none of the trace ids.
    pub by_bucket: usize,
    /// Their earliest or latest start lies outside the time asked for.
    pub by_statistics: usize,
    /// Their trace-id filter holds none of the trace ids.
    pub by_trace_filter: usize,
    /// Their index holds no row that can pass.
    pub by_index: usize,
    /// They hold no row new enough to be among the newest that are wanted.
    pub by_newest: usize,
    /// The values and patterns that were looked up in each index.
    pub index_terms: usize,
    /// The rows that indexes left of the files they were asked about.
    pub index_rows: u64,
}

impl PruningReport {
    /// Adds what it says to the metrics of what reads the files that are left.
    pub(super) fn record(&self, metrics: &ExecutionPlanMetricsSet) {
        for (name, count) in [
            ("files_considered", self.considered),
            ("files_pruned_by_hour", self.by_hour),
            ("files_pruned_by_bucket", self.by_bucket),
            ("files_pruned_by_statistics", self.by_statistics),
            ("files_pruned_by_trace_filter", self.by_trace_filter),
            ("files_pruned_by_index", self.by_index),
            ("files_pruned_by_newest", self.by_newest),
            ("index_terms", self.index_terms),
            (
                "index_rows_left",
                usize::try_from(self.index_rows).unwrap_or(usize::MAX),
            ),
        ] {
            let metric = MetricBuilder::new(metrics).global_counter(name);
            metric.add(count);
        }
    }
}

/// The files that hours, buckets and statistics cannot rule out.
pub(super) fn choose_files(snapshot: &Snapshot, predicate: &SpanPredicate) -> FilePlan {
    let mut plan = FilePlan::default();
    plan.report.considered = snapshot.file_count();
    if predicate.is_never() {
        plan.report.by_hour = snapshot.file_count();
        return plan;
    }
    let hours = Hour::of_nano(predicate.min_start_nano)..=Hour::of_nano(predicate.max_start_nano);
    let mut in_hours = 0;
    for (_, files) in snapshot.files_by_hour().range(hours).rev() {
        in_hours += files.len();
        for file in files.iter() {
            let ids = predicate.trace_ids.as_ref();
            if ids.is_some_and(|ids| !ids.iter().any(|id| file.bucket.may_contain(id))) {
                plan.report.by_bucket += 1;
            } else if file.max_start_nano < predicate.min_start_nano
                || file.min_start_nano > predicate.max_start_nano
            {
                plan.report.by_statistics += 1;
            } else {
                plan.files.push(PlannedFile::of_any_trace(file));
            }
        }
    }
    plan.report.by_hour = plan.report.considered - in_hours;
    plan
}

/// Every file: what a query reads with pruning off.
pub(super) fn all_files(snapshot: &Snapshot) -> FilePlan {
    FilePlan {
        files: snapshot.files().map(PlannedFile::of_any_trace).collect(),
        report: PruningReport {
            considered: snapshot.file_count(),
            ..PruningReport::default()
        },
    }
}

/// These files, whole.
pub(super) fn files_of(files: &[Arc<LakeFile>]) -> FilePlan {
    FilePlan {
        files: files.iter().map(PlannedFile::of_any_trace).collect(),
        report: PruningReport::default(),
    }
}

/// Of so many rows of the files one is left where few are.
const SPARSE: u64 = 16;

impl FilePlan {
    /// Whether traces are looked up by their ids.
    pub(super) fn is_by_id(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|planned| !planned.trace_ids.is_empty())
    }

    /// Whether few rows of the files that are left can pass.
    pub(super) fn is_sparse(&self) -> bool {
        let left: u64 = self.files.iter().map(PlannedFile::row_count).sum();
        let all: u64 = self.files.iter().map(|p| p.file.row_count).sum();
        self.is_by_id() || left * SPARSE < all
    }

    /// Whether indexes have told of each row whether it passes the filters, but for those on time.
    pub(super) fn is_judged(&self) -> bool {
        let mut files = self.files.iter();
        files.all(|planned| {
            let mut groups = planned.row_groups.iter();
            !planned.row_groups.is_empty() && groups.all(|(_, matches)| matches.exact)
        })
    }

    /// Removes the files whose trace-id filter rules out every id asked for.
    pub(super) async fn prune_by_filters(
        mut self,
        store: &Store,
        filters: &TraceFilters,
        predicate: &SpanPredicate,
    ) -> Result<Self> {
        let Some(ids) = &predicate.trace_ids else {
            return Ok(self);
        };
        let considered = self.files.len();
        let ids: Vec<TraceId> = ids.iter().copied().collect();
        let kept = futures::stream::iter(std::mem::take(&mut self.files))
            .map(|planned| {
                let ids = &ids;
                async move {
                    let trace_ids = filters.matching(store, &planned.file, ids).await?;
                    let planned = PlannedFile {
                        trace_ids,
                        ..planned
                    };
                    Ok::<_, crate::Error>((!planned.trace_ids.is_empty()).then_some(planned))
                }
            })
            .buffered(FILTER_READS)
            .try_collect::<Vec<_>>()
            .await?;
        self.files = kept.into_iter().flatten().collect();
        self.report.by_trace_filter = considered - self.files.len();
        Ok(self)
    }

    /// Removes the files whose index holds no row that can pass, and notes the rows of the others
    /// that can. Files are asked in their order, and no more of them than `newest` needs.
    pub(super) async fn prune_by_index(
        mut self,
        store: &Store,
        indexes: &Indexes,
        predicate: &IndexPredicate,
        mut newest: Option<Newest>,
    ) -> Result<Self> {
        if !predicate.is_useful() && newest.is_none() {
            return Ok(self);
        }
        let reads = if newest.is_some() {
            NEWEST_READS
        } else {
            FILTER_READS
        };
        let files = std::mem::take(&mut self.files);
        let mut waiting = files.into_iter();
        let mut asked = futures::stream::FuturesOrdered::new();
        let mut kept: Vec<(PlannedFile, Arc<FileIndex>)> = Vec::new();
        loop {
            while asked.len() < reads
                && let Some(planned) = waiting.next()
            {
                if newest
                    .as_ref()
                    .is_some_and(|newest| newest.excludes(&planned.file))
                {
                    self.report.by_newest += 1;
                    continue;
                }
                let index = indexes.of_file(store, &planned.file);
                asked.push_back(async move {
                    let row_groups = file_matches(predicate, &index).await?;
                    let planned = PlannedFile {
                        row_groups,
                        ..planned
                    };
                    Ok::<_, crate::Error>((planned, index))
                });
            }
            let Some((planned, index)) = asked.try_next().await? else {
                break;
            };
            let groups = &planned.row_groups;
            if !groups.is_empty() && groups.iter().all(|(_, matches)| matches.is_none()) {
                self.report.by_index += 1;
                continue;
            }
            if let Some(newest) = &mut newest {
                add_newest(newest, &planned, &index).await?;
            }
            kept.push((planned, index));
        }
        drop(asked);
        for (mut planned, index) in kept {
            if let Some(newest) = &newest
                && !keep_newest(newest, &mut planned, &index).await?
            {
                self.report.by_newest += 1;
                continue;
            }
            self.files.push(planned);
        }
        self.report.index_terms = predicate.term_count();
        self.report.index_rows = self.files.iter().map(PlannedFile::row_count).sum();
        Ok(self)
    }
}

/// Notes the newest rows of a file.
async fn add_newest(newest: &mut Newest, planned: &PlannedFile, index: &FileIndex) -> Result<()> {
    if newest.excludes(&planned.file) {
        return Ok(());
    }
    let groups = index.row_groups().await?.iter();
    for (group, (_, matches)) in groups.zip(&planned.row_groups) {
        if matches.exact
            && !matches.is_none()
            && let Some(rows) = group.rows(index).await?
        {
            newest.add(&planned.file, matches, &rows);
        }
    }
    Ok(())
}

/// Leaves only the rows of a file that can be among the newest; whether there are any.
async fn keep_newest(
    newest: &Newest,
    planned: &mut PlannedFile,
    index: &FileIndex,
) -> Result<bool> {
    if newest.excludes(&planned.file) {
        return Ok(false);
    }
    if newest.cutoff().is_none() {
        return Ok(true);
    }
    let groups = index.row_groups().await?.iter();
    let mut any = planned.row_groups.is_empty();
    for (group, (_, matches)) in groups.zip(&mut planned.row_groups) {
        if !matches.is_none()
            && let Some(rows) = group.rows(index).await?
        {
            *matches = newest.keep(matches, &rows);
        }
        any |= !matches.is_none();
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::storage::Bucket;

    /// A lake of `hours` hours with `buckets` files each, none of which exists.
    fn simulated(hours: i32, buckets: u32) -> Snapshot {
        let files = (0..hours).flat_map(|hour| {
            (0..buckets).map(move |index| {
                let hour = Hour(hour);
                Arc::new(LakeFile {
                    path: format!("day={}/hour={}/b{index}", hour.day(), hour.hour()),
                    size: 1 << 27,
                    hour,
                    bucket: Bucket::Of {
                        index,
                        count: buckets,
                    },
                    row_count: 1 << 20,
                    min_start_nano: hour.start_nano(),
                    max_start_nano: hour.start_nano() + 1,
                    min_ingested_micros: 0,
                    max_ingested_micros: 0,
                    min_duration_nano: None,
                    max_duration_nano: None,
                    null_duration_count: 0,
                    modified_ms: 0,
                    attribute_columns: Vec::new(),
                })
            })
        });
        Snapshot::new(1, files)
    }

    fn lookup(hours: Option<(i32, i32)>) -> SpanPredicate {
        let id = TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").ok();
        let (first, last) = hours.unwrap_or((i32::MIN, i32::MAX));
        SpanPredicate {
            trace_ids: Some(id.into_iter().collect()),
            min_start_nano: Hour(first).start_nano(),
            max_start_nano: Hour(last).start_nano(),
        }
    }

    #[test]
    fn a_lookup_reads_one_bucket_of_each_hour_in_its_time() {
        let snapshot = simulated(24, 16);
        let plan = choose_files(&snapshot, &lookup(None));
        assert_eq!((plan.files.len(), plan.report.by_bucket), (24, 24 * 15));
        let plan = choose_files(&snapshot, &lookup(Some((3, 4))));
        assert_eq!((plan.files.len(), plan.report.by_hour), (2, 22 * 16));
    }

    #[test]
    fn choosing_among_a_hundred_thousand_files_takes_milliseconds() {
        let snapshot = simulated(6250, 16);
        assert_eq!(snapshot.file_count(), 100_000);
        for predicate in [lookup(None), lookup(Some((100, 101)))] {
            let fastest = (0..5).map(|_| {
                let started = Instant::now();
                assert!(!choose_files(&snapshot, &predicate).files.is_empty());
                started.elapsed()
            });
            // Some 2 ms where optimized; this runs unoptimized, on any machine.
            let fastest = fastest.min().unwrap_or_default();
            println!("chosen in {fastest:?}");
            assert!(fastest < Duration::from_millis(200), "{fastest:?}");
        }
    }
}
