-- title: Hourly roll-up
-- question: What does a batch job keep of each hour, service, operation and kind?
-- uses: date_trunc, percentile_cont; meant for --output parquet
-- param: from=1970-01-01
-- param: to=2200-01-01
SELECT
  date_trunc('hour', start_time) AS hour,
  service_name,
  name AS operation,
  kind,
  count(*) AS span_count,
  count(*) FILTER (WHERE has_error) AS error_count,
  sum(duration_nano) AS total_nano,
  min(duration_nano) AS min_nano,
  max(duration_nano) AS max_nano,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_nano) AS p50_nano,
  percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_nano) AS p99_nano
FROM spans
WHERE start_time >= CAST($from AS TIMESTAMP)
  AND start_time < CAST($to AS TIMESTAMP)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4;
