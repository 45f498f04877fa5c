#!/usr/bin/env python3
"""Says what `tracelake serve` takes in under full load, and how quickly it looks traces up meanwhile.

    python3 tests/under_load.py --tracelake target/release/tracelake --minutes 5

`tracelake load` sends as fast as it is acknowledged, eight connections of 512 spans a request; twice a
second the whole of a trace that was sent already is asked for over the PostgreSQL protocol. Prints one
JSON object: what the load measured, the look-ups' latency and the most memory the server had. Ends
with 1 if a bar is missed. Needs psycopg[binary]. Works on a lake in a temporary directory.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg

from server_process import most_memory, start

BARS = {"spans_per_second": (">=", 60_000), "ack_p99_ms": ("<=", 1500), "lookup_p50_ms": ("<=", 15),
        "most_memory_bytes": ("<=", 10**9)}


def look_up(address, seconds):
    """Milliseconds of each look-up."""
    host, port = address.split(":")
    ends, ids, elapsed = time.monotonic() + seconds, [], []
    with psycopg.connect(host=host, port=port, user="load", dbname="tracelake", autocommit=True) as connection:
        while time.monotonic() < ends:
            if not ids or random.random() < 0.05:
                ids = connection.execute("SELECT trace_id FROM spans LIMIT 200").fetchall()
            if ids:
                trace_id, = random.choice(ids)
                started = time.perf_counter()
                rows = connection.execute("SELECT * FROM spans WHERE trace_id = %s", [trace_id]).fetchall()
                elapsed.append((time.perf_counter() - started) * 1000)
                assert rows, f"the trace {trace_id} is gone"
            time.sleep(0.5)
    return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tracelake", required=True)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    seconds = int(options.minutes * 60)
    with tempfile.TemporaryDirectory() as directory:
        process, addresses = start(options.tracelake, os.path.join(directory, "lake"))
        load = subprocess.Popen([options.tracelake, "load", "--to", addresses["OTLP over gRPC"], "--connections", "8",
                                 "--batch-spans", "512", "--duration", f"{seconds}s"],
                                stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(min(3, seconds / 4))
            elapsed = look_up(addresses["queries over the PostgreSQL protocol"], seconds * 0.95 - 3)
        finally:
            sent = load.communicate()[0]
            memory = most_memory(process)
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=60)
    measured = json.loads(sent) | {
        "lookups": len(elapsed),
        "lookup_p50_ms": round(statistics.median(elapsed), 1),
        "lookup_p90_ms": round(statistics.quantiles(elapsed, n=10)[-1], 1),
        "most_memory_bytes": memory,
    }
    print(json.dumps(measured))
    missed = [name for name, (sign, bar) in BARS.items()
              if (measured[name] < bar if sign == ">=" else measured[name] > bar)]
    for name in missed:
        print(f"missed: {name} {BARS[name][0]} {BARS[name][1]}", file=sys.stderr)
    sys.exit(1 if missed or status != 0 or load.returncode != 0 else 0)


if __name__ == "__main__":
    main()
