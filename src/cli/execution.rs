//! One statement, from its text to rows written, with Ctrl-C heeded all the while.
//!
//! Read [`run`]. The query works on the runtime's threads and at most a few batches ahead of the
//! writer; stopping early, for whatever reason, drops it there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::output::{Demand, ResultWriter};
use super::parameter::Parameter;
use crate::engine::Session;
use crate::{Error, Result};

/// Batches a query may be ahead of who writes them.
const BATCHES_AHEAD: usize = 2;

/// How a statement ended, when not with an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// Rows the writer got.
    pub(crate) row_count: u64,
    /// From the text to the last row written.
    pub(crate) elapsed: Duration,
    /// Whether it returns rows at all.
    pub(crate) has_rows: bool,
    /// Whether Ctrl-C stopped it.
    pub(crate) interrupted: bool,
}

enum Piece {
    Schema(SchemaRef),
    Rows(RecordBatch),
}

/// Aborts its task when dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one statement; `open` makes the writer of its rows, if it has any.
pub(crate) async fn run<'a>(
    session: &Arc<Session>,
    sql: &str,
    parameters: &[Parameter],
    open: impl FnOnce(&SchemaRef) -> Result<Box<dyn ResultWriter + 'a>>,
) -> Result<Finished> {
    let start = Instant::now();
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
    let mut running = Running(tokio::spawn(produce(
        Arc::clone(session),
        sql.to_string(),
        parameters.to_vec(),
        sender,
    )));
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    let mut open = Some(open);
    let mut writer = None;
    let mut finished = Finished {
        row_count: 0,
        elapsed: Duration::ZERO,
        has_rows: false,
        interrupted: false,
    };
    loop {
        let piece = tokio::select! {
            biased;
            _ = &mut interrupt => {
                finished.interrupted = true;
                finished.elapsed = start.elapsed();
                return Ok(finished);
            }
            piece = receiver.recv() => piece,
        };
        match piece.transpose()? {
            Some(Piece::Schema(schema)) => {
                finished.has_rows = !schema.fields().is_empty();
                if finished.has_rows
                    && let Some(open) = open.take()
                {
                    writer = Some(open(&schema)?);
                }
            }
            Some(Piece::Rows(batch)) => {
                finished.row_count += batch.num_rows() as u64;
                if let Some(writer) = &mut writer
                    && writer.write(&batch)? == Demand::Enough
                {
                    break;
                }
            }
            None => {
                // A task that panicked sends no error; its rows would look complete.
                (&mut running.0)
                    .await
                    .map_err(|error| Error::internal("the query broke off").with_source(error))?;
                break;
            }
        }
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    finished.elapsed = start.elapsed();
    Ok(finished)
}

/// Sends the schema and the rows of a statement, or its error; ends early if nobody listens.
async fn produce(
    session: Arc<Session>,
    sql: String,
    parameters: Vec<Parameter>,
    sender: mpsc::Sender<Result<Piece>>,
) {
    let mut stream = match session.query(&sql, &parameters).await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = sender.send(Err(error)).await;
            return;
        }
    };
    if sender
        .send(Ok(Piece::Schema(stream.schema())))
        .await
        .is_err()
    {
        return;
    }
    while let Some(batch) = stream.next().await {
        if sender.send(batch.map(Piece::Rows)).await.is_err() {
            return;
        }
    }
}

/// The rows of a small result as texts, NULL as an empty one: for the catalogue and the manual.
pub(crate) async fn texts(
    session: &Session,
    sql: &str,
    parameters: &[Parameter],
) -> Result<Vec<Vec<String>>> {
    let mut stream = session.query(sql, parameters).await?;
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let options = FormatOptions::default();
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| {
            let values = columns.iter();
            values.map(|column| column.value(row).to_string()).collect()
        }));
    }
    Ok(rows)
}
