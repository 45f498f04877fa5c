//! Which rows of a file can pass the filters, by its index.
//!
//! Read [`RowMatches`] and [`file_matches`].

use std::ops::Not;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, StringViewArray, StringViewBuilder,
};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_plan::PhysicalExpr;
use roaring::RoaringBitmap;

use super::index_predicate::{Condition, IndexPredicate, Subject, Test, value_schema};
use super::row_ranges::NEAR_ROWS;
use crate::error::Result;
use crate::storage::{FileIndex, IndexedKey, Operations, RowGroupIndex, RowSummary, Terms};

/// Rows of a row group that can pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowMatches {
    /// The rows; `None` for all.
    pub rows: Option<RoaringBitmap>,
    /// Of these rows, only those pass whose operation is so marked, by its number.
    pub operations: Option<Vec<bool>>,
    /// Whether every row that meets both does pass, so far as conditions are not about time.
    pub exact: bool,
}

impl RowMatches {
    /// Any row may pass.
    pub(super) fn unknown() -> Self {
        Self {
            rows: None,
            operations: None,
            exact: false,
        }
    }

    fn all() -> Self {
        Self {
            exact: true,
            ..Self::unknown()
        }
    }

    fn none() -> Self {
        Self::of(RoaringBitmap::new(), true)
    }

    fn of(rows: RoaringBitmap, exact: bool) -> Self {
        Self {
            rows: Some(rows),
            operations: None,
            exact,
        }
    }

    /// Whether no row can pass.
    pub(super) fn is_none(&self) -> bool {
        self.rows.as_ref().is_some_and(RoaringBitmap::is_empty)
    }

    /// Calls `take` for each of these rows, in order.
    pub(super) fn for_each_row(&self, rows: &RowSummary, mut take: impl FnMut(u32)) {
        let row_count = rows.row_count();
        let marked = |row: u32| {
            let marks = self.operations.as_ref();
            marks.is_none_or(|marks| marks.get(rows.operation(row)).copied().unwrap_or(true))
        };
        match &self.rows {
            // Asking a set for a few of its rows is faster than listing it.
            Some(set) if self.operations.is_none() || set.len() * 4 < u64::from(row_count) => {
                set.iter().filter(|row| marked(*row)).for_each(take);
            }
            set => {
                for row in (0..row_count).filter(|row| marked(*row)) {
                    if set.as_ref().is_none_or(|set| set.contains(row)) {
                        take(row);
                    }
                }
            }
        }
    }

    fn and(self, other: Self) -> Self {
        let rows = match (self.rows, other.rows) {
            (Some(a), Some(b)) => Some(a & b),
            (a, b) => a.or(b),
        };
        let operations = match (self.operations, other.operations) {
            (Some(a), Some(b)) => Some(a.iter().zip(&b).map(|(a, b)| *a && *b).collect()),
            (a, b) => a.or(b),
        };
        Self {
            rows,
            operations,
            exact: self.exact && other.exact,
        }
    }

    fn or(self, other: Self) -> Self {
        let exact = |matches: &Self| matches.exact && matches.operations.is_none();
        Self {
            exact: exact(&self) && exact(&other),
            rows: self.rows.zip(other.rows).map(|(a, b)| a | b),
            operations: None,
        }
    }
}

/// What is known of a subject in one row group.
enum Known {
    Operations(Option<Arc<Operations>>),
    Key(IndexedKey),
}

/// The rows and those that can pass, for each row group of a file; none where the file has no index.
pub(super) async fn file_matches(
    predicate: &IndexPredicate,
    file: &FileIndex,
) -> Result<Vec<(u64, RowMatches)>> {
    let groups = file.row_groups().await?;
    let mut matches = Vec::with_capacity(groups.len());
    for group in groups {
        let rows = group_matches(predicate, file, group).await?;
        matches.push((group.row_count(), rows));
    }
    Ok(matches)
}

async fn group_matches(
    predicate: &IndexPredicate,
    file: &FileIndex,
    group: &RowGroupIndex,
) -> Result<RowMatches> {
    if !group.is_present(file).await? {
        return Ok(RowMatches::unknown());
    }
    let mut known = Vec::with_capacity(predicate.subjects.len());
    for subject in &predicate.subjects {
        known.push(match subject {
            Subject::Operation => Known::Operations(group.operations(file).await?),
            Subject::Attribute(scope, key) => Known::Key(group.key(file, *scope, key).await?),
        });
    }
    Ok(all(&predicate.conditions, &known))
}

fn all(conditions: &[Condition], known: &[Known]) -> RowMatches {
    let mut matches = RowMatches::all();
    for condition in conditions {
        if matches.is_none() {
            break;
        }
        matches = matches.and(of_condition(condition, known));
    }
    matches
}

fn of_condition(condition: &Condition, known: &[Known]) -> RowMatches {
    match condition {
        Condition::Unknown => RowMatches::unknown(),
        Condition::Time => RowMatches::all(),
        Condition::All(of) => all(of, known),
        Condition::Any(of) => {
            let of = of.iter().map(|condition| of_condition(condition, known));
            of.reduce(RowMatches::or).unwrap_or_else(RowMatches::none)
        }
        Condition::Of(subject, test) => match (&known[*subject], test) {
            (Known::Operations(Some(operations)), Test::Holds(expr)) => {
                of_operations(operations, expr)
            }
            (Known::Key(IndexedKey::Terms(terms)), Test::Texts(texts)) => of_texts(terms, texts),
            (Known::Key(IndexedKey::Terms(terms)), Test::Holds(expr)) => of_terms(terms, expr),
            (Known::Key(IndexedKey::Absent), Test::Texts(_)) => RowMatches::none(),
            (Known::Key(IndexedKey::Absent), Test::Holds(expr)) => match of_absent(expr) {
                Ok(false) => RowMatches::none(),
                Ok(true) => RowMatches::all(),
                Err(_) => RowMatches::unknown(),
            },
            (Known::Operations(_) | Known::Key(IndexedKey::Unknown), _) => RowMatches::unknown(),
        },
    }
}

