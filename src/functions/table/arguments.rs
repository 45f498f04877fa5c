//! What stands between the parentheses of a table function.
//!
//! Read [`Call`]. Values are known when a statement is planned: constants, or parameters of the
//! statement, which [`substitute_parameters`] puts in their places first.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::sqlparser::ast::{
    Array as SqlArray, Expr as SqlExpr, Query, TableFactor, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::constant::{Constant, constant, duration_nano, no_value, whole_number, wrong};
use super::trace_reader::TraceReader;
use crate::error::Error;
use crate::span::{SpanId, TraceId};
use crate::trace::Trace;

/// What functions say of their argument `max_clock_skew`.
pub(super) const MAX_CLOCK_SKEW: &str = "Corrects the clocks of hosts that differ by at most so much, as Jaeger does: spans that do \
     not fit into their parents are moved. An interval or a text such as `'1s'`; times stay as \
     they were sent where it is left out.";

/// What a function over traces takes in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// A trace's id.
    Trace,
    /// A trace's id, or a list of them.
    Traces,
    /// A span's id.
    Span,
    /// A whole number of at least zero that may be left out, with what it is then.
    Number(&'static str, u64),
    /// A duration of at least zero that may be left out.
    Duration(&'static str),
}

impl Parameter {
    fn is_optional(self) -> bool {
        matches!(self, Self::Number(_, _) | Self::Duration(_))
    }
}

/// The values of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The traces named, each once, in their order; empty where one of several that are needed
    /// is NULL or the empty text.
    pub trace_ids: Vec<TraceId>,
    /// The span named; `None` where it is NULL or the empty text, or none is taken.
    pub span_id: Option<SpanId>,
    /// The number, or what it is where it was left out.
    pub number: u64,
    /// How far clocks may be corrected, see [`Trace::corrected`]; not at all where not said.
    pub max_clock_skew_nano: Option<i64>,
}

impl Arguments {
    /// The one trace named, as it is asked for; `None` where it is not there.
    pub(super) async fn only_trace(
        &self,
        reader: &dyn TraceReader,
    ) -> crate::Result<Option<Arc<Trace>>> {
        let found = reader.traces(&self.trace_ids).await?;
        let found = found.into_iter().flatten().next();
        found.map(|trace| self.corrected(trace)).transpose()
    }

    /// A trace with its clocks corrected as far as the call allows.
    pub(super) fn corrected(&self, trace: Arc<Trace>) -> crate::Result<Arc<Trace>> {
        match self.max_clock_skew_nano {
            Some(limit) => Ok(Arc::new(trace.corrected(limit)?)),
            None => Ok(trace),
        }
    }

    /// The same call for the first few of its traces, which it is then without.
    pub(super) fn split_first(&mut self, trace_count: usize) -> Self {
        let rest = self
            .trace_ids
            .split_off(trace_count.min(self.trace_ids.len()));
        Self {
            trace_ids: std::mem::replace(&mut self.trace_ids, rest),
            ..self.clone()
        }
    }
}

/// A call as it was planned: its values, or the parameter that has none yet.
///
/// A statement may be planned before its parameters are known, to learn the columns of its
/// result; only running it needs the values.
#[derive(Debug)]
pub(super) struct Call {
    arguments: std::result::Result<Arguments, String>,
}

impl Call {
    /// Reads the arguments of a call of `function`.
    pub(super) fn read(function: &str, parameters: &[Parameter], exprs: &[Expr]) -> Result<Self> {
        let needed = parameters.iter().filter(|p| !p.is_optional()).count();
        if exprs.len() < needed || exprs.len() > parameters.len() {
            let count = if needed == parameters.len() {
                needed.to_string()
            } else {
                format!("{needed} to {}", parameters.len())
            };
            let message = format!(
                "{function}() takes {count} arguments, got {}; see `\\df {function}`",
                exprs.len()
            );
            return Err(Error::invalid_input(message).into());
        }
        let mut arguments = Arguments::default();
        let mut is_empty = false;
        for (index, parameter) in parameters.iter().enumerate() {
            let value = match (exprs.get(index), parameter) {
                (Some(expr), _) => match constant(expr) {
                    Some(Constant::Value(value)) => Some(value),
                    Some(Constant::Placeholder(name)) => {
                        let arguments = Err(name);
                        return Ok(Self { arguments });
                    }
                    None => return Err(not_constant(function, expr)),
                },
                (None, _) => None,
            };
            is_empty |= !arguments.take(function, *parameter, value.as_ref())?;
        }
        if is_empty {
            arguments.trace_ids.clear();
        }
        let arguments = Ok(arguments);
        Ok(Self { arguments })
    }

