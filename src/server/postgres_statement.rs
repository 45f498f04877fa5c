//! What a PostgreSQL client sends, as statements the engine plans.
//!
//! Read [`Planner`]. Tools ask PostgreSQL's catalogue in its own dialect: texts that name it are
//! rewritten for ours, and so are texts that cannot be planned as they stand.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Statement as Syntax;
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
pub(super) enum Prepared {
    /// A client's own setting, or the begin or end of a transaction.
    Setting(Box<Syntax>),
    /// A query, its placeholders not yet filled.
    Query {
        plan: Box<LogicalPlan>,
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
            Ok(statements) => statements.into_iter().map(Statement::from).collect(),
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

    /// Plans a statement.
    pub(super) async fn prepare(&self, candidates: Candidates) -> Result<Prepared> {
        if let Some(syntax) = candidates.first.syntax()
            && is_setting(syntax)
        {
            return Ok(Prepared::Setting(Box::new(syntax.clone())));
        }
        let plan = match (self.plan(candidates.first).await, candidates.second) {
            (Ok(plan), _) => plan,
            (Err(error), None) => return Err(error),
            (Err(error), Some(second)) => self.plan(second).await.map_err(|_| error)?,
        };
        let parameters = parameter_types(&plan)?;
        Ok(Prepared::Query {
            plan: Box::new(plan),
            parameters,
        })
    }

    async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        self.session.logical_plan(statement).await
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

/// The types of `$1`, `$2`, … in order.
fn parameter_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let found = plan.get_parameter_types()?;
    let mut types = Vec::new();
    for (name, data_type) in found {
        let number: usize = name
            .strip_prefix('$')
            .and_then(|number| number.parse().ok())
            .filter(|number| (1..=usize::from(u16::MAX)).contains(number))
            .ok_or_else(|| {
                Error::invalid_input(format!("placeholders are $1, $2, …; placeholder=`{name}`"))
            })?;
        if types.len() < number {
            types.resize(number, None);
        }
        types[number - 1] = data_type;
    }
    Ok(types)
}
