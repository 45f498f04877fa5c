//! Arrow Flight SQL, with the client of the Arrow project.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{ActionCancelQueryRequest, CommandGetTables, ProstMessageExt, SqlInfo};
use arrow_flight::{Action, FlightInfo};
use futures::TryStreamExt;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

use crate::serve::{Running, request};

async fn client(server: &Running) -> FlightSqlServiceClient<Channel> {
    let address = server.addresses.flight.expect("Flight is on");
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    FlightSqlServiceClient::new(channel.connect().await.unwrap())
}

async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.expect("it runs");
    stream.try_collect().await.expect("it ends well")
}

fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_run_directly_and_prepared_with_parameters() {
    let server = Running::start(&[]).await;
    server
        .grpc()
        .await
        .export(request(0..50))
        .await
        .expect("it is taken");
    let mut client = client(&server).await;
    let info = client
        .execute("SELECT * FROM spans ORDER BY start_time".into(), None)
        .await
        .unwrap();
    let schema = info.clone().try_decode_schema().unwrap();
    let rows = fetch(&mut client, info).await;
    assert_eq!(row_count(&rows), 50);
    assert_eq!(rows[0].schema_ref().fields(), schema.fields());
    assert!(!format!("{schema:?}").contains("View"));

    let sql = "SELECT name, duration_nano FROM spans WHERE name = $1 AND duration_nano > $2";
    let mut prepared = client.prepare(sql.into(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 2);
    for name in ["span 3", "span 4"] {
        let values = RecordBatch::try_from_iter([
            ("$1", Arc::new(StringArray::from(vec![name])) as _),
            ("$2", Arc::new(Int64Array::from(vec![1])) as _),
        ]);
        prepared.set_parameters(values.unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        let rows = fetch(&mut client, info).await;
        assert_eq!(rows[0].column(0).as_string::<i32>().value(0), name);
        assert_eq!(rows[0].column(1).as_primitive::<Int64Type>().value(0), 1000);
    }
    prepared.close().await.unwrap();

    for sql in [
        "SELECT nothing FROM spans",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
    ] {
        assert!(client.execute(sql.into(), None).await.is_err(), "{sql}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_can_be_listed() {
    let server = Running::start(&[]).await;
    let mut client = client(&server).await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(row_count(&fetch(&mut client, info).await), 1);
    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("public".into()),
        table_name_filter_pattern: Some("span%".into()),
        table_types: Vec::new(),
        include_schema: true,
    };
    let info = client.get_tables(tables).await.unwrap();
    let rows = fetch(&mut client, info).await;
    let names: Vec<&str> = rows[0]
        .column(2)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert!(
        names.contains(&"spans") && names.contains(&"span_events"),
        "{names:?}"
    );
    let info = client
        .get_sql_info(vec![SqlInfo::FlightSqlServerName])
        .await
        .unwrap();
    assert_eq!(row_count(&fetch(&mut client, info).await), 1);
    let info = client.get_table_types().await.unwrap();
    assert!(row_count(&fetch(&mut client, info).await) >= 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_can_be_cancelled_by_its_info() {
    let server = Running::start(&[]).await;
    let mut client = client(&server).await;
    let long = "SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a \
                CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b";
    let info = client.execute(long.into(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut other = client.clone();
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let request = ActionCancelQueryRequest {
            info: info.encode_to_vec().into(),
        };
        let action = Action::new("CancelQuery", request.as_any().encode_to_vec());
        other.inner_mut().do_action(action).await.map(|_| ())
    });
    let outcome = match client.do_get(ticket).await {
        Ok(stream) => stream
            .try_collect::<Vec<_>>()
            .await
            .map(|_| ())
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    assert!(outcome.unwrap_err().to_lowercase().contains("cancel"));
    cancelling.await.unwrap().expect("the query was known");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_readers_may_ask() {
    let tokens = "[[auth.tokens]]\nname = \"a\"\ntoken = \"the-reader\"\nroles = [\"read\"]\n\
                  [[auth.tokens]]\nname = \"b\"\ntoken = \"the-writer\"\nroles = [\"write\"]\n";
    let server = Running::start_with(tokens, &[]).await;
    for (token, may) in [
        (None, false),
        (Some("the-writer"), false),
        (Some("the-reader"), true),
    ] {
        let mut client = client(&server).await;
        if let Some(token) = token {
            client.set_token(token.to_string());
        }
        assert_eq!(
            client.execute("SELECT 1".into(), None).await.is_ok(),
            may,
            "{token:?}"
        );
    }
    server.stop().await;
}