    /// The values; an error where a parameter has none.
    pub(super) fn arguments(&self) -> Result<&Arguments> {
        Ok(self.arguments.as_ref().map_err(|name| no_value(name))?)
    }
}

impl Arguments {
    /// Takes the value of one parameter; false where it is one that matches nothing.
    fn take(
        &mut self,
        function: &str,
        parameter: Parameter,
        value: Option<&ScalarValue>,
    ) -> Result<bool> {
        match parameter {
            Parameter::Trace => {
                let ids = trace_ids(function, value, false)?;
                let found = !ids.is_empty();
                self.trace_ids.extend(ids);
                Ok(found)
            }
            Parameter::Traces => {
                for id in trace_ids(function, value, true)? {
                    if !self.trace_ids.contains(&id) {
                        self.trace_ids.push(id);
                    }
                }
                Ok(!self.trace_ids.is_empty())
            }
            Parameter::Span => {
                let text = value.map(|value| text(function, value)).transpose()?;
                let text = text.flatten();
                self.span_id = text.map(|text| SpanId::parse(&text)).transpose()?;
                Ok(self.span_id.is_some())
            }
            Parameter::Number(name, default) => {
                self.number = match value {
                    None | Some(ScalarValue::Null) => default,
                    Some(value) => number(function, name, value)?,
                };
                Ok(true)
            }
            Parameter::Duration(name) => {
                let is_given =
                    |value: &&ScalarValue| !value.is_null() && value.try_as_str() != Some(Some(""));
                let what = format!("`{name}` of {function}()");
                let nanos = value.filter(is_given).map(|value| {
                    let nanos = duration_nano(&what, value)?;
                    (nanos >= 0)
                        .then_some(nanos)
                        .ok_or_else(|| wrong(&what, "at least zero", value))
                });
                self.max_clock_skew_nano = nanos.transpose()?;
                Ok(true)
            }
        }
    }
}

fn not_constant(function: &str, expr: &Expr) -> datafusion::common::DataFusionError {
    let message = format!(
        "the arguments of {function}() are constants or parameters of the statement, not computed \
         from rows: `{expr}`; for the traces of a query use `span_tree` with \
         `WHERE trace_id IN (SELECT …)`"
    );
    Error::invalid_input(message).into()
}

/// The text of an id; `None` for NULL and the empty text.
fn text(function: &str, value: &ScalarValue) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    match value.try_as_str() {
        Some(text) => Ok(text.filter(|text| !text.is_empty()).map(str::to_string)),
        None => {
            let message = format!("{function}() takes ids as text, got {value}; put it in quotes");
            Err(Error::invalid_input(message).into())
        }
    }
}

fn trace_ids(
    function: &str,
    value: Option<&ScalarValue>,
    allow_list: bool,
) -> Result<Vec<TraceId>> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let texts = match (list_items(value)?, allow_list) {
        (Some(items), true) => items,
        (Some(_), false) => {
            let message = format!("{function}() takes one trace id, not a list");
            return Err(Error::invalid_input(message).into());
        }
        (None, _) => text(function, value)?.into_iter().collect(),
    };
    let ids = texts.iter().map(|text| TraceId::parse(text));
    Ok(ids.collect::<crate::Result<Vec<_>>>()?)
}

