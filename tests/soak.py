#!/usr/bin/env python3
"""Lets `tracelake serve` run under a mixed load and says what became of its memory.

    python3 tests/soak.py --tracelake target/release/tracelake --minutes 10

`tracelake load` sends OTLP over gRPC, two threads send OTLP JSON and Zipkin over HTTP, others ask the
statements of the Grafana dashboard over the PostgreSQL protocol, and SQL, searches and traces over
HTTP, while the server compacts and drops what is too much. Each interval prints one line. Ends with
1 if a request failed, or if the median of the memory in the last quarter is more than a quarter and
128 MiB above that in the second. Needs psycopg[binary]. Works on a lake in a temporary directory.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import psycopg

from server_process import memory as memory_of
from server_process import start

UPKEEP = ["maintenance.interval=5s", "maintenance.quiet=20s", "maintenance.max_ingested_files=40",
          "maintenance.retention_size=4GB", "query.timeout=30s"]
DASHBOARD = pathlib.Path(__file__).parent.parent / "queries/grafana/dashboard.json"


class Counts:
    """What was done, and what went wrong, by kind."""

    def __init__(self):
        self.lock = threading.Lock()
        self.done, self.failures, self.slowest = {}, [], {}

    def add(self, kind, started):
        elapsed = time.monotonic() - started
        with self.lock:
            self.done[kind] = self.done.get(kind, 0) + 1
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), elapsed)

    def fail(self, kind, error):
        with self.lock:
            self.failures.append(f"{kind}: {error}")


def post(url, body, content_type):
    request = urllib.request.Request(url, body, {"content-type": content_type})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def otlp_json(chance):
    now = time.time_ns()
    spans = [{"traceId": f"{chance.getrandbits(128) | 1:032x}", "spanId": f"{chance.getrandbits(64) | 1:016x}",
              "name": f"GET /soak/{chance.randrange(50)}", "kind": 2, "startTimeUnixNano": str(now),
              "endTimeUnixNano": str(now + chance.randrange(10**9)),
              "attributes": [{"key": "user.id", "value": {"intValue": str(chance.randrange(10**6))}}]}
             for _ in range(100)]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "soak-json"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()


def zipkin(chance):
    now = time.time_ns() // 1000
    return json.dumps([{"traceId": f"{chance.getrandbits(128) | 1:032x}", "id": f"{chance.getrandbits(64) | 1:016x}",
                        "name": "soak", "timestamp": now, "duration": chance.randrange(1, 10**6), "kind": "CLIENT",
                        "localEndpoint": {"serviceName": "soak-zipkin"}} for _ in range(100)]).encode()


def send(counts, ends, address, path, body, kind):
    chance = random.Random(kind)
    while not ends.is_set():
        started = time.monotonic()
        try:
            post(f"http://{address}{path}", body(chance), "application/json")
            counts.add(kind, started)
        except OSError as error:
            counts.fail(kind, error)
        ends.wait(0.2)


def statements():
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["rawSql"] for panel in dashboard["panels"] for target in panel["targets"]]


def as_sent(sql, services, trace_id):
    """What Grafana sends: the macros of its data source and the variables replaced."""
    ends = datetime.datetime.now(datetime.timezone.utc)
    begins = ends - datetime.timedelta(minutes=15)
    begin, end = (f"'{time.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}'" for time in (begins, ends))
    sql = re.sub(r"\$__timeGroupAlias\((\w+), [^)]*\)", r"""time_bucket('15s',\1) AS "time\"""", sql)
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {begin} AND {end}", sql)
    sql = sql.replace("$__timeFrom()", begin).replace("$__timeTo()", end).replace("$__interval_ms", "15000")
    return sql.replace("${service:sqlstring}", services).replace("${trace_id}", trace_id)


def ask_postgres(counts, ends, address):
    host, port = address.split(":")
    texts = statements()
    while not ends.is_set():
        try:
            with psycopg.connect(host=host, port=port, user="soak", dbname="tracelake", autocommit=True) as connection:
                cursor = connection.cursor()
                for sql in texts:
                    found = cursor.execute("SELECT service_name FROM services WHERE service_name IS NOT NULL").fetchall()
                    services = ",".join(f"'{name}'" for name, in found) or "''"
                    found = cursor.execute("SELECT trace_id FROM spans ORDER BY start_time DESC LIMIT 1").fetchall()
                    started = time.monotonic()
                    cursor.execute(as_sent(sql, services, found[0][0] if found else ""))
                    cursor.fetchall()
                    counts.add("dashboard", started)
                    if ends.wait(0.1):
                        return
        except psycopg.Error as error:
            counts.fail("dashboard", error)
            ends.wait(1)


