-- title: Latency heat map
-- question: How are the durations of requests spread, and does the spread change over time?
-- uses: date_bin, buckets that double in width
SELECT
  date_bin(INTERVAL '30 minutes', start_time) AS bucket,
  CAST(power(2.0, floor(log2(duration_nano / 1e6))) AS DOUBLE) AS at_least_ms,
  count(*) AS request_count
FROM spans
WHERE is_root AND duration_nano > 0
GROUP BY 1, 2
ORDER BY 1, 2;
