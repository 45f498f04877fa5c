-- title: N+1 database calls
-- question: Which operations run the same statement again and again for one request?
-- uses: GROUP BY parent, HAVING, JOIN of children with their parents
-- param: at_least=5
WITH repeated AS (
  SELECT
    trace_id,
    parent_span_id,
    attributes['db.query.text'] AS statement,
    count(*) AS call_count,
    sum(duration_nano) AS total_nano
  FROM spans
  WHERE attributes['db.system.name'] IS NOT NULL AND parent_span_id IS NOT NULL
  GROUP BY trace_id, parent_span_id, attributes['db.query.text']
  HAVING count(*) >= CAST($at_least AS BIGINT)
)
SELECT
  parent.service_name,
  parent.name AS operation,
  repeated.statement,
  count(*) AS request_count,
  round(avg(repeated.call_count), 1) AS calls_per_request,
  max(repeated.call_count) AS most_calls,
  round(sum(repeated.total_nano) / 1e6 / count(*), 3) AS ms_per_request,
  min(repeated.trace_id) AS example_trace_id
FROM repeated
JOIN spans AS parent
  ON parent.trace_id = repeated.trace_id AND parent.span_id = repeated.parent_span_id
GROUP BY parent.service_name, parent.name, repeated.statement
ORDER BY request_count DESC, parent.service_name, operation, repeated.statement
LIMIT 30;
