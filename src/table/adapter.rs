//! Maps expressions over the logical columns of `spans` to expressions over a file's columns.
//!
//! Read [`SpanAdapter`]. DataFusion asks for one for each file it opens, so files may differ.
//! Comparisons of ids, kinds and times with literals become comparisons of the stored bytes and
//! numbers: that is what lets page statistics prune. Nothing here is needed for correctness but
//! [`SpanAdapter::column`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr,
    LikeExpr, Literal, in_list, lit,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion_physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::attribute_access::AttributeAccess;
use super::decode::Decoding;
use super::stored_literal::{StoredLiteral, id_prefix_range, stored_literal};
use crate::span::{STORED_PREFIX, StatusCode, column};

type Expr = Arc<dyn PhysicalExpr>;

/// Makes a [`SpanAdapter`] for each file.
#[derive(Debug)]
pub(super) struct SpanAdapterFactory;

impl PhysicalExprAdapterFactory for SpanAdapterFactory {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(SpanAdapter {
            logical: logical_file_schema,
            attributes: AttributeAccess::new(&physical_file_schema),
            stored: physical_file_schema,
        }))
    }
}

/// Rewrites expressions for one file.
#[derive(Debug)]
struct SpanAdapter {
    logical: SchemaRef,
    stored: SchemaRef,
    attributes: AttributeAccess,
}

impl PhysicalExprAdapter for SpanAdapter {
    fn rewrite(&self, expr: Expr) -> Result<Expr> {
        expr.transform_down(|expr| self.rewrite_node(expr)).data()
    }
}

