-- title: Slowest traces
-- question: Which requests took longest, and how much work was behind each?
-- uses: traces, which has a row for each
SELECT
  trace_id,
  root_service,
  root_name,
  start_time,
  round(duration_ms, 3) AS duration_ms,
  span_count,
  service_count,
  error_count,
  orphan_count
FROM traces
ORDER BY duration_nano DESC, trace_id
LIMIT 20;
