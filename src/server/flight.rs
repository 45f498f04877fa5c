//! Arrow Flight SQL: queries, prepared statements, metadata, cancellation.
//!
//! Read [`FlightSql`]. A ticket holds the statement itself, so that a query can be fetched by
//! whoever has its ticket; only prepared statements are kept, the last ones used.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc,
    Ticket,
};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt};
use lru::LruCache;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::flight_schema::PlainTexts;
use super::query_gate::QueryGate;
use super::status::grpc_code;
use crate::engine::Session;
use crate::error::{Error, Result as EngineResult};

/// Prepared statements that are kept.
const PREPARED: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// The length of an id in a ticket, before the statement.
const ID_LENGTH: usize = 32;

/// `CANCEL_RESULT_CANCELLED` of Flight SQL.
const CANCELLED: i32 = 1;

/// What metrics call this protocol.
const PROTOCOL: &str = "flight";

type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send + 'static>>;

/// Answers Flight SQL over one session that all share: it only answers queries.
#[derive(Clone)]
pub(super) struct FlightSql {
    session: Session,
    gate: Arc<QueryGate>,
    info: Arc<SqlInfoData>,
    prepared: Arc<Mutex<LruCache<String, Prepared>>>,
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

/// A prepared statement with the values bound to it.
#[derive(Clone)]
struct Prepared {
    sql: String,
    parameters: Vec<(String, ScalarValue)>,
}

/// Takes a query out of those that run when it ends.
struct RunningQuery {
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
    id: String,
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.id);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(error: Error) -> Status {
    Status::new(grpc_code(error.kind()), error.report())
}

fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl FlightSql {
    pub(super) fn try_new(session: Session, gate: Arc<QueryGate>) -> EngineResult<Self> {
        let mut info = SqlInfoDataBuilder::new();
        info.append(SqlInfo::FlightSqlServerName, "tracelake");
        info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
        info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
        info.append(SqlInfo::FlightSqlServerReadOnly, true);
        info.append(SqlInfo::FlightSqlServerSql, true);
        info.append(SqlInfo::FlightSqlServerSubstrait, false);
        info.append(SqlInfo::FlightSqlServerCancel, true);
        Ok(Self {
            session,
            gate,
            info: Arc::new(info.build().map_err(|error| {
                Error::internal("cannot describe the server").with_source(error)
            })?),
            prepared: Arc::new(Mutex::new(LruCache::new(PREPARED))),
            running: Arc::default(),
        })
    }

    /// The columns of a statement's result, and those of its parameters.
    async fn describe(&self, sql: &str) -> Result<(SchemaRef, Schema), Status> {
        let mut statements = Session::statements(sql).map_err(failure)?;
        let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
            return Err(Status::invalid_argument("send exactly one statement"));
        };
        let described = self.session.describe(&statement, &[]).await;
        let described = described.map_err(failure)?;
        let numbered = described.parameters.into_iter().enumerate();
        let parameters: Vec<Field> = numbered
            .map(|(index, data_type)| {
                let data_type = data_type.unwrap_or(DataType::Utf8);
                Field::new(format!("${}", index + 1), data_type, true)
            })
            .collect();
        let parameters = PlainTexts::new(&Schema::new(parameters)).schema();
        let schema = PlainTexts::new(described.plan.schema().as_arrow()).schema();
        Ok((schema, parameters.as_ref().clone()))
    }

