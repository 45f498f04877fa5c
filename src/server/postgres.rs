//! The PostgreSQL wire protocol: simple and prepared queries, cancellation, passwords.
//!
//! Read [`serve`] and [`Connected`]. Every query passes the gate of all queries and the engine's
//! session; settings of a connection (`SET`, `BEGIN`, …) are answered and stay with it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::sql::sqlparser::ast::Statement as Syntax;
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, PgWireServerHandlers, Type};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::tokio::process_socket;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use futures::{Sink, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::listener::prepare;
use super::postgres_auth::{Startup, Users};
use super::postgres_statement::{Planner, Prepared};
use super::query_gate::{LimitedRows, QueryGate};
use super::status::sql_state;
use crate::engine::{NestedAsJson, QueryStream, Session};
use crate::error::{Error, ErrorKind, Result};

/// Rows kept of each result but the last of a text with several statements.
const KEPT_ROWS: usize = 100_000;

/// What all connections share.
pub(super) struct Postgres {
    pub(super) planner: Planner,
    pub(super) gate: Arc<QueryGate>,
    pub(super) users: Users,
    pub(super) running: Running,
}

/// Answers connections until `stop`, then lets running queries end.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Postgres>,
    max_connections: usize,
    stop: CancellationToken,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(
        max_connections.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("a PostgreSQL connection was refused, as there are too many");
            continue;
        };
        prepare(&stream);
        let handlers = Connected {
            shared: Arc::clone(&shared),
            needs_tls: tls.is_some(),
        };
        let tls = tls.clone();
        connections.spawn(async move {
            if let Err(error) = process_socket(stream, tls, handlers).await {
                tracing::debug!(%error, "a PostgreSQL connection broke off");
            }
            drop(place);
        });
    }
    while shared.running.is_any() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connections.shutdown().await;
    Ok(())
}

/// What a client cancels its query with: a number, and the bytes of a secret. The library gives
/// the same secret as a number or as bytes, by the version of the protocol.
type Key = (i32, Vec<u8>);

fn key_of((pid, secret): (i32, SecretKey)) -> Key {
    match secret {
        SecretKey::I32(number) => (pid, number.to_be_bytes().to_vec()),
        SecretKey::Bytes(bytes) => (pid, bytes.to_vec()),
    }
}

/// The queries that run, by the key a client cancels them with.
#[derive(Default)]
pub(super) struct Running {
    queries: Mutex<HashMap<Key, CancellationToken>>,
}

/// Takes a query out of those that run when it ends.
struct RunningQuery {
    shared: Arc<Postgres>,
    key: Key,
}

impl Running {
    fn is_any(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.key);
    }
}

/// The handlers of one connection.
#[derive(Clone)]
struct Connected {
    shared: Arc<Postgres>,
    needs_tls: bool,
}

impl PgWireServerHandlers for Connected {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::new(self.clone())
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(self.clone())
    }

    fn startup_handler(&self) -> Arc<impl datafusion_postgres::pgwire::api::auth::StartupHandler> {
        Arc::new(Startup::new(&self.shared.users, self.needs_tls))
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl CancelHandler for Connected {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = key_of((request.pid, request.secret_key));
        if let Some(query) = self.shared.running.lock().get(&key) {
            query.cancel();
        }
    }
}