/// The texts of a list but NULLs and empty ones; `None` where the value is no list.
fn list_items(value: &ScalarValue) -> Result<Option<Vec<String>>> {
    let items = match value {
        ScalarValue::List(list) => list.value(0),
        ScalarValue::LargeList(list) => list.value(0),
        ScalarValue::FixedSizeList(list) => list.value(0),
        _ => return Ok(None),
    };
    if items.data_type().is_numeric() {
        let message = "trace ids are texts, not numbers; put them in quotes";
        return Err(Error::invalid_input(message).into());
    }
    let items = cast(&items, &DataType::Utf8)?;
    let texts = items.as_string::<i32>().iter().flatten();
    let texts = texts.filter(|text| !text.is_empty());
    Ok(Some(texts.map(str::to_string).collect()))
}

fn number(function: &str, name: &str, value: &ScalarValue) -> Result<u64> {
    let what = format!("`{name}` of {function}()");
    let number = whole_number(value);
    Ok(number.ok_or_else(|| wrong(&what, "a whole number of at least zero", value))?)
}

/// Puts values in the places of parameters (`$1`, `$id`) among the arguments of table functions,
/// whose rows are decided when the statement is planned, and writes the names of those functions
/// in lower case, as SQL folds names. Parameters elsewhere, and those without a value, are left.
pub fn substitute_parameters(statement: &mut Statement, parameters: &[(String, ScalarValue)]) {
    match statement {
        Statement::Statement(statement) => {
            let _ = statement.visit(&mut TableFunctions { parameters });
        }
        Statement::Explain(explain) => substitute_parameters(&mut explain.statement, parameters),
        _ => {}
    }
}

struct TableFunctions<'a> {
    parameters: &'a [(String, ScalarValue)],
}

impl VisitorMut for TableFunctions<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let mut values = Values {
            parameters: self.parameters,
            depth: 0,
        };
        if let TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } = table
        {
            for part in &mut name.0 {
                if let datafusion::sql::sqlparser::ast::ObjectNamePart::Identifier(ident) = part
                    && ident.quote_style.is_none()
                {
                    ident.value = ident.value.to_lowercase();
                }
            }
            let _ = arguments.args.visit(&mut values);
        }
        if let TableFactor::Function { args, .. } = table {
            let _ = args.visit(&mut values);
        }
        ControlFlow::Continue(())
    }
}

struct Values<'a> {
    parameters: &'a [(String, ScalarValue)],
    depth: usize,
}

impl VisitorMut for Values<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if self.depth == 0
            && let SqlExpr::Value(ValueWithSpan {
                value: Value::Placeholder(name),
                ..
            }) = expr
        {
            let name = name.trim_start_matches('$');
            let parameter = self.parameters.iter().find(|(other, _)| other == name);
            if let Some(value) = parameter.and_then(|(_, value)| sql_value(value)) {
                *expr = value;
            }
        }
        ControlFlow::Continue(())
    }
}

/// A value as SQL writes it; `None` for types that no table function takes.
fn sql_value(value: &ScalarValue) -> Option<SqlExpr> {
    let literal = |value| {
        Some(SqlExpr::Value(ValueWithSpan {
            value,
            span: Span::empty(),
        }))
    };
    if value.is_null() {
        return literal(Value::Null);
    }
    if let Some(Some(text)) = value.try_as_str() {
        return literal(Value::SingleQuotedString(text.to_string()));
    }
    match value {
        ScalarValue::Boolean(Some(value)) => literal(Value::Boolean(*value)),
        ScalarValue::List(list) => {
            let items = list.value(0);
            let items = (0..items.len())
                .map(|index| sql_value(&ScalarValue::try_from_array(&items, index).ok()?));
            Some(SqlExpr::Array(SqlArray {
                elem: items.collect::<Option<Vec<_>>>()?,
                named: true,
            }))
        }
        value if value.data_type().is_numeric() => literal(Value::Number(value.to_string(), false)),
        // Times, as their texts: functions that take times read them.
        value if value.data_type().is_temporal() => {
            let text = value.cast_to(&DataType::Utf8).ok()?;
            literal(Value::SingleQuotedString(text.to_string()))
        }
        _ => None,
    }
}