    async fn rows(
        &self,
        id: String,
        sql: &str,
        parameters: &[(String, ScalarValue)],
    ) -> Result<Response<Rows>, Status> {
        let token = CancellationToken::new();
        lock(&self.running).insert(id.clone(), token.clone());
        let query = RunningQuery {
            running: Arc::clone(&self.running),
            id,
        };
        let (session, sql, parameters) =
            (self.session.clone(), sql.to_string(), parameters.to_vec());
        let running = async move { session.query(&sql, &parameters).await };
        let started = self.gate.run(PROTOCOL, None, running);
        let rows = tokio::select! {
            rows = started => rows.map_err(failure)?,
            () = token.cancelled() => return Err(Status::cancelled("the query was cancelled")),
        };
        let plain = PlainTexts::new(&rows.schema());
        let schema = plain.schema();
        let batches = rows.map(move |batch| {
            let batch = batch.and_then(|batch| plain.apply(&batch));
            batch.map_err(|error| FlightError::Tonic(Box::new(failure(error))))
        });
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .build(batches)
            .map_err(Status::from);
        let ending = Box::pin(token.cancelled_owned());
        let state = Some((encoded, ending, query));
        let rows = futures::stream::unfold(state, |state| async move {
            let (mut encoded, mut ending, query) = state?;
            tokio::select! {
                biased;
                () = &mut ending => Some((Err(Status::cancelled("the query was cancelled")), None)),
                data = encoded.next() => data.map(|data| (data, Some((encoded, ending, query)))),
            }
        });
        Ok(Response::new(Box::pin(rows)))
    }

    fn prepared(&self, handle: &Bytes) -> Result<(String, Prepared), Status> {
        let id = String::from_utf8_lossy(handle).into_owned();
        let found = lock(&self.prepared).get(&id).cloned();
        let found = found.ok_or_else(|| {
            Status::not_found("this prepared statement is not known (any more); prepare it again")
        })?;
        Ok((id, found))
    }

    /// The relations there are: schema, name, and type.
    async fn tables(&self) -> Result<Vec<[String; 3]>, Status> {
        let sql = "SELECT table_schema, table_name, table_type FROM information_schema.tables \
                   ORDER BY table_schema, table_name";
        let rows = self.session.query(sql, &[]).await.map_err(failure)?;
        let batches = rows.collect().await.map_err(failure)?;
        let mut tables = Vec::new();
        for batch in &batches {
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| cast(column, &DataType::Utf8))
                .collect::<Result<_, _>>()
                .map_err(|error| failure(error.into()))?;
            let text = |column: usize, row: usize| {
                columns[column].as_string::<i32>().value(row).to_string()
            };
            tables.extend((0..batch.num_rows()).map(|row| [0, 1, 2].map(|at| text(at, row))));
        }
        Ok(tables)
    }
}

/// What tells a client where to fetch: here, with the command itself as the ticket.
fn info(
    schema: &Schema,
    ticket: impl Into<Bytes>,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| failure(error.into()))?
        .with_endpoint(endpoint)
        .with_descriptor(descriptor);
    Ok(Response::new(info))
}

/// The answer to a question about what there is.
fn one_batch(batch: RecordBatch) -> Result<Response<Rows>, Status> {
    let rows = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .build(futures::stream::iter([Ok(batch)]))
        .map_err(Status::from);
    Ok(Response::new(Box::pin(rows)))
}

