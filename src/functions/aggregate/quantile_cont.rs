//! `quantile_cont`: exact quantiles, several in one pass.
//!
//! Read [`QuantileContFunc`]. A quantile between two values is interpolated linearly, as in
//! SQL's `percentile_cont` (type 7 of Hyndman and Fan, 1996).

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::aggregate_doc_sections::DOC_SECTION_STATISTICAL;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;

/// `quantile_cont(value, fraction)` or `quantile_cont(value, [fractions])`.
#[derive(Debug)]
pub(super) struct QuantileContFunc {
    signature: Signature,
    documentation: Documentation,
}

impl QuantileContFunc {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: documentation(),
        }
    }
}

fn documentation() -> Documentation {
    Documentation::builder(
        DOC_SECTION_STATISTICAL,
        "Exact quantiles, interpolated between values; NULLs are left out. With a list of \
         fractions the values are gathered once and the result is a list in the same order.",
        "quantile_cont(value, fraction)",
    )
    .with_sql_example(
        "select quantile_cont(column1, [0.5, 0.9]) as q from (values (1), (2), (3));\n\
         +------------+\n| q          |\n+------------+\n| [2.0, 2.8] |\n+------------+",
    )
    .with_argument("value", "A number, such as `duration_nano`.")
    .with_argument(
        "fraction",
        "A number from 0 to 1, or a list of them; a constant.",
    )
    .build()
}

