"""Starts `tracelake serve` for the scripts beside this file, on ports of the system's choice."""

import pathlib
import re
import subprocess
import threading

LISTENERS = ["http.listen", "otlp.grpc", "otlp.http", "postgres.listen", "flight.listen"]


def start(tracelake, lake, settings=()):
    """The process, and the addresses it listens at by what is to be had there."""
    arguments = [tracelake, "--lake", lake, "serve"]
    for setting in [*(f"{key}=127.0.0.1:0" for key in LISTENERS), *settings]:
        arguments += ["--set", setting]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    addresses = {}
    for line in process.stderr:
        if found := re.match(r"(.*) at ([0-9.]+:\d+)$", line.strip()):
            addresses[found[1]] = found[2]
        if line.startswith("ready"):
            break
    else:
        raise SystemExit(f"the server did not start: exit code {process.wait()}")
    # What it says later must not fill the pipe.
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
    return process, addresses


def memory(process, what="VmRSS"):
    """Bytes in memory."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


def most_memory(process):
    """The most bytes that were in memory so far."""
    return memory(process, "VmHWM")
