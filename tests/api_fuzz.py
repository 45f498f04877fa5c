#!/usr/bin/env python3
"""Runs schemathesis against the OpenAPI document of a running `tracelake serve`.

    python3 tests/api_fuzz.py --tracelake target/release/tracelake --seconds 300

The lake holds the traces of data/. Requests are made from the document and from what it forbids;
answers must be those it describes, none a server error. Needs schemathesis on the PATH. That a valid
body is accepted is not asked: not every text is SQL.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from server_process import start

DATA = pathlib.Path(__file__).parent.parent / "data"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tracelake", required=True)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--schemathesis", default="schemathesis")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        lake = os.path.join(directory, "lake")
        inputs = [str(DATA / kind) for kind in ("otlp", "jaeger", "zipkin")]
        subprocess.run([options.tracelake, "--lake", lake, "ingest", *inputs], check=True, stderr=subprocess.DEVNULL)
        process, addresses = start(options.tracelake, lake, ["query.timeout=5s"])
        try:
            tested = subprocess.run([
                options.schemathesis, "run", f"http://{addresses['queries over HTTP']}/api/v1/openapi.json",
                "--max-time", str(options.seconds), "--exclude-checks", "positive_data_acceptance",
                "--continue-on-failure", "--request-timeout", "30", "--suppress-health-check", "all",
            ], cwd=directory)
        finally:
            process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=30)
    print(f"the server ended with {status}")
    sys.exit(tested.returncode or status)


if __name__ == "__main__":
    main()