fn of_operations(operations: &Operations, expr: &Arc<dyn PhysicalExpr>) -> RowMatches {
    let Ok(holds) = evaluated(expr, operations.columns()) else {
        return RowMatches::unknown();
    };
    let marks: Vec<bool> = (0..holds.len())
        .map(|n| holds.is_valid(n) && holds.value(n))
        .collect();
    if marks.iter().all(|marked| *marked) {
        return RowMatches::all();
    }
    let marked = operations.all().iter().zip(&marks);
    let marked = marked.filter(|(_, marked)| **marked);
    let count: u64 = marked.map(|((_, spans), _)| spans.span_count).sum();
    if count * NEAR_ROWS as u64 / 2 > u64::from(operations.row_count()) {
        // They lie everywhere: nothing would be skipped.
        return RowMatches {
            operations: Some(marks),
            ..RowMatches::all()
        };
    }
    let mut rows = RoaringBitmap::new();
    let mut exact = true;
    for (number, _) in marks.iter().enumerate().filter(|(_, marked)| **marked) {
        exact &= operations.add_rows(number, &mut rows);
    }
    RowMatches {
        rows: Some(rows),
        operations: exact.not().then_some(marks),
        exact: true,
    }
}

fn of_texts(terms: &Terms, texts: &[String]) -> RowMatches {
    if !terms.can_find() {
        return RowMatches::of(terms.presence().rows, false);
    }
    let mut rows = RoaringBitmap::new();
    // Different texts can have the same hash.
    let mut exact = terms.has_values();
    for text in texts {
        for place in terms.find(text) {
            exact &= terms.add_rows(place, &mut rows);
        }
    }
    exact &= terms.add_long_values(&mut rows) == 0;
    RowMatches::of(rows, exact)
}

fn of_terms(terms: &Terms, expr: &Arc<dyn PhysicalExpr>) -> RowMatches {
    let absent = of_absent(expr);
    // Where the condition holds without a value, rows without the key pass as well.
    if !matches!(absent, Ok(false)) {
        return RowMatches::unknown();
    }
    if !terms.has_values() {
        return RowMatches::of(terms.presence().rows, false);
    }
    let texts = terms.texts();
    let json = asks_for(expr, JSON_COLUMN).then(|| json_of(terms));
    let holds = value_batch((texts, json), true, expr).and_then(|batch| evaluated(expr, &batch));
    let Ok(holds) = holds else {
        return RowMatches::of(terms.presence().rows, false);
    };
    let passing = (0..holds.len()).filter(|place| holds.is_valid(*place) && holds.value(*place));
    let passing: Vec<usize> = passing.collect();
    let mut rows = RoaringBitmap::new();
    let mut exact = terms.add_long_values(&mut rows) == 0;
    if passing.len() == holds.len() {
        let presence = terms.presence();
        return RowMatches::of(presence.rows, presence.exact && exact);
    }
    exact &= terms.add_rows_of(&passing, &mut rows);
    RowMatches::of(rows, exact)
}

/// Whether a condition holds for a span without the attribute.
fn of_absent(expr: &Arc<dyn PhysicalExpr>) -> DataFusionResult<bool> {
    let nothing = StringViewArray::new_null(1);
    let holds = evaluated(expr, &value_batch((&nothing, None), false, expr)?)?;
    Ok(holds.is_valid(0) && holds.value(0))
}

/// The places of columns among those of [`value_schema`] that are made only where a condition asks
/// for them.
const NUMBER_COLUMN: usize = 1;
const JSON_COLUMN: usize = 3;

fn asks_for(expr: &Arc<dyn PhysicalExpr>, column: usize) -> bool {
    let asked = datafusion::physical_expr::utils::collect_columns(expr);
    asked.iter().any(|asked| asked.index() == column)
}

/// The JSON of each value, as [`Value::write_json`](crate::span::Value::write_json) wrote it.
fn json_of(terms: &Terms) -> StringViewArray {
    let mut all = StringViewBuilder::with_capacity(terms.len());
    let mut json = String::new();
    terms.each_value(|_, text, value_type| {
        json.clear();
        value_type.write_json(text, &mut json);
        all.append_value(&json);
    });
    all.finish()
}

/// The columns of values for a condition.
fn value_batch(
    (texts, json): (&StringViewArray, Option<StringViewArray>),
    exists: bool,
    expr: &Arc<dyn PhysicalExpr>,
) -> DataFusionResult<RecordBatch> {
    let numbers: ArrayRef = if asks_for(expr, NUMBER_COLUMN) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
        Arc::new(texts.iter().map(number).collect::<Float64Array>())
    } else {
        Arc::new(Float64Array::new_null(texts.len()))
    };
    let exists: ArrayRef = Arc::new(BooleanArray::from(vec![exists; texts.len()]));
    let json = json.unwrap_or_else(|| StringViewArray::new_null(texts.len()));
    let columns = vec![
        Arc::new(texts.clone()) as ArrayRef,
        numbers,
        exists,
        Arc::new(json),
    ];
    Ok(RecordBatch::try_new(value_schema(), columns)?)
}

fn evaluated(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> DataFusionResult<BooleanArray> {
    let holds = expr.evaluate(batch)?.into_array(batch.num_rows())?;
    Ok(as_boolean_array(&holds)?.clone())
}
