"""Reads every column of a lake with other programs that know Delta tables or Parquet.

usage: delta_readers.py LAKE [EXPECTED_ROWS]

Needs the packages deltalake, polars and duckdb. Ends with an error where a reader fails, or
where two of them find another number of rows.
"""

import sys

import deltalake
import duckdb
import polars


def main(lake: str, expected: int | None) -> None:
    counts = {}
    table = deltalake.DeltaTable(lake)
    names = [field.name for field in table.schema().fields]
    # Counting the values of a column makes the reader decode it.
    values = ", ".join(f'count("{name}")' for name in names)
    rows = deltalake.QueryBuilder().register("spans", table)
    rows = polars.DataFrame(rows.execute(f"SELECT count(*), {values} FROM spans"))
    counts["deltalake"] = rows.row(0)[0]

    frame = polars.read_delta(lake)
    counts["polars"] = frame.height
    assert set(frame.columns) == set(names), set(frame.columns) ^ set(names)

    paths = [uri.removeprefix("file://") for uri in table.file_uris()]
    if paths:
        query = duckdb.read_parquet(paths, hive_partitioning=True, union_by_name=True)
        counts["duckdb"] = query.aggregate("count(*)").fetchall()[0][0]
        read = [name for name in names if name in query.columns]
        query.aggregate(", ".join(f'count("{name}")' for name in read)).fetchall()

    if expected is not None:
        counts["expected"] = expected
    print(", ".join(f"{reader}: {count} rows" for reader, count in counts.items()))
    if len(set(counts.values())) != 1:
        sys.exit("the readers disagree")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