def ask_http(counts, ends, address):
    while not ends.is_set():
        started = time.monotonic()
        try:
            sql = b"SELECT service_name, count(*), quantile_cont(duration_ms, 0.99) FROM spans GROUP BY 1"
            post(f"http://{address}/api/v1/sql", sql, "text/plain")
            search = json.dumps({"attributes": "user.id < 1000", "limit": 5}).encode()
            page = json.loads(post(f"http://{address}/api/v1/search", search, "application/json"))
            for trace in page["traces"]:
                urllib.request.urlopen(f"http://{address}/api/v1/traces/{trace['trace_id']}", timeout=60).read()
            counts.add("http", started)
        except OSError as error:
            counts.fail("http", error)
        ends.wait(0.5)


def lake(address):
    sql = (b"SELECT (SELECT count(*) FROM lake_files) AS files, (SELECT sum(span_count) FROM lake_files) AS spans,"
           b" (SELECT count(*) FROM lake_maintenance) AS upkeep,"
           b" (SELECT count(*) FROM lake_maintenance WHERE error IS NOT NULL) AS failed")
    return json.loads(post(f"http://{address}/api/v1/sql", sql, "text/plain"))[0]


def watch(process, counts, address, seconds, interval):
    memory, began, last = [], time.monotonic(), 0.0
    print(f"{'second':>6} {'memory MiB':>10} {'spans':>12} {'files':>6} {'upkeep':>6} {'failed':>6}  done")
    while (elapsed := time.monotonic() - began) < seconds:
        time.sleep(1)
        memory.append(memory_of(process))
        if elapsed - last >= interval:
            last = elapsed
            found = lake(address)
            print(f"{elapsed:6.0f} {memory[-1] / 2**20:10.0f} {found['spans'] or 0:12} {found['files']:6} "
                  f"{found['upkeep']:6} {found['failed']:6}  {counts.done}", flush=True)
    return memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tracelake", required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=2, help="of `tracelake load`")
    options = parser.parse_args()
    seconds = options.minutes * 60
    counts, ends = Counts(), threading.Event()
    with tempfile.TemporaryDirectory() as directory:
        process, addresses = start(options.tracelake, os.path.join(directory, "lake"), UPKEEP)
        http, otlp = addresses["queries over HTTP"], addresses["OTLP and Zipkin over HTTP"]
        load = subprocess.Popen([options.tracelake, "load", "--to", addresses["OTLP over gRPC"], "--connections",
                                 str(options.connections), "--duration", f"{int(seconds)}s"],
                                stdout=subprocess.PIPE, text=True)
        postgres = addresses["queries over the PostgreSQL protocol"]
        threads = [threading.Thread(target=work, args=(counts, ends, *arguments)) for work, *arguments in [
            (send, otlp, "/v1/traces", otlp_json, "otlp-json"), (send, otlp, "/api/v2/spans", zipkin, "zipkin"),
            (ask_postgres, postgres), (ask_postgres, postgres), (ask_http, http)]]
        for thread in threads:
            thread.start()
        memory = []
        try:
            memory = watch(process, counts, http, seconds, max(seconds / 40, 5))
        finally:
            ends.set()
            for thread in threads:
                thread.join()
            sent = load.communicate()[0]
            final = lake(http)
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=60)
    quarter = max(len(memory) // 4, 1)
    before, after = statistics.median(memory[quarter:2 * quarter] or memory), statistics.median(memory[-quarter:])
    print(f"load: {sent.strip()}")
    print(f"slowest, in seconds: {({kind: round(time, 2) for kind, time in counts.slowest.items()})}")
    print(f"lake: {final}; the server ended with {status}")
    print(f"memory in MiB: second quarter {before / 2**20:.0f}, last quarter {after / 2**20:.0f}, "
          f"most {max(memory) / 2**20:.0f}")
    for failure in counts.failures[:20]:
        print(f"failed: {failure}")
    grew = after > before * 1.25 + (128 << 20)
    sys.exit(1 if counts.failures or grew or status != 0 or load.returncode != 0 or final["failed"] else 0)


if __name__ == "__main__":
    main()