fn built<E: Into<FlightError>>(batch: Result<RecordBatch, E>) -> Result<RecordBatch, Status> {
    batch.map_err(|error| Status::from(error.into()))
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error: arrow::error::ArrowError| failure(error.into()))?;
    Ok(message.0)
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (schema, _) = self.describe(&query.query).await?;
        let ticket = TicketStatementQuery {
            statement_handle: format!("{}{}", new_id(), query.query).into(),
        };
        let ticket = ticket.as_any().encode_to_vec();
        info(&schema, ticket, request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (_, prepared) = self.prepared(&query.prepared_statement_handle)?;
        let (schema, _) = self.describe(&prepared.sql).await?;
        info(
            &schema,
            query.as_any().encode_to_vec(),
            request.into_inner(),
        )
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec();
        info(&query.into_builder().schema(), ticket, request.into_inner())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec();
        info(&query.into_builder().schema(), ticket, request.into_inner())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec();
        info(&query.into_builder().schema(), ticket, request.into_inner())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec();
        info(&query.into_builder().schema(), ticket, request.into_inner())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec();
        let schema = query.into_builder(&self.info).schema();
        info(&schema, ticket, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let (id, sql) = parse_ticket(&ticket.statement_handle)?;
        self.rows(id, sql, &[]).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let (id, prepared) = self.prepared(&query.prepared_statement_handle)?;
        self.rows(id, &prepared.sql, &prepared.parameters).await
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        builder.append("tracelake");
        one_batch(built(builder.build())?)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        for schema in ["information_schema", "public"] {
            builder.append("tracelake", schema);
        }
        one_batch(built(builder.build())?)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let with_schema = query.include_schema;
        let mut builder = query.into_builder();
        for [schema, name, kind] in self.tables().await? {
            let columns = if with_schema {
                let sql = format!("SELECT * FROM \"{schema}\".\"{name}\"");
                self.describe(&sql).await?.0
            } else {
                Arc::new(Schema::empty())
            };
            built(
                builder
                    .append("tracelake", schema, name, kind, &columns)
                    .map(|()| RecordBatch::new_empty(Arc::new(Schema::empty()))),
            )?;
        }
        one_batch(built(builder.build())?)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        for kind in ["BASE TABLE", "VIEW"] {
            builder.append(kind);
        }
        one_batch(built(builder.build())?)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one_batch(built(query.into_builder(&self.info).build())?)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let (schema, parameters) = self.describe(&query.query).await?;
        let id = new_id();
        let prepared = Prepared {
            sql: query.query,
            parameters: Vec::new(),
        };
        lock(&self.prepared).put(id.clone(), prepared);
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: id.into(),
            dataset_schema: ipc(&schema)?,
            parameter_schema: ipc(&parameters)?,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let (id, mut prepared) = self.prepared(&query.prepared_statement_handle)?;
        let data = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        prepared.parameters.clear();
        let mut row_count = 0;
        while let Some(batch) = batches.try_next().await? {
            row_count += batch.num_rows();
            if row_count > 1 {
                return Err(Status::invalid_argument(
                    "bind one row of parameters, and run the statement once for each",
                ));
            }
            if batch.num_rows() == 1 {
                prepared.parameters = parameters(&batch).map_err(failure)?;
            }
        }
        lock(&self.prepared).put(id, prepared);
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(query.prepared_statement_handle),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        let id = String::from_utf8_lossy(&query.prepared_statement_handle).into_owned();
        lock(&self.prepared).pop(&id);
        Ok(())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info)
            .map_err(|_| Status::invalid_argument("the request holds no FlightInfo"))?;
        let mut found = false;
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.unwrap_or_default().ticket;
            let Ok(any) = arrow_flight::sql::Any::decode(ticket) else {
                continue;
            };
            let id = match (
                any.unpack::<TicketStatementQuery>(),
                any.unpack::<CommandPreparedStatementQuery>(),
            ) {
                (Ok(Some(ticket)), _) => parse_ticket(&ticket.statement_handle)?.0,
                (_, Ok(Some(query))) => {
                    String::from_utf8_lossy(&query.prepared_statement_handle).into_owned()
                }
                _ => continue,
            };
            if let Some(token) = lock(&self.running).get(&id) {
                token.cancel();
                found = true;
            }
        }
        if !found {
            return Err(Status::not_found("this query does not run"));
        }
        Ok(ActionCancelQueryResult { result: CANCELLED })
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

/// The id and the statement of a ticket.
fn parse_ticket(handle: &Bytes) -> Result<(String, &str), Status> {
    let text = std::str::from_utf8(handle).ok();
    let parts = text.and_then(|text| text.split_at_checked(ID_LENGTH));
    let (id, sql) = parts.ok_or_else(|| Status::invalid_argument("this ticket is not ours"))?;
    Ok((id.to_string(), sql))
}

/// The values of one row, for `$1`, `$2`, … in the order of its columns.
fn parameters(batch: &RecordBatch) -> EngineResult<Vec<(String, ScalarValue)>> {
    let columns = batch.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let value = if column.is_null(0) {
                ScalarValue::Null
            } else {
                ScalarValue::try_from_array(column, 0)?
            };
            Ok(((index + 1).to_string(), value))
        })
        .collect()
}
