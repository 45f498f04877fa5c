-- title: Rate, errors and duration of each service
-- question: How many requests does each service answer in each five minutes, how many fail, and how long do they take?
-- uses: date_bin, quantile_cont, FILTER
-- param: from=1970-01-01
-- param: to=2200-01-01
SELECT
  date_bin(INTERVAL '5 minutes', start_time) AS bucket,
  service_name,
  count(*) AS request_count,
  round(count(*) / 300.0, 3) AS requests_per_second,
  count(*) FILTER (WHERE has_error) AS error_count,
  round(100.0 * count(*) FILTER (WHERE has_error) / count(*), 2) AS error_percent,
  round(quantile_cont(duration_nano, [0.5, 0.95, 0.99])[1] / 1e6, 3) AS p50_ms,
  round(quantile_cont(duration_nano, [0.5, 0.95, 0.99])[2] / 1e6, 3) AS p95_ms,
  round(quantile_cont(duration_nano, [0.5, 0.95, 0.99])[3] / 1e6, 3) AS p99_ms
FROM spans
WHERE kind IN ('SERVER', 'CONSUMER')
  AND start_time >= CAST($from AS TIMESTAMP)
  AND start_time < CAST($to AS TIMESTAMP)
GROUP BY 1, 2
ORDER BY 1, 2;
