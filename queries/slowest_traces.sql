-- title: Slowest traces
-- question: Which requests took longest from the first service on, and how much work was behind each?
-- uses: JOIN with a subquery, count(DISTINCT)
WITH slowest AS (
  SELECT trace_id, service_name, name, start_time, duration_nano
  FROM spans
  WHERE is_root AND duration_nano IS NOT NULL
  ORDER BY duration_nano DESC, trace_id
  LIMIT 20
),
sizes AS (
  SELECT
    trace_id,
    count(*) AS span_count,
    count(DISTINCT service_name) AS service_count,
    count(*) FILTER (WHERE has_error) AS error_count
  FROM spans
  WHERE trace_id IN (SELECT trace_id FROM slowest)
  GROUP BY trace_id
)
SELECT
  slowest.trace_id,
  slowest.service_name AS root_service,
  slowest.name AS root_name,
  slowest.start_time,
  round(slowest.duration_nano / 1e6, 3) AS duration_ms,
  sizes.span_count,
  sizes.service_count,
  sizes.error_count
FROM slowest
JOIN sizes ON sizes.trace_id = slowest.trace_id
ORDER BY slowest.duration_nano DESC, slowest.trace_id;
