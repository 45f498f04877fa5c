"""A lake's log with many more files than it has: for measuring how long planning takes over it.

The added files are entries only, of hours years before the lake's own; nothing reads them as long
as pruning by hour works, and a query that did would fail.
"""

import datetime
import glob
import json
import os
import re

# The added hours begin here, and each has so many files.
FIRST_HOUR = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
FILES_AN_HOUR = 16
COMMITS = 10


def enlarge(lake, directory, file_count):
    """Makes a lake in `directory` that has the files of `lake`, by links, and `file_count` more."""
    log = f"{directory}/_delta_log"
    os.makedirs(log)
    for path in glob.glob(f"{lake}/day=*"):
        os.symlink(os.path.abspath(path), f"{directory}/{os.path.basename(path)}")
    head, files = read_log(lake)
    write_commit(log, 0, head + [{"add": file} for file in files])
    pattern = files[0]
    added = ({"add": displaced(pattern, number)} for number in range(file_count))
    for commit in range(COMMITS):
        share = file_count // COMMITS + (commit < file_count % COMMITS)
        write_commit(log, commit + 1, [next(added) for _ in range(share)])


def read_log(lake):
    """The actions that make a table, as the first commit has them, and the files left."""
    head, files = [], {}
    for path in sorted(glob.glob(f"{lake}/_delta_log/*.json")):
        with open(path) as lines:
            for action in map(json.loads, lines):
                if "add" in action:
                    files[action["add"]["path"]] = action["add"]
                elif "remove" in action:
                    files.pop(action["remove"]["path"], None)
                elif "protocol" in action or "metaData" in action:
                    # A later one takes the place of an earlier one.
                    head = [known for known in head if known.keys() != action.keys()] + [action]
    return head, list(files.values())


def displaced(file, number):
    """The entry of `file` as one of another hour, the `number`th of those added."""
    hour, index = divmod(number, FILES_AN_HOUR)
    start = FIRST_HOUR + datetime.timedelta(hours=hour)
    day, bucket = start.strftime("%Y-%m-%d"), f"b{index:02}of{FILES_AN_HOUR}"
    name = re.search(r"-([0-9a-f-]+\.parquet)$", file["path"]).group(1)
    statistics = json.loads(file["stats"])
    nano = int(start.timestamp()) * 10**9
    statistics["minValues"]["start_time_unix_nano"] = nano
    statistics["maxValues"]["start_time_unix_nano"] = nano + 3599 * 10**9
    return file | {
        "path": f"day={day}/hour={start:%H}/{bucket}-{name}",
        "partitionValues": {"day": day, "hour": str(start.hour), "bucket": bucket},
        "stats": json.dumps(statistics),
    }


def write_commit(log, version, actions):
    with open(f"{log}/{version:020}.json", "w") as file:
        file.writelines(json.dumps(action) + "\n" for action in actions)
