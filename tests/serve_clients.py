#!/usr/bin/env python3
"""Checks a running `tracelake serve` with the clients people use: the OpenTelemetry SDK as sender
over gRPC and HTTP, psycopg, and the ADBC driver of Arrow Flight SQL.

    python3 tests/serve_clients.py TRACELAKE

starts the binary TRACELAKE on a lake of its own and on ports of the system's choice.
Needs: psycopg[binary], adbc-driver-flightsql, pyarrow, opentelemetry-sdk,
opentelemetry-exporter-otlp-proto-grpc, opentelemetry-exporter-otlp-proto-http.
"""

import datetime
import json
import signal
import sys
import tempfile
import urllib.request

import adbc_driver_flightsql.dbapi
import psycopg
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server_process import start


def send(exporter, service, count):
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("clients", "1.0")
    for number in range(count):
        with tracer.start_as_current_span("parent", attributes={"number": number, "half": number / 2}):
            with tracer.start_as_current_span("child") as child:
                child.add_event("tick", {"at": number})
    provider.shutdown()


def check(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: {found!r} instead of {expected!r}")
    print(f"ok  {what}")


def check_postgres(address):
    host, port = address.split(":")
    with psycopg.connect(host=host, port=port, user="someone", dbname="tracelake", autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM spans")
        check("psycopg counts", cursor.fetchone()[0], 400)
        sql = ("SELECT name, start_time, duration_nano, is_root, attributes FROM spans"
               " WHERE service_name = %s AND attributes['number'] >= %s ORDER BY start_time LIMIT 5")
        for prepare in (False, True):
            cursor.execute(sql, ("over-grpc", 10), prepare=prepare)
            rows = cursor.fetchall()
            check(f"psycopg's rows, prepare={prepare}", len(rows), 5)
            check("their types", [type(value) for value in rows[0][:4]], [str, datetime.datetime, int, bool])
            check("their attributes", json.loads(rows[0][4])["number"], 10)
        binary = connection.cursor(binary=True)
        binary.execute("SELECT duration_ms, start_time, 'text', 7::bigint, true FROM spans LIMIT 1")
        check("binary types", [type(value) for value in binary.fetchone()], [float, datetime.datetime, str, int, bool])
        cursor.execute("SELECT start_time FROM spans WHERE start_time <= %s LIMIT 1",
                       (datetime.datetime.now(datetime.timezone.utc),))
        check("a time as a parameter", len(cursor.fetchall()), 1)
        with connection.transaction():
            cursor.execute("SELECT 1")
        cursor.execute("SET statement_timeout = '100ms'")
        try:
            cursor.execute("SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a"
                           " CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b")
            raise SystemExit("statement_timeout had no effect")
        except psycopg.errors.QueryCanceled:
            print("ok  statement_timeout")
        cursor.execute("RESET statement_timeout")
        try:
            cursor.execute("SELECT nothing FROM spans")
            raise SystemExit("an error was expected")
        except psycopg.Error as error:
            check("the state of an error", error.sqlstate, "42000")


def check_flight(address):
    with adbc_driver_flightsql.dbapi.connect(f"grpc://{address}", autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT service_name, count(*) AS n FROM spans GROUP BY 1 ORDER BY 1")
            check("ADBC's rows", cursor.fetchall(), [("over-grpc", 200), ("over-http", 200)])
            cursor.execute("SELECT count(*) FROM spans WHERE name = ? ".replace("?", "$1"), parameters=("child",))
            check("ADBC's parameters", cursor.fetchone()[0], 200)
            cursor.execute("SELECT * FROM spans")
            check("ADBC's table", cursor.fetch_arrow_table().num_rows, 400)
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        tables = {table["table_name"] for catalog in objects for schema in catalog["catalog_db_schemas"]
                  for table in schema["db_schema_tables"]}
        check("ADBC's tables", {"spans", "span_events"} <= tables, True)
        schema = connection.adbc_get_table_schema("spans")
        check("ADBC's columns", schema.field("trace_id").name, "trace_id")


def check_http(address):
    request = urllib.request.Request(f"http://{address}/api/v1/sql", b"SELECT trace_id FROM spans LIMIT 1")
    trace_id = json.load(urllib.request.urlopen(request))[0]["trace_id"]
    trace = json.load(urllib.request.urlopen(f"http://{address}/api/v1/traces/{trace_id}"))
    spans = trace["resourceSpans"][0]["scopeSpans"][0]["spans"]
    check("a trace over HTTP", sorted(span["name"] for span in spans), ["child", "parent"])
    metrics = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    check("metrics", "tracelake_ingest_spans_total 400" in metrics, True)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        process, addresses = start(sys.argv[1], f"{directory}/lake")
        try:
            send(GrpcExporter(endpoint=addresses["OTLP over gRPC"], insecure=True), "over-grpc", 100)
            endpoint = f"http://{addresses['OTLP and Zipkin over HTTP']}/v1/traces"
            send(HttpExporter(endpoint=endpoint, compression=Compression.Gzip), "over-http", 100)
            check_postgres(addresses["queries over the PostgreSQL protocol"])
            check_flight(addresses["queries over Arrow Flight SQL"])
            check_http(addresses["queries over HTTP"])
        finally:
            process.send_signal(signal.SIGTERM)
        check("the end", process.wait(timeout=30), 0)


if __name__ == "__main__":
    main()
