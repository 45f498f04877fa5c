-- title: Repeated calls
-- question: Which operations call the same thing again and again for one request?
-- uses: span_tree, whose rows know the service and the name of their parents
-- param: at_least=5
WITH repeated AS (
  SELECT
    trace_id,
    parent_span_id,
    parent_service_name AS caller,
    parent_name AS operation,
    service_name AS callee,
    name AS call,
    count(*) AS call_count,
    sum(duration_nano) AS total_nano
  FROM span_tree
  WHERE depth > 0
  GROUP BY trace_id, parent_span_id, parent_service_name, parent_name, service_name, name
  HAVING count(*) >= CAST($at_least AS BIGINT)
)
SELECT
  caller,
  operation,
  callee,
  call,
  count(*) AS request_count,
  round(avg(call_count), 1) AS calls_per_request,
  max(call_count) AS most_calls,
  round(avg(total_nano) / 1e6, 3) AS ms_per_request,
  min(trace_id) AS example_trace_id
FROM repeated
GROUP BY caller, operation, callee, call
ORDER BY request_count DESC, caller, operation, callee, call
LIMIT 30;