impl SpanAdapter {
    fn rewrite_node(&self, expr: Expr) -> Result<Transformed<Expr>> {
        let rewritten = if let Some(logical) = expr.downcast_ref::<Column>() {
            Some(self.column(logical.name())?)
        } else if let Some(rewritten) = self.attributes.rewrite(&expr)? {
            Some(rewritten)
        } else if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            self.comparison(binary)?
        } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
            self.in_list(list)?
        } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            self.like(like)?
        } else if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            self.stored_of(is_null.arg())
                .map(|stored| Arc::new(IsNullExpr::new(stored)) as Expr)
        } else if let Some(is_null) = expr.downcast_ref::<IsNotNullExpr>() {
            self.stored_of(is_null.arg())
                .map(|stored| Arc::new(IsNotNullExpr::new(stored)) as Expr)
        } else if let Some(filter) = expr.downcast_ref::<DynamicFilterPhysicalExpr>() {
            self.dynamic_filter(&expr, filter)?
        } else {
            None
        };
        Ok(match rewritten {
            Some(rewritten) => Transformed::new(rewritten, true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    }

    /// A logical column as an expression over the stored ones.
    fn column(&self, name: &str) -> Result<Expr> {
        let Ok(field) = self.logical.field_with_name(name) else {
            return exec_err!("unknown column `{name}`");
        };
        if let Some(stored) = name.strip_prefix(STORED_PREFIX) {
            return self.same_column(stored, field);
        }
        let decode = |decoding: Decoding| {
            let stored = self.stored(name)?;
            Ok(decoding.of(stored, Arc::new(field.clone())))
        };
        match name {
            "trace_id" | "span_id" | "parent_span_id" => decode(Decoding::Hex),
            "kind" => decode(Decoding::KindName),
            "status_code" => decode(Decoding::StatusName),
            "events" if self.has(column::EVENTS) => decode(Decoding::Events),
            "links" if self.has(column::LINKS) => decode(Decoding::Links),
            "start_time" => Ok(cast_to(self.stored(column::START_TIME_UNIX_NANO)?, field)),
            "end_time" => {
                let start = self.stored(column::START_TIME_UNIX_NANO)?;
                let duration = self.stored(column::DURATION_NANO)?;
                Ok(cast_to(binary(start, Operator::Plus, duration), field))
            }
            "duration_ms" => {
                let nanos = cast_to(self.stored(column::DURATION_NANO)?, field);
                Ok(binary(nanos, Operator::Divide, lit(1e6)))
            }
            "is_root" => Ok(Arc::new(IsNullExpr::new(
                self.stored(column::PARENT_SPAN_ID)?,
            ))),
            "has_error" => {
                let code = self.stored(column::STATUS_CODE)?;
                Ok(binary(code, Operator::Eq, lit(StatusCode::Error as i8)))
            }
            column::ATTRIBUTES => match self.attributes.whole()? {
                Some(whole) => Ok(whole),
                None => self.same_column(name, field),
            },
            _ => self.same_column(name, field),
        }
    }

    /// A column stored under its logical name: as it is, cast, or NULL where a file lacks it.
    fn same_column(&self, name: &str, field: &Field) -> Result<Expr> {
        if !self.has(name) {
            let null = ScalarValue::try_from(field.data_type())?;
            return Ok(Arc::new(Literal::new(null)));
        }
        let stored = self.stored(name)?;
        if stored.data_type(&self.stored)? == *field.data_type() {
            return Ok(stored);
        }
        Ok(cast_to(stored, field))
    }

    fn has(&self, name: &str) -> bool {
        self.stored.index_of(name).is_ok()
    }

    fn stored(&self, name: &str) -> Result<Expr> {
        Ok(Arc::new(Column::new_with_schema(name, &self.stored)?))
    }

    /// The stored column that holds a logical column's values one to one, if there is one:
    /// NULL exactly where the logical one is, and ordered alike where it is ordered by value.
    fn stored_of(&self, expr: &Expr) -> Option<Expr> {
        let logical = expr.downcast_ref::<Column>()?;
        let name = match logical.name() {
            "start_time" => column::START_TIME_UNIX_NANO,
            name @ ("trace_id" | "span_id" | "parent_span_id" | "kind" | "status_code") => name,
            _ => return None,
        };
        self.stored(name).ok()
    }

    /// `column op literal`, either way round, over the stored column.
    fn comparison(&self, binary_expr: &BinaryExpr) -> Result<Option<Expr>> {
        let (left, op, right) = (binary_expr.left(), *binary_expr.op(), binary_expr.right());
        let (logical, op, literal) = match (as_literal(left), as_literal(right)) {
            (None, Some(literal)) => (left, op, literal),
            (Some(literal), None) => match op.swap() {
                Some(op) => (right, op, literal),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(stored) = self.stored_of(logical) else {
            return Ok(None);
        };
        let name = logical.downcast_ref::<Column>().map_or("", Column::name);
        let never = || self.constant_where_not_null(&stored, false);
        let always = || self.constant_where_not_null(&stored, true);
        Ok(match (stored_literal(name, literal), op) {
            (StoredLiteral::Value(value), Operator::Eq | Operator::NotEq) => {
                Some(binary(stored, op, lit(value)))
            }
            // Names do not sort like the numbers they stand for; ids and times do.
            (
                StoredLiteral::Value(value),
                Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq,
            ) if !matches!(name, "kind" | "status_code") => Some(binary(stored, op, lit(value))),
            (StoredLiteral::Absent, Operator::Eq) => Some(never()),
            (StoredLiteral::Absent, Operator::NotEq) => Some(always()),
            _ => None,
        })
    }

    /// `column IN (literals)` over the stored column.
    fn in_list(&self, list: &InListExpr) -> Result<Option<Expr>> {
        let Some(stored) = self.stored_of(list.expr()) else {
            return Ok(None);
        };
        let name = list
            .expr()
            .downcast_ref::<Column>()
            .map_or("", Column::name);
        let mut values = Vec::with_capacity(list.list().len());
        for item in list.list() {
            match as_literal(item).map(|literal| stored_literal(name, literal)) {
                Some(StoredLiteral::Value(value)) => values.push(lit(value)),
                Some(StoredLiteral::Absent) => {}
                Some(StoredLiteral::Unknown) | None => return Ok(None),
            }
        }
        if values.is_empty() {
            return Ok(Some(self.constant_where_not_null(&stored, list.negated())));
        }
        in_list(stored, values, &list.negated(), &self.stored).map(Some)
    }

    /// `id LIKE 'abc%'` keeps the comparison and gains a range of bytes, which prunes.
    fn like(&self, like: &LikeExpr) -> Result<Option<Expr>> {
        let (Some(stored), Some(pattern)) =
            (self.stored_of(like.expr()), as_literal(like.pattern()))
        else {
            return Ok(None);
        };
        let stored_type = stored.data_type(&self.stored)?;
        let (false, false, DataType::FixedSizeBinary(width), Some(Some(pattern))) = (
            like.negated(),
            like.case_insensitive(),
            stored_type,
            pattern.try_as_str(),
        ) else {
            return Ok(None);
        };
        let Some((low, high)) = id_prefix_range(pattern, width) else {
            return Ok(None);
        };
        let text = self.rewrite(Arc::clone(like.expr()))?;
        let like = LikeExpr::new(false, false, text, Arc::clone(like.pattern()));
        let range = binary(
            binary(Arc::clone(&stored), Operator::GtEq, lit(low)),
            Operator::And,
            binary(stored, Operator::LtEq, lit(high)),
        );
        Ok(Some(binary(range, Operator::And, Arc::new(like))))
    }

    /// A filter that a join or a top-k fills in while it runs. What it says when the file is
    /// opened is rewritten like any other predicate, so that it prunes; the filter itself stays
    /// beside it for what it learns later.
    fn dynamic_filter(
        &self,
        expr: &Expr,
        filter: &DynamicFilterPhysicalExpr,
    ) -> Result<Option<Expr>> {
        let known = filter.current()?;
        if known.downcast_ref::<Literal>().is_some() {
            return Ok(None);
        }
        let children = filter.children().into_iter();
        let children = children
            .map(|child| self.rewrite(Arc::clone(child)))
            .collect::<Result<Vec<_>>>()?;
        let remapped = Arc::clone(expr).with_new_children(children)?;
        let known = self.rewrite(known)?;
        Ok(Some(binary(known, Operator::And, remapped)))
    }

    /// A constant, but NULL where the column is, as SQL's comparison would be.
    fn constant_where_not_null(&self, stored: &Expr, value: bool) -> Expr {
        let nullable = stored.nullable(&self.stored).unwrap_or(true);
        match (nullable, value) {
            (false, _) => lit(value),
            // `x = x` is true or NULL, `x <> x` false or NULL.
            (true, true) => binary(Arc::clone(stored), Operator::Eq, Arc::clone(stored)),
            (true, false) => binary(Arc::clone(stored), Operator::NotEq, Arc::clone(stored)),
        }
    }
}

fn as_literal(expr: &Expr) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Arc::new(BinaryExpr::new(left, op, right))
}

fn cast_to(expr: Expr, field: &Field) -> Expr {
    Arc::new(CastExpr::new(expr, field.data_type().clone(), None))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;
    use crate::span::{logical_schema, storage_schema};

    fn adapted(expr: Expr) -> String {
        let adapter = SpanAdapterFactory
            .create(logical_schema(), storage_schema())
            .unwrap();
        adapter.rewrite(expr).unwrap().to_string()
    }

    fn logical(name: &str) -> Expr {
        Arc::new(Column::new_with_schema(name, &logical_schema()).unwrap())
    }

    #[test]
    fn every_logical_column_has_an_expression_of_its_type() {
        let stored: &Schema = &storage_schema();
        let adapter = SpanAdapterFactory
            .create(logical_schema(), storage_schema())
            .unwrap();
        for field in logical_schema().fields() {
            let expr = adapter.rewrite(logical(field.name())).unwrap();
            assert_eq!(
                expr.data_type(stored).unwrap(),
                *field.data_type(),
                "{field}"
            );
        }
    }

    #[test]
    fn comparisons_of_ids_names_and_times_reach_the_stored_values() {
        let text = |text: &str| lit(ScalarValue::Utf8View(Some(text.into())));
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let equals = binary(logical("trace_id"), Operator::Eq, text(id));
        assert!(adapted(equals).starts_with("trace_id@0 = "));
        let server = binary(text("SERVER"), Operator::Eq, logical("kind"));
        assert_eq!(adapted(server), "kind@6 = 2");
        let unknown = binary(logical("kind"), Operator::Eq, text("NOPE"));
        assert_eq!(adapted(unknown), "false");
        let time = ScalarValue::TimestampNanosecond(Some(7), Some("UTC".into()));
        let after = binary(logical("start_time"), Operator::GtEq, lit(time));
        assert_eq!(adapted(after), "start_time_unix_nano@7 >= 7");
        let empty = binary(logical("parent_span_id"), Operator::Eq, text(""));
        assert_eq!(adapted(empty), "parent_span_id@2 != parent_span_id@2");
    }
}
