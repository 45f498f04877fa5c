//! What a query read, and what it did not have to.
//!
//! Read [`ExplainReport`].

use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use super::Session;
use crate::error::{Error, Result};

/// The steps of pruning in their order, with the metric that counts what each removed.
const STEPS: [(&str, &str); 6] = [
    ("time (hours)", "files_pruned_by_hour"),
    ("bucket of the trace id", "files_pruned_by_bucket"),
    ("statistics", "files_pruned_by_statistics"),
    ("trace-id filter", "files_pruned_by_trace_filter"),
    ("index", "files_pruned_by_index"),
    ("newest rows found", "files_pruned_by_newest"),
];

/// What a query that was run for it considered, pruned and read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExplainReport {
    /// Files of the lake, once for every scan of the plan.
    pub files_considered: usize,
    /// Files removed by each step, in order.
    pub pruned_by: Vec<(&'static str, usize)>,
    /// Values and patterns looked up in each index.
    pub index_terms: usize,
    /// Rows that the indexes left of the files read.
    pub index_rows_left: usize,
    /// Rows skipped by page statistics.
    pub rows_pruned_by_pages: usize,
    /// Rows skipped while decoding.
    pub rows_pruned_by_filters: usize,
    /// Bytes read from the store.
    pub bytes_read: usize,
    /// Rows of the result.
    pub row_count: usize,
    /// The plan with the metrics of every operator.
    pub plan: String,
}

impl Session {
    /// Runs one SELECT to its end, throws its rows away and says what it read.
    pub async fn explain(&self, sql: &str) -> Result<ExplainReport> {
        let mut statements = Self::statements(sql)?;
        let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
            return Err(Error::invalid_input("explain takes exactly one statement"));
        };
        let plan = self.plan(statement, &[]).await?;
        let mut rows = execute_stream(Arc::clone(&plan), self.context().task_ctx())?;
        let mut report = ExplainReport {
            pruned_by: STEPS.iter().map(|(step, _)| (*step, 0)).collect(),
            ..ExplainReport::default()
        };
        while let Some(batch) = rows.try_next().await? {
            report.row_count += batch.num_rows();
        }
        report.add(plan.as_ref());
        report.plan = displayable_with_metrics(plan.as_ref());
        Ok(report)
    }
}

impl ExplainReport {
    /// Files left to read.
    pub fn files_read(&self) -> usize {
        let pruned: usize = self.pruned_by.iter().map(|(_, count)| count).sum();
        self.files_considered.saturating_sub(pruned)
    }

    fn add(&mut self, plan: &dyn ExecutionPlan) {
        if let Some(metrics) = plan.metrics() {
            for metric in metrics.iter() {
                let value = metric.value();
                let count = match value {
                    MetricValue::PruningMetrics {
                        pruning_metrics, ..
                    } => pruning_metrics.pruned(),
                    other => other.as_usize(),
                };
                match value.name() {
                    "files_considered" => self.files_considered += count,
                    "index_terms" => self.index_terms += count,
                    "index_rows_left" => self.index_rows_left += count,
                    "bytes_scanned" => self.bytes_read += count,
                    "page_index_rows_pruned" => self.rows_pruned_by_pages += count,
                    "pushdown_rows_pruned" => self.rows_pruned_by_filters += count,
                    name => {
                        let step = STEPS.iter().position(|(_, metric)| *metric == name);
                        if let Some(step) = step {
                            self.pruned_by[step].1 += count;
                        }
                    }
                }
            }
        }
        for child in plan.children() {
            self.add(child.as_ref());
        }
    }
}

fn displayable_with_metrics(plan: &dyn ExecutionPlan) -> String {
    DisplayableExecutionPlan::with_metrics(plan)
        .indent(false)
        .to_string()
}

impl fmt::Display for ExplainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "files considered            {:>12}",
            self.files_considered
        )?;
        for (step, count) in &self.pruned_by {
            writeln!(f, "  removed by {step:<22}  {count:>5}")?;
        }
        writeln!(f, "files read                  {:>12}", self.files_read())?;
        if self.index_terms > 0 {
            writeln!(f, "terms asked of the index    {:>12}", self.index_terms)?;
            writeln!(
                f,
                "rows left by the index      {:>12}",
                self.index_rows_left
            )?;
        }
        writeln!(
            f,
            "rows skipped by pages       {:>12}",
            self.rows_pruned_by_pages
        )?;
        writeln!(
            f,
            "rows skipped while decoding {:>12}",
            self.rows_pruned_by_filters
        )?;
        writeln!(f, "bytes read                  {:>12}", self.bytes_read)?;
        writeln!(f, "rows of the result          {:>12}", self.row_count)?;
        write!(f, "\n{}", self.plan)
    }
}
