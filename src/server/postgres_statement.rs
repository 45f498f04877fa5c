//! What a PostgreSQL client sends, as statements the engine plans.
//!
//! Read [`Planner`]. Tools ask PostgreSQL's catalogue in its own dialect: texts that name it are
//! rewritten for ours, and so are texts that cannot be planned as they stand.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, Statement as Syntax, Value, visit_expressions_mut};
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::pgwire::api::Type;

use crate::engine::{NestedAsJson, Session, Statement};
use crate::error::{Error, Result};

/// The name of the database, as the catalogue tells it.
const DATABASE: &str = "tracelake";

/// Plans what PostgreSQL clients send, over one session that all share: it only answers queries.
pub(super) struct Planner {
    session: Session,
    compatibility: PostgresCompatibilityParser,
}

/// A statement that can be run.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a connection has few, and nearly all are queries"
)]
pub(super) enum Prepared {
    /// A client's own setting, or the begin or end of a transaction.
    Setting(Box<Syntax>),
    /// A query, its placeholders not yet filled.
    Query {
        plan: Box<LogicalPlan>,
        /// The statement, where it must be planned anew each time it is run.
        anew: Option<Statement>,
        /// The types of `$1`, `$2`, … as far as the plan tells them.
        parameters: Vec<Option<DataType>>,
    },
}

impl Planner {
    /// A planner over a session of its own, to which PostgreSQL's catalogue is added.
    pub(super) fn try_new(session: Session) -> Result<Self> {
        setup_pg_catalog(session.context(), DATABASE, EmptyContextProvider)
            .map_err(|error| Error::from(*error).with_context("cannot set up pg_catalog"))?;
        Ok(Self {
            session,
            compatibility: PostgresCompatibilityParser::new(),
        })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The statements of a text in order, each to be given to [`Planner::prepare`].
    pub(super) fn statements(&self, sql: &str) -> Result<Vec<Candidates>> {
        let own = Session::statements(sql);
        let rewritten = self.compatibility.parse(sql);
        let rewritten: Vec<Statement> = match rewritten {
            Ok(statements) => statements.into_iter().map(with_settings).collect(),
            Err(_) => return Ok(own?.into_iter().map(Candidates::only).collect()),
        };
        let own = match own {
            Ok(own) if own.len() == rewritten.len() => own,
            Ok(own) => return Ok(own.into_iter().map(Candidates::only).collect()),
            Err(_) => return Ok(rewritten.into_iter().map(Candidates::only).collect()),
        };
        let names_catalog = sql.to_ascii_lowercase().contains("pg_");
        let pairs = own.into_iter().zip(rewritten);
        Ok(pairs
            .map(|(own, rewritten)| {
                let (first, second) = if names_catalog {
                    (rewritten, own)
                } else {
                    (own, rewritten)
                };
                Candidates {
                    first,
                    second: Some(second),
                }
            })
            .collect())
    }

    /// Plans a statement; `types` tells what the client said of its parameters.
    pub(super) async fn prepare(
        &self,
        candidates: Candidates,
        types: &[Option<Type>],
    ) -> Result<Prepared> {
        let both = std::iter::once(&candidates.first).chain(&candidates.second);
        let mut syntaxes = both.filter_map(Statement::syntax);
        let setting = syntaxes.find(|syntax| is_setting(syntax)).cloned();
        if let Some(setting) = setting {
            return Ok(Prepared::Setting(Box::new(setting)));
        }
        let types: Vec<Option<DataType>> = types
            .iter()
            .map(|one| one.as_ref().and_then(data_type))
            .collect();
        let first = self.session.describe(&candidates.first, &types).await;
        let (description, statement) = match (first, candidates.second) {
            (Ok(description), _) => (description, candidates.first),
            (Err(error), None) => return Err(error),
            (Err(error), Some(second)) => {
                let description = self.session.describe(&second, &types).await;
                (description.map_err(|_| error)?, second)
            }
        };
        Ok(Prepared::Query {
            plan: Box::new(description.plan),
            anew: (!description.stays).then_some(statement),
            parameters: description.parameters,
        })
    }
}

/// The type of an argument, as far as it helps to plan a table function.
fn data_type(wire: &Type) -> Option<DataType> {
    match *wire {
        Type::INT2 | Type::INT4 | Type::INT8 => Some(DataType::Int64),
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => Some(DataType::Float64),
        Type::BOOL => Some(DataType::Boolean),
        _ => None,
    }
}

/// A statement as written and as rewritten for PostgreSQL's catalogue, the likelier first.
pub(super) struct Candidates {
    first: Statement,
    second: Option<Statement>,
}

impl Candidates {
    fn only(statement: Statement) -> Self {
        Self {
            first: statement,
            second: None,
        }
    }
}

impl Prepared {
    /// The columns of the result, as PostgreSQL clients get them: structs and lists of them as
    /// JSON texts; `None` for a setting.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        match self {
            Self::Setting(_) => None,
            Self::Query { plan, .. } => Some(NestedAsJson::structs(plan.schema().inner()).schema()),
        }
    }

    /// The types a client should send parameters in: text where anything may stand.
    pub(super) fn parameter_types(&self) -> Vec<Type> {
        let Self::Query { parameters, .. } = self else {
            return Vec::new();
        };
        let types = parameters.iter().map(|data_type| {
            let data_type = data_type.as_ref()?;
            into_pg_type(data_type).ok()
        });
        types
            .map(|found| {
                found
                    .filter(|found| *found != Type::UNKNOWN)
                    .unwrap_or(Type::TEXT)
            })
            .collect()
    }
}

/// The statement with the values of settings in the place of `current_setting('name')`.
fn with_settings(mut syntax: Syntax) -> Statement {
    let _ = visit_expressions_mut(&mut syntax, |expr| {
        if let Expr::Function(function) = &*expr
            && function
                .name
                .to_string()
                .to_lowercase()
                .ends_with("current_setting")
        {
            let call = expr.to_string();
            let name = call.split('\'').nth(1).unwrap_or_default();
            let value = Value::SingleQuotedString(setting(name).to_string());
            *expr = Expr::Value(value.into());
        }
        ControlFlow::<()>::Continue(())
    });
    Statement::from(syntax)
}

/// What a client is told of a setting; nothing of one that has no meaning here.
fn setting(name: &str) -> &'static str {
    match name.to_lowercase().as_str() {
        "server_version" => "16.6",
        "server_version_num" => "160006",
        "search_path" => "public",
        "timezone" => "UTC",
        "server_encoding" | "client_encoding" => "UTF8",
        "standard_conforming_strings" => "on",
        _ => "",
    }
}

/// Whether a statement concerns the connection and not the lake.
fn is_setting(syntax: &Syntax) -> bool {
    matches!(
        syntax,
        Syntax::Set(_)
            | Syntax::Reset(_)
            | Syntax::ShowVariable { .. }
            | Syntax::StartTransaction { .. }
            | Syntax::Commit { .. }
            | Syntax::Rollback { .. }
            | Syntax::Discard { .. }
            | Syntax::Deallocate { .. }
            | Syntax::Close { .. }
    )
}
