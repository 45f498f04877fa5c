"""The questions bars.py asks: each as SQL for tracelake and for DuckDB, and how rows compare.

Q1 trace by id; Q2 100 ids; Q3a newest 20 spans of a user; Q3b of a user in a service and an hour;
Q3c status 500 of a service in an hour; Q4 span-name prefix; Q3at, Q3bt, Q3ct and Q4t the newest 20
traces with such a span, by search_traces(); ABSENT a value that no span has; REGEX a pattern of
names; ROUTES an attribute counted over the whole day; VALUES and KEYS with a prefix, from the
catalogues; WIDE and NARROW the newest 20 spans of a service with and without their attributes; Q5x
rate, errors and exact quantiles per service and 5 minutes; Q6 service dependencies, and Q6s the
same by service_dependencies(); Q7a ancestors of a deep span, and Q7af the same by ancestors(); Q7b
depth of every span of the largest trace, and Q7bf the same by trace(); Q8 the 20 slowest traces of
an hour, and Q8t the same by the relation traces, for which a trace is of the hour in which it
begins; Q9 traces in which a service failed while another one below it used a database; Q10 spans
and self time by depth.
"""

import json
import math
import re
from collections import namedtuple
from datetime import datetime, timezone

Differences = namedtuple("Differences", "row_count lines")

# Columns of the OpenTelemetry ClickHouse exporter beside those of `spans`.
BRIEF = ("trace_id, span_id, CAST(start_time AS BIGINT) AS start, service_name, name, duration_nano",
         "TraceId, SpanId, epoch_ns(Timestamp), ServiceName, SpanName, Duration")
LINKED = ("trace_id, span_id, parent_span_id, CAST(start_time AS BIGINT) AS start, name, "
          "service_name, kind, duration_nano, status_code, attributes",
          "TraceId, SpanId, ParentSpanId, epoch_ns(Timestamp), SpanName, ServiceName, SpanKind, "
          "Duration, StatusCode, SpanAttributes")
WHOLE = (LINKED[0] + ", trace_state, status_message, resource_attributes, scope_name, "
         "scope_version, events, links",
         LINKED[1] + ", TraceState, StatusMessage, ResourceAttributes, ScopeName, ScopeVersion, "
         "[{'time': epoch_ns(e.\"Timestamp\"), 'name': e.Name, 'attributes': e.Attributes} "
         "FOR e IN Events], "
         "[{'trace_id': l.TraceId, 'span_id': l.SpanId, 'trace_state': l.TraceState, "
         "'attributes': l.Attributes} FOR l IN Links]")
HOUR = ("start_time >= TIMESTAMP '{t0}' AND start_time < TIMESTAMP '{t1}'",
        "Timestamp >= TIMESTAMPTZ_NS '{t0}' AND Timestamp < TIMESTAMPTZ_NS '{t1}'")
NEWEST = ("ORDER BY start_time DESC, trace_id, span_id LIMIT 20",
          "ORDER BY Timestamp DESC, TraceId, SpanId LIMIT 20")


class Query:
    """One question in both dialects; {names} stand for values drawn from the data."""

    def __init__(self, tracelake, duckdb, shown=None, ordered=True):
        self.texts = tracelake, duckdb, shown or tracelake
        self.ordered = ordered

    def compared(self, values):
        """For tracelake, with the columns that compare."""
        return self._filled(0, values)

    def duckdb(self, values):
        """For DuckDB; None where it cannot say the same."""
        return self._filled(1, values) if self.texts[1] else None

    def shown(self, values):
        """For tracelake, as a person would ask."""
        return self._filled(2, values)

    def _filled(self, index, values):
        quoted = {name: str(value).replace("'", "''") for name, value in values.items()}
        quoted["ids"] = ", ".join(f"'{trace}'" for trace in values["ids"][:100])
        # The prefix stands in a LIKE pattern.
        return re.sub(r"\{(\w+)\}", lambda match: quoted[match[1]], self.texts[index])


def _pair(template, columns=BRIEF, **more):
    """Both dialects of a question whose shape is the same."""
    sides = []
    for side in (0, 1):
        names = {"columns": columns[side], "hour": HOUR[side], "newest": NEWEST[side]}
        names |= {name: both[side] for name, both in more.items()}
        sides.append(re.sub(r"<(\w+)>", lambda match: names[match[1]], template))
    return sides


