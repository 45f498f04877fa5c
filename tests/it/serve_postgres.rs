//! The PostgreSQL protocol, with a real client and the questions tools ask when they connect.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::serve::{Running, request};

async fn connect(server: &Running, rest: &str) -> Result<Client, tokio_postgres::Error> {
    let address = server.addresses.postgres.expect("PostgreSQL is on");
    let port = address.port();
    let settings = format!("host=127.0.0.1 port={port} dbname=tracelake {rest}");
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn with_spans() -> (Running, Client) {
    let server = Running::start(&[]).await;
    server
        .grpc()
        .await
        .export(request(0..100))
        .await
        .expect("it is taken");
    let client = connect(&server, "user=someone")
        .await
        .expect("everybody may");
    (server, client)
}

/// The first row of a simple query as texts.
async fn simple(client: &Client, sql: &str) -> Vec<Option<String>> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            return (0..row.len())
                .map(|at| row.get(at).map(str::to_string))
                .collect();
        }
    }
    Vec::new()
}

fn code(error: &tokio_postgres::Error) -> String {
    error
        .code()
        .map_or_else(|| format!("{error:?}"), |code| code.code().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_and_prepared_queries_have_types_that_clients_know() {
    let (server, client) = with_spans().await;
    let row = simple(
        &client,
        "SELECT trace_id, start_time, duration_nano, duration_ms, is_root, attributes['half'], attributes \
         FROM spans WHERE span_name = 'span 1'",
    )
    .await;
    let row: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(row[0], format!("{:032x}", 1));
    assert!(
        row[1].starts_with("2023-11-14 22:13:20.000000"),
        "{}",
        row[1]
    );
    assert_eq!(row[2..6], ["1000", "0.001", "t", "0.5"]);
    assert!(row[6].starts_with("{\"number\":1,"), "{}", row[6]);

    let statement = client
        .prepare("SELECT name, duration_nano, start_time, duration_ms, events FROM spans WHERE trace_id = $1 AND duration_nano > $2 ORDER BY start_time")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::INT8]);
    let types: Vec<Type> = statement
        .columns()
        .iter()
        .map(|column| column.type_().clone())
        .collect();
    assert_eq!(
        types,
        [
            Type::TEXT,
            Type::INT8,
            Type::TIMESTAMPTZ,
            Type::FLOAT8,
            Type::TEXT
        ]
    );
    for _ in 0..2 {
        let rows = client
            .query(&statement, &[&format!("{:032X}", 1), &5i64])
            .await
            .unwrap();
        assert_eq!(rows.len(), 10);
        assert_eq!(rows[3].get::<_, &str>(0), "span 3");
        assert_eq!(rows[3].get::<_, i64>(1), 1000);
        let start: std::time::SystemTime = rows[3].get(2);
        assert_eq!(
            start
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
            1_700_000_000
        );
        assert_eq!(rows[3].get::<_, Option<&str>>(4), None);
    }
    let rows = client
        .query(
            "SELECT count(*) FROM spans WHERE name = $1 LIMIT $2",
            &[&"span 7", &1i64],
        )
        .await;
    assert_eq!(rows.unwrap()[0].get::<_, i64>(0), 1);
    let rows = client
        .query("SELECT [1.5, 2.5] AS q, $1::text AS t", &[&"x"])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, Vec<f64>>(0), [1.5, 2.5]);
    assert_eq!(rows[0].get::<_, &str>(1), "x");

    let sql = "SELECT name FROM trace($1) WHERE duration_nano > $2 ORDER BY start_time";
    let tree = client.prepare(sql).await.unwrap();
    assert_eq!(tree.params(), [Type::TEXT, Type::INT8]);
    for (trace, first) in [(1, "span 0"), (2, "span 10")] {
        let rows = client
            .query(&tree, &[&format!("{trace:032x}"), &1i64])
            .await
            .unwrap();
        assert_eq!((rows.len(), rows[0].get::<_, &str>(0)), (10, first));
    }

    let sql = "SELECT count(*) FROM spans WHERE attributes['number'] >= $1";
    let typed = client.prepare_typed(sql, &[Type::INT8]).await.unwrap();
    assert_eq!(
        client
            .query_one(&typed, &[&90i64])
            .await
            .unwrap()
            .get::<_, i64>(0),
        10
    );

    // What is acknowledged is there for a connection that was made before.
    server
        .grpc()
        .await
        .export(request(100..110))
        .await
        .expect("it is taken");
    assert_eq!(
        simple(&client, "SELECT count(*) FROM spans").await[0].as_deref(),
        Some("110")
    );
    let several = client
        .simple_query("SELECT 1; SELECT 2; SELECT 3; SELECT 4; SELECT 5; SELECT 6")
        .await;
    assert_eq!(
        several
            .unwrap()
            .iter()
            .filter(|m| matches!(m, SimpleQueryMessage::Row(_)))
            .count(),
        6
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_states_and_writes_are_refused() {
    let (server, client) = with_spans().await;
    for (sql, state) in [
        ("SELECT nothing FROM spans", "42000"),
        ("SELEC 1", "42000"),
        ("SELECT * FROM spans WHERE trace_id = 'zz'", "42000"),
        ("CREATE TABLE t AS SELECT 1", "42000"),
        (
            "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/etc/passwd'",
            "42000",
        ),
        (
            "COPY (SELECT 1) TO '/tmp/tracelake-must-not-exist'",
            "42000",
        ),
        ("DELETE FROM spans", "42000"),
        ("SET datafusion.runtime.memory_limit = '1K'", "42000"),
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        assert_eq!(code(&error), state, "{sql}: {error:?}");
        let error = client.query(sql, &[]).await.expect_err(sql);
        assert_eq!(code(&error), state, "{sql}: {error:?}");
    }
    // The connection goes on.
    assert_eq!(simple(&client, "SELECT 1").await[0].as_deref(), Some("1"));
    server.stop().await;
}

const LONG: &str = "SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a \
                    CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_by_cancellation_and_by_its_timeout() {
    let (server, client) = with_spans().await;
    let token = client.cancel_token();
    let started = Instant::now();
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    });
    let error = client
        .simple_query(LONG)
        .await
        .expect_err("it is cancelled");
    assert_eq!(code(&error), "57014", "{error:?}");
    cancelling.await.unwrap().unwrap();
    client
        .simple_query("SET statement_timeout = 200")
        .await
        .unwrap();
    let error = client
        .query(LONG, &[])
        .await
        .expect_err("it takes too long");
    assert_eq!(code(&error), "57014", "{error:?}");
    assert_eq!(
        simple(&client, "SHOW statement_timeout").await[0].as_deref(),
        Some("200ms")
    );
    client
        .simple_query("SET statement_timeout = '0'")
        .await
        .unwrap();
    assert_eq!(simple(&client, "SELECT 1").await[0].as_deref(), Some("1"));
    assert!(started.elapsed() < Duration::from_secs(30));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_share_the_turns() {
    let server = Running::start(&["query.max_concurrent=2"]).await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(connect(&server, "user=someone").await.unwrap());
    }
    let all = clients
        .iter()
        .map(|client| client.query_one("SELECT count(*) FROM spans", &[]));
    for row in futures::future::join_all(all).await {
        assert_eq!(row.unwrap().get::<_, i64>(0), 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_where_users_are_known() {
    let users = "[[auth.users]]\nname = \"grafana\"\npassword = \"s3cret\"\n";
    let server = Running::start_with(users, &[]).await;
    let client = connect(&server, "user=grafana password=s3cret")
        .await
        .expect("it is right");
    assert_eq!(simple(&client, "SELECT 1").await[0].as_deref(), Some("1"));
    for wrong in [
        "user=grafana password=wrong",
        "user=nobody password=s3cret",
        "user=grafana",
    ] {
        assert!(connect(&server, wrong).await.is_err(), "{wrong}");
    }
    server.stop().await;
}

/// What tools ask when they connect and when they list what there is.
const STARTUP: [(&str, &str); 21] = [
    ("any", "SELECT version()"),
    (
        "any",
        "SELECT current_database(), current_schema(), current_user",
    ),
    ("any", "SHOW server_version"),
    ("any", "SHOW search_path"),
    ("any", "SHOW transaction isolation level"),
    ("any", "SET client_encoding TO 'UTF8'"),
    ("any", "BEGIN"),
    ("any", "COMMIT"),
    ("jdbc", "SET extra_float_digits = 3"),
    ("jdbc", "SET application_name = 'PostgreSQL JDBC Driver'"),
    (
        "jdbc",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    ),
    (
        "psql \\l",
        "SELECT d.datname FROM pg_catalog.pg_database d ORDER BY 1",
    ),
    (
        "psql \\dn",
        "SELECT n.nspname AS \"Name\" FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1",
    ),
    (
        "grafana",
        "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY CASE WHEN quote_ident(table_schema) = 'public' THEN 0 ELSE 1 END, 1",
    ),
    (
        "grafana",
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns WHERE quote_ident(table_name) = 'spans'",
    ),
    (
        "grafana",
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'",
    ),
    (
        "grafana",
        "SELECT current_setting('server_version_num')::int/100",
    ),
    ("metabase", "SELECT nspname FROM pg_namespace"),
    (
        "sqlalchemy",
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'",
    ),
    (
        "dbeaver",
        "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datname = 'tracelake'",
    ),
    (
        "dbeaver",
        "SELECT c.oid, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE c.relname = 'spans' AND a.attnum > 0 ORDER BY a.attnum",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_questions_tools_ask_when_they_connect_are_answered() {
    let (server, client) = with_spans().await;
    let mut failed = Vec::new();
    for (tool, sql) in STARTUP {
        if let Err(error) = client.simple_query(sql).await {
            failed.push(format!("{tool}: {sql}\n    {error:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let columns = client.simple_query(STARTUP[20].1).await.unwrap();
    let rows = columns
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    assert!(rows.count() >= 30, "the columns of spans are listed");
    // \d of psql: which relations there are.
    let sql = "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", \
               CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END AS \"Type\", \
               pg_catalog.pg_get_userbyid(c.relowner) AS \"Owner\" \
               FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' \
               AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' \
               AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2";
    let rows = client.simple_query(sql).await.unwrap();
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(1),
            _ => None,
        })
        .collect();
    for name in ["spans", "span_events", "lake_files"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    server.stop().await;
}
