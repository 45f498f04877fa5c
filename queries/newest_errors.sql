-- title: Newest errors
-- question: What failed last?
-- uses: ORDER BY start_time DESC LIMIT, which reads only the newest files
SELECT
  start_time,
  service_name,
  kind,
  name AS operation,
  status_message,
  round(duration_ms, 3) AS duration_ms,
  trace_id,
  span_id
FROM spans
WHERE has_error
ORDER BY start_time DESC, span_id
LIMIT 20;