SERVICE = ("service_name", "ServiceName")
USER = ("attributes['user.id']", "SpanAttributes['user.id']")
ROUTE = ("attributes['http.route']", "SpanAttributes['http.route']")
FAILED = ("attributes['http.response.status_code'] = 500",
          "SpanAttributes['http.response.status_code'] = '500'")
TRACE = ("trace_id", "TraceId")
NAME = ("name", "SpanName")


def _search(arguments, condition):
    """The newest traces with a span that passes."""
    return Query(
        f"SELECT trace_id, CAST(last_match_time AS BIGINT) AS time "
        f"FROM search_traces({arguments}, newest => 20)",
        _pair(f"SELECT TraceId, max(epoch_ns(Timestamp)) AS time FROM spans WHERE {condition} "
              "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20", service=SERVICE, user=USER,
              failed=FAILED, name=NAME)[1])


QUERIES = {
    "q1": Query(*_pair("SELECT <columns> FROM spans WHERE <trace> = '{trace_id}'", WHOLE,
                       trace=TRACE),
                shown="SELECT * FROM spans WHERE trace_id = '{trace_id}' ORDER BY start_time",
                ordered=False),
    "q2": Query(*_pair("SELECT <columns> FROM spans WHERE <trace> IN ({ids})", LINKED, trace=TRACE),
                shown="SELECT trace_id, span_id, parent_span_id, start_time, name, service_name, "
                      "kind, duration_nano, status_code, attributes FROM spans "
                      "WHERE trace_id IN ({ids}) ORDER BY trace_id, start_time",
                ordered=False),
    "q3a": Query(*_pair("SELECT <columns> FROM spans WHERE <user> = '{user}' <newest>", user=USER)),
    "q3b": Query(*_pair("SELECT <columns> FROM spans WHERE <service> = '{service}' AND <hour> "
                        "AND <user> = '{user}' <newest>", service=SERVICE, user=USER)),
    "q3c": Query(*_pair("SELECT <columns> FROM spans WHERE <service> = '{service}' AND <hour> "
                        "AND <failed> <newest>", service=SERVICE, failed=FAILED)),
    "q4": Query(*_pair("SELECT <columns> FROM spans WHERE <name> LIKE '{prefix}%' <newest>",
                       name=NAME)),
    "q3at": _search("attributes => 'span:user.id = \"{user}\"'", "<user> = '{user}'"),
    "q3bt": _search("service => '{service}', since => '{t0}', until => '{t1}', "
                    "attributes => 'span:user.id = \"{user}\"'",
                    "<service> = '{service}' AND <hour> AND <user> = '{user}'"),
    "q3ct": _search("service => '{service}', since => '{t0}', until => '{t1}', "
                    "attributes => 'span:http.response.status_code = 500'",
                    "<service> = '{service}' AND <hour> AND <failed>"),
    "q4t": _search("span_name_prefix => '{prefix}'", "<name> LIKE '{prefix}%'"),
    "absent": Query(*_pair("SELECT <columns> FROM spans WHERE <user> = 'nobody has this id' "
                           "<newest>", user=USER)),
    "regex": Query(*_pair("SELECT <columns> FROM spans WHERE <matches> <newest>",
                          matches=("name ~ '{pattern}'",
                                   "regexp_matches(SpanName, '{pattern}')"))),
    "routes": Query(*_pair("SELECT <route> AS route, count(*) AS spans FROM spans GROUP BY 1",
                           route=ROUTE), ordered=False),
    "values": Query(
        "SELECT value, sum(span_count) AS spans FROM attribute_values WHERE scope = 'span' "
        "AND key = 'http.route' AND value LIKE '{route_prefix}%' GROUP BY 1 ORDER BY 1",
        "SELECT SpanAttributes['http.route'] AS value, count(*) FROM spans "
        "WHERE SpanAttributes['http.route'] LIKE '{route_prefix}%' GROUP BY 1 ORDER BY 1"),
    "keys": Query(
        "SELECT key, sum(span_count) AS spans FROM attribute_keys WHERE scope = 'span' "
        "AND key LIKE 'http.%' GROUP BY 1 ORDER BY 1",
        "SELECT key, count(*) FROM (SELECT unnest(map_keys(SpanAttributes)) AS key FROM spans) "
        "WHERE key LIKE 'http.%' GROUP BY 1 ORDER BY 1"),
    "wide": Query(*_pair("SELECT <trace>, <span>, <attributes> FROM spans "
                         "WHERE <service> = '{service}' AND <hour> <newest>", trace=TRACE,
                         span=("span_id", "SpanId"), attributes=("attributes", "SpanAttributes"),
                         service=SERVICE)),
    "narrow": Query(*_pair("SELECT <trace>, <span> FROM spans "
                           "WHERE <service> = '{service}' AND <hour> <newest>", trace=TRACE,
                           span=("span_id", "SpanId"), service=SERVICE)),
    "q5x": Query(
        "SELECT service_name, CAST(date_bin(INTERVAL '5 minutes', start_time) AS BIGINT) "
        "/ 300000000000 AS bucket, count(*) AS n, "
        "avg(CASE WHEN has_error THEN 1.0 ELSE 0.0 END) AS err, "
        "quantile_cont(duration_nano, [0.5, 0.95, 0.99]) AS q "
        "FROM spans WHERE kind = 'SERVER' GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT ServiceName, epoch_ns(Timestamp) // 300000000000 AS bucket, count(*) AS n, "
        "avg((StatusCode = 'Error')::INT) AS err, quantile_cont(Duration, [0.5, 0.95, 0.99]) AS q "
        "FROM spans WHERE SpanKind = 'Server' GROUP BY 1, 2 ORDER BY 1, 2",
        # A bin as a time: its number, which compares, takes date_bin and a division besides.
        "SELECT service_name, date_bin(INTERVAL '5 minutes', start_time) AS bucket, "
        "count(*) AS n, avg(CASE WHEN has_error THEN 1.0 ELSE 0.0 END) AS err, "
        "quantile_cont(duration_nano, [0.5, 0.95, 0.99]) AS q "
        "FROM spans WHERE kind = 'SERVER' GROUP BY 1, 2 ORDER BY 1, 2"),
    "q6": Query(
        "SELECT p.service_name AS caller, c.service_name AS callee, count(*) AS calls, "
        "count(*) FILTER (WHERE c.status_code = 'ERROR') AS errors FROM spans c JOIN spans p "
        "ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id "
        "WHERE c.service_name <> p.service_name GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT p.ServiceName AS caller, c.ServiceName AS callee, count(*) AS calls, "
        "count(*) FILTER (WHERE c.StatusCode = 'Error') AS errors FROM spans c JOIN spans p "
        "ON c.TraceId = p.TraceId AND c.ParentSpanId = p.SpanId "
        "WHERE c.ServiceName <> p.ServiceName GROUP BY 1, 2 ORDER BY 1, 2"),
    "q7a": Query(
        "WITH RECURSIVE t AS (SELECT DISTINCT span_id, parent_span_id, service_name, name, "
        "duration_nano FROM spans WHERE trace_id = '{deep_trace}'), a AS (SELECT t.*, 0 AS lvl "
        "FROM t WHERE span_id = '{deep_span}' UNION ALL SELECT t.*, a.lvl + 1 FROM t "
        "JOIN a ON t.span_id = a.parent_span_id) SELECT * FROM a ORDER BY lvl",
        "WITH RECURSIVE t AS MATERIALIZED (SELECT DISTINCT SpanId, ParentSpanId, ServiceName, "
        "SpanName, Duration FROM spans WHERE TraceId = '{deep_trace}'), a AS (SELECT *, 0 AS lvl "
        "FROM t WHERE SpanId = '{deep_span}' UNION ALL SELECT t.*, a.lvl + 1 FROM t "
        "JOIN a ON t.SpanId = a.ParentSpanId) SELECT * FROM a ORDER BY lvl"),
    "q7af": Query(
        "SELECT span_id, parent_span_id, service_name, name, duration_nano, distance "
        "FROM ancestors('{deep_trace}', '{deep_span}')",
        "WITH RECURSIVE t AS MATERIALIZED (SELECT DISTINCT SpanId, ParentSpanId, ServiceName, "
        "SpanName, Duration FROM spans WHERE TraceId = '{deep_trace}'), a AS (SELECT *, 0 AS lvl "
        "FROM t WHERE SpanId = '{deep_span}' UNION ALL SELECT t.*, a.lvl + 1 FROM t "
        "JOIN a ON t.SpanId = a.ParentSpanId) SELECT * FROM a WHERE lvl > 0 ORDER BY lvl"),
    "q7b": Query(
        "WITH RECURSIVE t AS (SELECT DISTINCT span_id, parent_span_id FROM spans "
        "WHERE trace_id = '{big_trace}'), r AS (SELECT t.span_id, 1 AS depth FROM t "
        "LEFT JOIN t AS p ON t.parent_span_id = p.span_id WHERE p.span_id IS NULL "
        "UNION ALL SELECT t.span_id, r.depth + 1 FROM t JOIN r ON t.parent_span_id = r.span_id) "
        "SELECT span_id, depth FROM r ORDER BY depth, span_id",
        "WITH RECURSIVE t AS MATERIALIZED (SELECT DISTINCT SpanId, ParentSpanId FROM spans "
        "WHERE TraceId = '{big_trace}'), r AS (SELECT SpanId, 1 AS depth FROM t "
        "WHERE ParentSpanId = '' OR ParentSpanId NOT IN (SELECT SpanId FROM t) "
        "UNION ALL SELECT t.SpanId, r.depth + 1 FROM t JOIN r ON t.ParentSpanId = r.SpanId) "
        "SELECT SpanId, depth FROM r ORDER BY depth, SpanId"),
    "q7bf": Query(
        "SELECT span_id, depth FROM trace('{big_trace}') ORDER BY depth, span_id",
        "WITH RECURSIVE t AS MATERIALIZED (SELECT DISTINCT SpanId, ParentSpanId FROM spans "
        "WHERE TraceId = '{big_trace}'), r AS (SELECT SpanId, 0 AS depth FROM t "
        "WHERE ParentSpanId = '' OR ParentSpanId NOT IN (SELECT SpanId FROM t) "
        "UNION ALL SELECT t.SpanId, r.depth + 1 FROM t JOIN r ON t.ParentSpanId = r.SpanId) "
        "SELECT SpanId, depth FROM r ORDER BY depth, SpanId"),
    "q8": Query(
        *_pair("SELECT <trace> AS trace, count(*) AS spans, <dur> AS dur_ns, <root> AS root, "
               "count(*) FILTER (WHERE <error>) AS errors FROM spans WHERE <hour> GROUP BY 1 "
               "ORDER BY dur_ns DESC, trace LIMIT 20", trace=TRACE,
               dur=("max(CAST(start_time AS BIGINT) + duration_nano) "
                    "- min(CAST(start_time AS BIGINT))",
                    "max(epoch_ns(Timestamp) + Duration::BIGINT) - min(epoch_ns(Timestamp))"),
               root=("max(service_name) FILTER (WHERE parent_span_id IS NULL)",
                     "max(ServiceName) FILTER (WHERE ParentSpanId = '')"),
               error=("status_code = 'ERROR'", "StatusCode = 'Error'"))),
    "q6s": Query(
        "SELECT caller, callee, sum(call_count) AS calls, sum(error_count) AS errors "
        "FROM service_dependencies('{first_day}', '{last_day}', 'strict') "
        "GROUP BY 1, 2 ORDER BY 1, 2",
        "WITH s AS (SELECT DISTINCT TraceId, SpanId, ParentSpanId, ServiceName, StatusCode, "
        "SpanKind, SpanName, Timestamp, Duration FROM spans) "
        "SELECT p.ServiceName AS caller, c.ServiceName AS callee, count(*) AS calls, "
        "count(*) FILTER (WHERE c.StatusCode = 'Error') AS errors FROM s c JOIN s p "
        "ON c.TraceId = p.TraceId AND c.ParentSpanId = p.SpanId "
        "WHERE c.ServiceName <> p.ServiceName GROUP BY 1, 2 ORDER BY 1, 2"),
    "q8t": Query(
        "SELECT trace_id, span_count, duration_nano, root_service, error_count FROM traces "
        "WHERE " + HOUR[0] + " ORDER BY duration_nano DESC, trace_id LIMIT 20",
        "WITH s AS (SELECT DISTINCT TraceId, SpanId, ParentSpanId, ServiceName, StatusCode, "
        "SpanKind, SpanName, Timestamp, Duration FROM spans WHERE "
        "epoch_ns(Timestamp) >= epoch_ns(TIMESTAMPTZ_NS '{t0}') - 3600000000000 "
        "AND epoch_ns(Timestamp) < epoch_ns(TIMESTAMPTZ_NS '{t1}') + 3600000000000) "
        "SELECT TraceId, count(*), max(epoch_ns(Timestamp) + greatest(Duration::BIGINT, 0)) "
        "- min(epoch_ns(Timestamp)) AS dur_ns, "
        "arg_min(ServiceName, Timestamp) FILTER (WHERE ParentSpanId = '') AS root, "
        "count(*) FILTER (WHERE StatusCode = 'Error') FROM s GROUP BY 1 "
        "HAVING min(Timestamp) >= TIMESTAMPTZ_NS '{t0}' "
        "AND min(Timestamp) < TIMESTAMPTZ_NS '{t1}' ORDER BY dur_ns DESC, TraceId LIMIT 20"),
    "q9": Query(
        "SELECT DISTINCT a.trace_id FROM span_tree a JOIN span_tree b "
        "ON b.trace_id = a.trace_id AND b.tree_order > a.tree_order "
        "AND b.tree_order <= a.tree_end WHERE a.service_name = '{failing}' AND a.has_error "
        "AND b.service_name = '{below}' AND b.attributes['{database}'] IS NOT NULL ORDER BY 1",
        "WITH RECURSIVE cand AS MATERIALIZED (SELECT DISTINCT TraceId FROM spans WHERE "
        "ServiceName = '{failing}' AND StatusCode = 'Error' INTERSECT SELECT DISTINCT TraceId "
        "FROM spans WHERE ServiceName = '{below}' AND SpanAttributes['{database}'] IS NOT NULL), "
        "t AS MATERIALIZED (SELECT DISTINCT TraceId, SpanId, ParentSpanId, ServiceName, "
        "StatusCode, SpanAttributes['{database}'] IS NOT NULL AS isdb FROM spans "
        "WHERE TraceId IN (SELECT TraceId FROM cand)), d AS (SELECT TraceId, SpanId FROM t "
        "WHERE ServiceName = '{failing}' AND StatusCode = 'Error' UNION SELECT t.TraceId, "
        "t.SpanId FROM t JOIN d ON t.TraceId = d.TraceId AND t.ParentSpanId = d.SpanId) "
        "SELECT DISTINCT d.TraceId FROM d JOIN t ON d.TraceId = t.TraceId "
        "AND t.ParentSpanId = d.SpanId WHERE t.ServiceName = '{below}' AND t.isdb ORDER BY 1"),
    "q10": Query(
        "SELECT depth, count(*) AS spans, avg(self_time_nano) AS self_nano FROM span_tree "
        "GROUP BY depth ORDER BY depth",
        None),
}

