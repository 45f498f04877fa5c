-- title: One trace
-- question: What happened in this trace, in the order in which it began?
-- uses: trace_id, which leads to the few files that can hold the trace
-- param: trace_id=
SELECT
  start_time,
  round(duration_ms, 3) AS duration_ms,
  service_name,
  kind,
  name AS operation,
  status_code,
  status_message,
  span_id,
  parent_span_id,
  attributes
FROM spans
WHERE trace_id = $trace_id
ORDER BY start_time, span_id;