impl PartialEq for QuantileContFunc {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for QuantileContFunc {}

impl std::hash::Hash for QuantileContFunc {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl AggregateUDFImpl for QuantileContFunc {
    fn name(&self) -> &str {
        "quantile_cont"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, fraction] = arguments else {
            return plan_err!("quantile_cont takes a value and a fraction, or a list of fractions");
        };
        if !value.is_numeric() && *value != DataType::Null {
            return plan_err!("quantile_cont takes numbers, got {value}");
        }
        let fraction = match fraction {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
                double_list()
            }
            _ => DataType::Float64,
        };
        Ok(vec![DataType::Float64, fraction])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments.get(1) {
            Some(DataType::List(_)) => double_list(),
            _ => DataType::Float64,
        })
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format!("{}[values]", arguments.name);
        Ok(vec![Arc::new(Field::new(name, double_list(), true))])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(QuantileAccumulator {
            fractions: Fractions::of(&arguments)?,
            values: Vec::new(),
        }))
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(QuantileGroups {
            fractions: Fractions::of(&arguments)?,
            groups: Vec::new(),
            value_capacity: 0,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The fractions asked for, and whether as a list.
#[derive(Debug, Clone)]
struct Fractions {
    fractions: Vec<f64>,
    as_list: bool,
}

impl Fractions {
    fn of(arguments: &AccumulatorArgs) -> Result<Self> {
        let literal = arguments
            .exprs
            .get(1)
            .and_then(|expr| expr.downcast_ref::<Literal>());
        let Some(literal) = literal else {
            return plan_err!("quantile_cont: the fractions must be constants");
        };
        let (values, as_list) = match literal.value() {
            ScalarValue::List(list) => (list.value(0), true),
            scalar => (scalar.to_array()?, false),
        };
        let values = cast(&values, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let in_range = |value: Option<f64>| value.filter(|value| (0.0..=1.0).contains(value));
        match values.iter().map(in_range).collect::<Option<Vec<_>>>() {
            Some(fractions) => Ok(Self { fractions, as_list }),
            None => plan_err!("quantile_cont: fractions must lie between 0 and 1"),
        }
    }

    /// The quantiles of `values`, which are reordered; NULL where there is no value.
    fn append(&self, values: &mut [f64], out: &mut Float64Builder) {
        if values.is_empty() {
            self.fractions.iter().for_each(|_| out.append_null());
            return;
        }
        for fraction in &self.fractions {
            let position = fraction * (values.len() - 1) as f64;
            let below = position.floor();
            let (low, high) = neighbours(values, below as usize, position.ceil() as usize);
            // Equal neighbours are not interpolated: infinities would give NaN.
            out.append_value(if low == high {
                low
            } else {
                low + (high - low) * (position - below)
            });
        }
    }

    /// The quantiles of each group.
    fn evaluate<'a>(&self, groups: impl Iterator<Item = &'a mut Vec<f64>>) -> Result<ArrayRef> {
        let mut out = Float64Builder::new();
        let mut valid = Vec::new();
        for group in groups {
            valid.push(!group.is_empty());
            self.append(group, &mut out);
        }
        let values: ArrayRef = Arc::new(out.finish());
        if !self.as_list {
            return Ok(values);
        }
        let offsets = OffsetBuffer::from_repeated_length(self.fractions.len(), valid.len());
        Ok(Arc::new(ListArray::try_new(
            double_item(),
            offsets,
            values,
            Some(valid.into()),
        )?))
    }
}

/// The values at two places, the same or one after the other, were `values` sorted. Selecting
/// them takes linear time; sorting a large group for three quantiles costs several times that.
fn neighbours(values: &mut [f64], place: usize, next: usize) -> (f64, f64) {
    let (_, low, above) = values.select_nth_unstable_by(place, f64::total_cmp);
    let low = *low;
    if next == place {
        return (low, low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp);
    (low, high.unwrap_or(low))
}

/// The values of one group when there is no GROUP BY.
#[derive(Debug)]
struct QuantileAccumulator {
    fractions: Fractions,
    values: Vec<f64>,
}

impl Accumulator for QuantileAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values
            .extend(values[0].as_primitive::<Float64Type>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let result = self.fractions.evaluate(std::iter::once(&mut self.values))?;
        ScalarValue::try_from_array(&result, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = value_lists(std::iter::once(std::mem::take(&mut self.values)))?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for list in lists.iter().flatten() {
            self.values
                .extend(list.as_primitive::<Float64Type>().values());
        }
        Ok(())
    }
}

/// The values of every group.
#[derive(Debug)]
struct QuantileGroups {
    fractions: Fractions,
    groups: Vec<Vec<f64>>,
    /// Room for values over all groups, kept up so that `size` need not walk them.
    value_capacity: usize,
}

impl QuantileGroups {
    fn extend(&mut self, group: usize, values: &[f64]) {
        let group = &mut self.groups[group];
        let before = group.capacity();
        group.extend_from_slice(values);
        self.value_capacity += group.capacity() - before;
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<f64>> {
        let groups = emit_to.take_needed(&mut self.groups);
        self.value_capacity -= groups.iter().map(Vec::capacity).sum::<usize>();
        groups
    }
}

impl GroupsAccumulator for QuantileGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.groups.resize_with(group_count, Vec::new);
        let values = values[0].as_primitive::<Float64Type>();
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        for (row, &group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && passes(row) {
                self.extend(group, &[values.value(row)]);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.fractions
            .clone()
            .evaluate(self.take(emit_to).iter_mut())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(value_lists(self.take(emit_to).into_iter())?)])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.groups.resize_with(group_count, Vec::new);
        let lists = states[0].as_list::<i32>();
        let Some(values) = lists.values().as_primitive_opt::<Float64Type>() else {
            return exec_err!("quantile_cont: unexpected state {}", lists.data_type());
        };
        let offsets = lists.value_offsets();
        for (row, &group) in group_indices.iter().enumerate() {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            self.extend(group, &values.values()[range]);
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Float64Type>();
        let passes = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        let lists = (0..values.len()).map(|row| match values.is_valid(row) && passes(row) {
            true => vec![values.value(row)],
            false => Vec::new(),
        });
        Ok(vec![Arc::new(value_lists(lists)?)])
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Vec<f64>>() + self.value_capacity * size_of::<f64>()
    }
}

/// Groups of values as one list array.
fn value_lists(groups: impl Iterator<Item = Vec<f64>>) -> Result<ListArray> {
    let mut lengths = Vec::new();
    let mut values = Vec::new();
    for group in groups {
        lengths.push(group.len());
        values.extend(group);
    }
    if i32::try_from(values.len()).is_err() {
        return exec_err!("quantile_cont: more than 2^31 values in one batch of groups");
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let values = Arc::new(Float64Array::from(values));
    Ok(ListArray::try_new(double_item(), offsets, values, None)?)
}

fn double_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn double_list() -> DataType {
    DataType::List(double_item())
}
