//! `quantile_cont`: exact quantiles, several in one pass.
//!
//! Read [`QuantileContFunc`]. A quantile between two values is interpolated linearly, as in
//! SQL's `percentile_cont` (type 7 of Hyndman and Fan, 1996).

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Float64Array, Float64Builder,
    ListArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::aggregate_doc_sections::DOC_SECTION_STATISTICAL;
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator,
    Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;

use super::grouped_values::{GroupedValues, TakenGroups, numbers, single_runs};

/// `quantile_cont(value, fraction)` or `quantile_cont(value, [fractions])`.
///
/// Once the fractions are known they are bound to the function, which then takes the value
/// alone: an argument is evaluated for every row, and a list is costly to repeat.
#[derive(Debug)]
pub(super) struct QuantileContFunc {
    signature: Signature,
    documentation: Documentation,
    bound: Option<Fractions>,
}

impl QuantileContFunc {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: documentation(),
            bound: None,
        }
    }

    fn bound(fractions: Fractions) -> Self {
        Self {
            bound: Some(fractions),
            ..Self::new()
        }
    }

    fn fractions(&self, arguments: &AccumulatorArgs) -> Result<Fractions> {
        if let Some(bound) = &self.bound {
            return Ok(bound.clone());
        }
        let literal = arguments
            .exprs
            .get(1)
            .and_then(|expr| expr.downcast_ref::<Literal>());
        match literal {
            Some(literal) => Fractions::try_new(literal.value()),
            None => plan_err!("quantile_cont: the fractions must be constants"),
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
    fn eq(&self, other: &Self) -> bool {
        self.bound == other.bound
    }
}

impl Eq for QuantileContFunc {}

impl std::hash::Hash for QuantileContFunc {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
        if let Some(bound) = &self.bound {
            bound.fractions.iter().for_each(|f| f.to_bits().hash(state));
        }
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
        let (value, fraction) = match (arguments, &self.bound) {
            ([_], Some(_)) => return Ok(vec![DataType::Float64]),
            ([value, fraction], None) => (value, fraction),
            _ => {
                return plan_err!(
                    "quantile_cont takes a value and a fraction, or a list of fractions"
                );
            }
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
        let as_list = match &self.bound {
            Some(bound) => bound.as_list,
            None => matches!(arguments.get(1), Some(DataType::List(_))),
        };
        Ok(if as_list {
            double_list()
        } else {
            DataType::Float64
        })
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        if self.bound.is_some() {
            return None;
        }
        Some(Box::new(|mut function, _info| {
            let literal = function.params.args.get(1).and_then(Expr::as_literal);
            // What is wrong with them is told when the function is made ready to run.
            let fractions = literal.and_then(|literal| Fractions::try_new(literal).ok());
            if let Some(fractions) = fractions {
                function.func = Arc::new(AggregateUDF::from(Self::bound(fractions)));
                function.params.args.truncate(1);
            }
            Ok(Expr::AggregateFunction(function))
        }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format!("{}[values]", arguments.name);
        Ok(vec![Arc::new(Field::new(name, DataType::BinaryView, true))])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(QuantileAccumulator {
            fractions: self.fractions(&arguments)?,
            bytes: Vec::new(),
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
            fractions: self.fractions(&arguments)?,
            group_count: 0,
            values: GroupedValues::default(),
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The fractions asked for, and whether as a list.
#[derive(Debug, Clone, PartialEq)]
struct Fractions {
    fractions: Vec<f64>,
    as_list: bool,
}

impl Fractions {
    fn try_new(literal: &ScalarValue) -> Result<Self> {
        let (values, as_list) = match literal {
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
        // From there on are the greatest values, in any order: the next quantile is mostly one of
        // them.
        let mut from = 0;
        for fraction in &self.fractions {
            let position = fraction * (values.len() - 1) as f64;
            let below = position.floor();
            let (place, next) = (below as usize, position.ceil() as usize);
            if place < from {
                from = 0;
            }
            let (low, high) = neighbours(&mut values[from..], place - from, next - from);
            from = place;
            // Equal neighbours are not interpolated: infinities would give NaN.
            out.append_value(if low == high {
                low
            } else {
                low + (high - low) * (position - below)
            });
        }
    }

    /// What [`Fractions::append`] made of groups, of which some have values.
    fn finish(&self, mut quantiles: Float64Builder, valid: Vec<bool>) -> Result<ArrayRef> {
        let values: ArrayRef = Arc::new(quantiles.finish());
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
    /// A run of values.
    bytes: Vec<u8>,
}

impl Accumulator for QuantileAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Float64Type>();
        if values.null_count() == 0 {
            self.bytes
                .extend_from_slice(values.values().inner().as_slice());
        } else {
            let there = values.iter().flatten();
            self.bytes.extend(there.flat_map(f64::to_ne_bytes));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut values: Vec<f64> = numbers(&std::mem::take(&mut self.bytes)).collect();
        let mut quantiles = Float64Builder::new();
        self.fractions.append(&mut values, &mut quantiles);
        let result = self.fractions.finish(quantiles, vec![!values.is_empty()])?;
        ScalarValue::try_from_array(&result, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        if u32::try_from(self.bytes.len()).is_err() {
            return exec_err!("quantile_cont: too many values in one group");
        }
        let bytes = std::mem::take(&mut self.bytes);
        Ok(vec![ScalarValue::BinaryView(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for run in states_of(states)?.iter().flatten() {
            self.bytes.extend_from_slice(run);
        }
        Ok(())
    }
}

/// The states of other accumulators.
fn states_of(states: &[ArrayRef]) -> Result<&BinaryViewArray> {
    match states[0].as_binary_view_opt() {
        Some(states) => Ok(states),
        None => exec_err!("quantile_cont: unexpected state {}", states[0].data_type()),
    }
}

/// The values of every group.
#[derive(Debug)]
struct QuantileGroups {
    fractions: Fractions,
    group_count: usize,
    values: GroupedValues,
}

impl QuantileGroups {
    fn grow(&mut self, group_count: usize) -> Result<()> {
        if u32::try_from(group_count).is_err() {
            return exec_err!("quantile_cont: more than 2^32 groups");
        }
        self.group_count = group_count;
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Result<TakenGroups> {
        let all = self.group_count;
        let count = match emit_to {
            EmitTo::All => all,
            EmitTo::First(count) => count,
        };
        self.group_count -= count;
        self.values.take_first(count, all)
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
        self.grow(group_count)?;
        let values = values[0].as_primitive::<Float64Type>();
        let (groups, values) = passing(values, group_indices, filter);
        self.values.extend(groups, values, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (mut quantiles, mut valid) = (Float64Builder::new(), Vec::new());
        self.take(emit_to)?.for_each(|values| {
            valid.push(!values.is_empty());
            self.fractions.append(values, &mut quantiles);
        });
        self.fractions.finish(quantiles, valid)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)?.into_runs()?])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.grow(group_count)?;
        let groups = group_indices.iter().map(|group| *group as u32);
        let runs = states_of(states)?.clone();
        self.values.extend_runs(groups.collect(), runs);
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Float64Type>();
        let passing = values.iter().enumerate();
        let passing = passing.map(|(row, value)| value.filter(|_| passes(filter, row)));
        Ok(vec![Arc::new(single_runs(passing)?)])
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

/// The values that are there and pass, with their groups.
fn passing(
    values: &Float64Array,
    groups: &[usize],
    filter: Option<&BooleanArray>,
) -> (Vec<u32>, ScalarBuffer<f64>) {
    let groups = groups.iter().map(|group| *group as u32);
    if filter.is_none() && values.null_count() == 0 {
        return (groups.collect(), values.values().clone());
    }
    let rows = values.iter().zip(groups).enumerate();
    let rows = rows.filter(|(row, _)| passes(filter, *row));
    let rows = rows.filter_map(|(_, (value, group))| Some((group, value?)));
    let (groups, values): (Vec<_>, Vec<_>) = rows.unzip();
    (groups, values.into())
}

fn double_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn double_list() -> DataType {
    DataType::List(double_item())
}
