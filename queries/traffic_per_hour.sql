-- title: Traffic per hour
-- question: How does the load of the whole system rise and fall?
-- uses: date_trunc, count(DISTINCT), a running total
WITH hours AS (
  SELECT
    date_trunc('hour', start_time) AS hour,
    count(*) AS span_count,
    count(DISTINCT trace_id) AS trace_count,
    count(DISTINCT service_name) AS service_count,
    count(*) FILTER (WHERE has_error) AS error_count
  FROM spans
  GROUP BY 1
)
SELECT
  hour,
  span_count,
  trace_count,
  service_count,
  error_count,
  sum(span_count) OVER (ORDER BY hour) AS span_count_so_far
FROM hours
ORDER BY hour;