#[async_trait]
impl SimpleQueryHandler for Connected {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = self.shared.planner.statements(query).map_err(failure)?;
        let count = statements.len();
        let mut responses = Vec::with_capacity(count);
        for (index, statement) in statements.into_iter().enumerate() {
            let prepared = self.prepare(client, statement, &[]).await?;
            let response = match &prepared {
                Prepared::Setting(syntax) => self.setting(client, syntax).await?,
                Prepared::Query { .. } => {
                    let none = ParamValues::List(Vec::new());
                    let rows = self
                        .rows(client, &prepared, none, &Format::UnifiedText)
                        .await?;
                    // A query that runs while the next one waits for its turn would hold up both.
                    let rows = if index + 1 < count {
                        kept(rows).await?
                    } else {
                        rows
                    };
                    Response::Query(rows)
                }
            };
            responses.push(response);
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl QueryParser for Connected {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.shared.planner.statements(sql).map_err(failure)?;
        if statements.len() > 1 {
            return Err(failure(Error::invalid_input(
                "a prepared statement holds one statement; send others by themselves",
            )));
        }
        match statements.pop() {
            Some(statement) => Ok(Some(self.prepare(client, statement, types).await?)),
            None => Ok(None),
        }
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(statement.parameter_types())
    }

    fn get_result_schema(
        &self,
        statement: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        match statement {
            Prepared::Setting(syntax) => Ok(setting_columns(syntax)),
            Prepared::Query { .. } => match statement.schema() {
                Some(schema) => arrow_schema_to_pg_fields(&schema, format, None),
                None => Ok(Vec::new()),
            },
        }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Connected {
    type Statement = Prepared;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        match prepared {
            Prepared::Setting(syntax) => self.setting(client, syntax).await,
            Prepared::Query { parameters, .. } => {
                let wire_types = prepared.parameter_types();
                let wire_types: Vec<Option<&Type>> = wire_types.iter().map(Some).collect();
                // What a client says of a value goes before what its place suggests: a number may
                // be compared with an attribute.
                let said = &portal.statement.parameter_types;
                let inferred: Vec<_> = parameters
                    .iter()
                    .enumerate()
                    .map(|(at, place)| match said.get(at) {
                        Some(Some(_)) => None,
                        _ => place.as_ref(),
                    })
                    .collect();
                let values =
                    deserialize_parameters_with_server_types(portal, &inferred, &wire_types)?;
                let format = &portal.result_column_format;
                let rows = self.rows(client, prepared, values, format).await?;
                Ok(Response::Query(rows))
            }
        }
    }
}

impl Connected {
    async fn prepare<C>(
        &self,
        client: &C,
        statement: super::postgres_statement::Candidates,
        types: &[Option<Type>],
    ) -> PgWireResult<Prepared>
    where
        C: ClientInfo + Send + Sync,
    {
        let planned = self.shared.planner.prepare(statement, types);
        let limit = statement_timeout(client).unwrap_or(Duration::MAX);
        match tokio::time::timeout(limit, planned).await {
            Ok(prepared) => prepared.map_err(failure),
            Err(_) => Err(cancelled("canceling statement due to statement timeout")),
        }
    }

    /// Runs a query, its placeholders filled, and gives its rows as they come.
    async fn rows<C>(
        &self,
        client: &C,
        prepared: &Prepared,
        values: ParamValues,
        format: &Format,
    ) -> PgWireResult<QueryResponse>
    where
        C: ClientInfo + Send + Sync,
    {
        let key = key_of(client.pid_and_secret_key());
        let token = CancellationToken::new();
        self.shared
            .running
            .lock()
            .insert(key.clone(), token.clone());
        let query = RunningQuery {
            shared: Arc::clone(&self.shared),
            key,
        };
        let session = self.shared.planner.session().clone();
        let running = run(session, prepared.clone(), values);
        let started = self
            .shared
            .gate
            .run("postgres", statement_timeout(client), running);
        let rows = tokio::select! {
            rows = started => rows.map_err(failure)?,
            () = token.cancelled() => return Err(PgWireError::QueryCanceled),
        };
        let flat = NestedAsJson::structs(&rows.schema());
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let fields = arrow_schema_to_pg_fields(&flat.schema(), format, Some(options))?;
        let fields = Arc::new(fields);
        let encoded = encoded(rows, flat, Arc::clone(&fields));
        let ending = async move { token.cancelled_owned().await };
        let rows = until_cancelled(encoded, ending, query);
        Ok(QueryResponse::new(fields, rows))
    }

    /// Answers what concerns the connection alone.
    async fn setting<C>(&self, client: &mut C, syntax: &Syntax) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let context = self.shared.planner.session().context();
        match syntax {
            // Settings of the engine are shared by all; PostgreSQL's have no dot.
            Syntax::Set(set) if set.to_string().to_lowercase().contains("datafusion.") => {
                Err(failure(Error::invalid_input(
                    "settings of the engine are the server's; they cannot be changed here",
                )))
            }
            Syntax::Set(_) | Syntax::ShowVariable { .. } => {
                let answer = SetShowHook
                    .handle_simple_query(syntax, context, client)
                    .await;
                answer.unwrap_or_else(|| Ok(Response::Execution(Tag::new("SET"))))
            }
            Syntax::StartTransaction { .. } | Syntax::Commit { .. } | Syntax::Rollback { .. } => {
                let hook = TransactionStatementHook;
                let answer = hook.handle_simple_query(syntax, context, client).await;
                answer.unwrap_or(Ok(Response::EmptyQuery))
            }
            Syntax::Reset(_) => Ok(Response::Execution(Tag::new("RESET"))),
            Syntax::Discard { .. } => Ok(Response::Execution(Tag::new("DISCARD ALL"))),
            Syntax::Deallocate { .. } => Ok(Response::Execution(Tag::new("DEALLOCATE"))),
            _ => Ok(Response::Execution(Tag::new("CLOSE CURSOR"))),
        }
    }
}

/// Runs a query with these values for its placeholders.
async fn run(session: Session, prepared: Prepared, values: ParamValues) -> Result<QueryStream> {
    let Prepared::Query { plan, anew, .. } = prepared else {
        return Err(Error::internal("a setting has no rows"));
    };
    if let (Some(statement), ParamValues::List(values)) = (&anew, &values) {
        let numbered = values.iter().enumerate();
        let parameters: Vec<_> = numbered
            .map(|(index, value)| ((index + 1).to_string(), value.value().clone()))
            .collect();
        return session.run(statement.clone(), &parameters).await;
    }
    let plan = plan.replace_params_with_values(&values)?;
    session.run_plan(plan).await
}

/// The columns of the answer to a setting: one for `SHOW`, else none.
fn setting_columns(syntax: &Syntax) -> Vec<FieldInfo> {
    use datafusion_postgres::pgwire::api::results::FieldFormat;
    match syntax {
        Syntax::ShowVariable { variable } => {
            let name: Vec<String> = variable.iter().map(ToString::to_string).collect();
            let field =
                FieldInfo::new(name.join("_"), None, None, Type::VARCHAR, FieldFormat::Text);
            vec![field]
        }
        _ => Vec::new(),
    }
}

/// The rows as the wire has them.
fn encoded(
    rows: LimitedRows,
    flat: NestedAsJson,
    fields: Arc<Vec<FieldInfo>>,
) -> impl futures::Stream<Item = PgWireResult<datafusion_postgres::pgwire::messages::data::DataRow>> + Send
{
    rows.map_err(failure)
        .and_then(move |batch| {
            let batch = flat.apply(&batch).map_err(failure);
            futures::future::ready(batch)
        })
        .map_ok(move |batch| {
            let rows = encode_recordbatch(Arc::clone(&fields), batch);
            futures::stream::iter(rows)
        })
        .try_flatten()
}

/// The same rows, which end with an error when `ending` does.
fn until_cancelled<R: Send + 'static>(
    rows: impl futures::Stream<Item = PgWireResult<R>> + Send + 'static,
    ending: impl Future<Output = ()> + Send + 'static,
    query: RunningQuery,
) -> impl futures::Stream<Item = PgWireResult<R>> + Send + 'static {
    let state = Some((Box::pin(rows), Box::pin(ending), query));
    futures::stream::unfold(state, |state| async move {
        let (mut rows, mut ending, query) = state?;
        tokio::select! {
            biased;
            () = &mut ending => Some((Err(PgWireError::QueryCanceled), None)),
            row = rows.next() => row.map(|row| (row, Some((rows, ending, query)))),
        }
    })
}

/// All rows of a result, read before the next statement runs.
async fn kept(mut response: QueryResponse) -> PgWireResult<QueryResponse> {
    let fields = response.row_schema();
    let mut rows = Vec::new();
    while let Some(row) = response.data_rows().next().await {
        rows.push(Ok(row?));
        if rows.len() > KEPT_ROWS {
            return Err(failure(Error::new(
                ErrorKind::ResourcesExhausted,
                "one of several statements has too many rows; send it by itself",
            )));
        }
    }
    Ok(QueryResponse::new(fields, futures::stream::iter(rows)))
}

/// The client's `statement_timeout`.
fn statement_timeout(client: &(impl ClientInfo + ?Sized)) -> Option<Duration> {
    let millis = client.metadata().get("statement_timeout_ms")?;
    Some(Duration::from_millis(millis.parse().ok()?))
}

fn cancelled(message: &str) -> PgWireError {
    let info = ErrorInfo::new("ERROR".into(), "57014".into(), message.into());
    PgWireError::UserError(Box::new(info))
}

fn failure(error: Error) -> PgWireError {
    let info = ErrorInfo::new("ERROR".into(), sql_state(&error).into(), error.report());
    PgWireError::UserError(Box::new(info))
}
