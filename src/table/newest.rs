//! Stops early where only the newest spans are asked for.
//!
//! Read [`NewestFirst`], the rule that finds such queries, and [`Newest`], which finds their rows
//! by what indexes know of operations and times, without reading a span.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use roaring::RoaringBitmap;

use super::SpansTable;
use super::index_matches::RowMatches;
use super::predicate::SpanPredicate;
use crate::storage::{LakeFile, RowSummary};

/// The most spans for which it pays to look for the newest first.
const MOST: usize = 10_000;
/// Ticks of an hour.
const TICKS: usize = 4096;

/// Tells the scan of `… ORDER BY start_time DESC LIMIT n` how many spans are wanted.
///
/// Only filters, projections and aliases may stand between the sort and the scan, and the scan
/// must have been told of every filter: then no row beyond the newest `n` that it finds matters.
#[derive(Debug)]
pub struct NewestFirst;

impl OptimizerRule for NewestFirst {
    fn name(&self) -> &str {
        "newest_first"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(sort) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let (Some(count), Some(first)) = (sort.fetch, sort.expr.first()) else {
            return Ok(Transformed::no(plan));
        };
        if first.asc || count == 0 || count > MOST {
            return Ok(Transformed::no(plan));
        }
        let Some(name) = column_name(&first.expr) else {
            return Ok(Transformed::no(plan));
        };
        let Some(input) = with_newest(&sort.input, name, count) else {
            return Ok(Transformed::no(plan));
        };
        let mut sort = sort.clone();
        sort.input = Arc::new(input);
        Ok(Transformed::yes(LogicalPlan::Sort(sort)))
    }
}

fn column_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Alias(alias) => column_name(&alias.expr),
        _ => None,
    }
}

/// The plan below a sort by the column `name`, whose scan knows that the newest `count` rows are
/// wanted; `None` where that cannot be said, or is known already.
fn with_newest(plan: &LogicalPlan, name: &str, count: usize) -> Option<LogicalPlan> {
    let mut name = name.to_string();
    let mut above: Vec<&LogicalPlan> = Vec::new();
    let mut filters: Vec<&Expr> = Vec::new();
    let mut plan = plan;
    let scan = loop {
        match plan {
            LogicalPlan::Projection(projection) => {
                let found = projection.expr.iter().find(|e| {
                    e.schema_name().to_string() == name || e.qualified_name().1 == name
                })?;
                name = column_name(found)?.to_string();
                above.push(plan);
                plan = &projection.input;
            }
            LogicalPlan::Filter(filter) => {
                filters.extend(split_conjunction(&filter.predicate));
                above.push(plan);
                plan = &filter.input;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                above.push(plan);
                plan = &alias.input;
            }
            LogicalPlan::TableScan(scan) => break scan,
            _ => return None,
        }
    };
    let known = filters.iter().all(|filter| scan.filters.contains(filter));
    if name != "start_time" || !known || scan.fetch.is_some() {
        return None;
    }
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<SpansTable>()?.newest(count)?;
    let scan = TableScan {
        source: provider_as_source(Arc::new(table)),
        ..scan.clone()
    };
    let mut plan = LogicalPlan::TableScan(scan);
    for node in above.into_iter().rev() {
        plan = node.with_new_exprs(node.expressions(), vec![plan]).ok()?;
    }
    Some(plan)
}

/// The times of the newest rows found so far, among those that surely pass the filters.
#[derive(Debug)]
pub(super) struct Newest {
    count: usize,
    /// The starts of the ticks of these rows, the latest first; as many as are wanted.
    starts: Vec<i64>,
    min_start_nano: i64,
    max_start_nano: i64,
}

impl Newest {
    /// The newest `count` rows of those that `predicate` admits.
    pub(super) fn new(count: usize, predicate: &SpanPredicate) -> Self {
        Self {
            count,
            starts: Vec::new(),
            min_start_nano: predicate.min_start_nano,
            max_start_nano: predicate.max_start_nano,
        }
    }

    /// The time before which no row is wanted, once there are enough after it.
    pub(super) fn cutoff(&self) -> Option<i64> {
        self.starts.get(self.count.checked_sub(1)?).copied()
    }

    /// Whether no row of a file is wanted.
    pub(super) fn excludes(&self, file: &LakeFile) -> bool {
        self.cutoff()
            .is_some_and(|cutoff| file.max_start_nano < cutoff)
    }

    /// Notes the rows of a row group that surely pass.
    pub(super) fn add(&mut self, file: &LakeFile, matches: &RowMatches, rows: &RowSummary) {
        if !matches.exact {
            return;
        }
        let mut counts = [0u32; TICKS];
        matches.for_each_row(rows, |row| {
            counts[usize::from(rows.tick(row)) % TICKS] += 1;
        });
        // In the ticks in which the time asked for begins and ends, some rows may not pass.
        if self.min_start_nano > file.min_start_nano {
            let first = usize::from(rows.tick_of(self.min_start_nano));
            counts[..=first].fill(0);
        }
        if self.max_start_nano < file.max_start_nano {
            let last = usize::from(rows.tick_of(self.max_start_nano));
            counts[last..].fill(0);
        }
        let mut wanted = self.count;
        for (tick, count) in counts.iter().enumerate().rev() {
            let count = (*count as usize).min(wanted);
            let start = rows.start_of(tick as u16);
            self.starts.extend(std::iter::repeat_n(start, count));
            wanted -= count;
            if wanted == 0 {
                break;
            }
        }
        self.starts.sort_unstable_by(|a, b| b.cmp(a));
        self.starts.truncate(self.count);
    }

    /// Those rows of a row group that can still be among the newest.
    pub(super) fn keep(&self, matches: &RowMatches, rows: &RowSummary) -> RowMatches {
        let Some(cutoff) = self.cutoff() else {
            return matches.clone();
        };
        let first = rows.tick_of(cutoff);
        let mut kept = RoaringBitmap::new();
        matches.for_each_row(rows, |row| {
            if rows.tick(row) >= first {
                kept.insert(row);
            }
        });
        RowMatches {
            rows: Some(kept),
            operations: None,
            exact: matches.exact,
        }
    }
}