# The same searches, with what takes reading the traces found.
for _name in ("q3a", "q3b", "q3c", "q4"):
    _places = QUERIES[f"{_name}t"].texts[0]
    _whole = "SELECT trace_id, root_name, duration_ms, matched_span_ids, "
    QUERIES[f"{_name}tw"] = Query(_places.replace("SELECT trace_id, ", _whole), None)

# Milliseconds, over ten million compacted spans.
LIMITS = {"q3a": 8, "q3b": 4, "q3c": 4, "q4": 5, "q3at": 8, "q3bt": 4, "q3ct": 4, "q4t": 5,
          "q3atw": 8, "q3btw": 4, "q3ctw": 4, "q4tw": 5,
          "absent": 3, "regex": 20, "routes": 300, "values": 5, "keys": 5, "q6s": 350, "q7af": 10,
          "q7bf": 10, "q8": 40, "q8t": 40, "q9": 400, "q10": 2500}


def draw(lake, id_count):
    """Ids, a user, a service and an hour of the data: the same for the same spans."""
    busiest = lake.rows("SELECT date_trunc('hour', start_time) AS hour FROM spans "
                        "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1")[0]["hour"]
    start = nanos(busiest)
    values = {"t0": stamp(start), "t1": stamp(start + 3_600 * 10**9)}
    hour = HOUR[0].format(**values)

    def most(column, where, fallback):
        rows = lake.rows(f"SELECT {column} AS value FROM spans WHERE {hour} AND {where} "
                         "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1")
        return rows[0]["value"] if rows else fallback

    some = most("service_name", "kind = 'SERVER'", "")
    values["service"] = most("service_name", f"{FAILED[0]} AND {USER[0]} IS NOT NULL", some)
    service = values["service"].replace("'", "''")
    values["user"] = most(USER[0], f"{USER[0]} IS NOT NULL AND service_name = '{service}'", "none")
    name = most("name", "kind = 'CLIENT' AND name LIKE '%.%/%'", most("name", "true", ""))
    values["prefix"] = re.match(r"[^/% _]*/?", name)[0]
    # A name's last part, wherever it stands.
    values["pattern"] = re.sub(r"\W+", ".", re.split(r"[/ ]", name)[-1]) + "$"
    route = most(ROUTE[0], f"{ROUTE[0]} LIKE '/%/%'", "/")
    values["route_prefix"] = re.match(r"/?[^/%_]*/?", route)[0]
    # Backwards, since a time may be written at the front of an id.
    values["ids"] = [row["trace_id"] for row in lake.rows(
        "SELECT trace_id FROM spans WHERE parent_span_id IS NULL GROUP BY 1 "
        f"ORDER BY reverse(trace_id) LIMIT {id_count}")]
    values["big_trace"] = lake.rows("SELECT trace_id FROM spans GROUP BY 1 "
                                    "ORDER BY count(*) DESC, 1 LIMIT 1")[0]["trace_id"]
    values["trace_id"] = values["ids"][0]
    times = lake.rows("SELECT min(start_time) AS first, max(start_time) AS last, "
                      "count(*) AS span_count FROM spans")[0]
    values["span_count"] = int(times["span_count"])
    day = 24 * 3_600 * 10**9
    values["first_day"] = stamp(nanos(times["first"]) // day * day)
    values["last_day"] = stamp(nanos(times["last"]) // day * day + day)
    for key in ("db.system", "db.system.name"):
        calls = lake.rows("SELECT a.service_name AS failing, b.service_name AS below FROM span_tree a "
                          "JOIN span_tree b ON b.trace_id = a.trace_id "
                          "AND b.tree_order > a.tree_order AND b.tree_order <= a.tree_end "
                          f"WHERE a.has_error AND b.attributes['{key}'] IS NOT NULL "
                          f"AND a.service_name <> b.service_name AND a.{hour.replace('AND ', 'AND a.')} "
                          f"AND b.{hour.replace('AND ', 'AND b.')} "
                          "GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2")
        if calls:
            pair = [call for call in calls
                    if (call["failing"], call["below"]) == ("checkout", "inventory")]
            values |= (pair or calls)[0] | {"database": key}
            break
    values["deep_trace"], values["deep_span"] = deepest(lake, values["ids"])
    return values


def deepest(lake, ids):
    """The span with most ancestors in some traces."""
    listed = ", ".join(f"'{trace}'" for trace in ids)
    rows = lake.rows(f"SELECT trace_id, span_id, parent_span_id FROM spans "
                     f"WHERE trace_id IN ({listed})")
    parents = {(row["trace_id"], row["span_id"]): row.get("parent_span_id") for row in rows}

    def depth(span):
        steps, trace = 0, span[0]
        while span in parents and steps < len(parents):
            span, steps = (trace, parents[span]), steps + 1
        return steps

    return max(parents, key=lambda span: (depth(span), span))


def nanos(text):
    """Nanoseconds of a time as tracelake prints it."""
    match = re.fullmatch(r"(\d+-\d+-\d+)[T ](\d+:\d+:\d+)(?:\.(\d+))?(Z|\+00:?00)?", text)
    whole = datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=timezone.utc)
    return int(whole.timestamp()) * 10**9 + int((match[3] or "").ljust(9, "0"))


def stamp(nano):
    return datetime.fromtimestamp(nano // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def differences(query, mine, theirs):
    """What stands on one side only, or at another place."""
    left = [normal(list(row.values())) for row in mine]
    right = [normal(list(row)) for row in theirs]
    if not query.ordered:
        left.sort(key=repr)
        right.sort(key=repr)
    lines = []
    if len(left) != len(right):
        lines.append(f"{len(left)} rows against {len(right)} of DuckDB")
    for number, (one, other) in enumerate(zip(left, right), 1):
        columns = [pair for pair in zip(one, other) if not same(*pair)]
        if columns or len(one) != len(other):
            lines.append(f"row {number}, {one[:2]}, tracelake and DuckDB: {columns}")
    return Differences(len(right), lines)


def normal(value):
    """A value in the form that both sides have.

    The exporter writes no NULL, empty lists, and every attribute as text; names of kinds and
    states differ in case only.
    """
    if isinstance(value, str):
        if value[:1] in "{[":
            try:
                return normal(json.loads(value))
            except ValueError:
                return value
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[\d.]+(Z|\+00:?00)?", value):
            return str(nanos(value))
        return {"SERVER": "Server", "CLIENT": "Client", "INTERNAL": "Internal", "ERROR": "Error",
                "PRODUCER": "Producer", "CONSUMER": "Consumer", "UNSET": "Unset", "OK": "Ok",
                "UNSPECIFIED": "Unspecified"}.get(value, value)
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        # DuckDB's rows give a struct by its names and a map by its keys.
        return dict(sorted((key, normal(entry)) for key, entry in value.items()))
    if isinstance(value, (list, tuple)):
        return [normal(entry) for entry in value]
    return str(value)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-9)
    except ValueError:
        return False
