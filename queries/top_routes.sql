-- title: Top routes
-- question: Which HTTP routes are asked for most, how often do they fail, and where does the time go?
-- uses: attributes['http.route'], percentile_cont
SELECT
  service_name,
  attributes['http.request.method'] AS method,
  attributes['http.route'] AS route,
  count(*) AS request_count,
  round(100.0 * count(*) FILTER (WHERE has_error) / count(*), 2) AS error_percent,
  round(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_nano) / 1e6, 3) AS p95_ms,
  round(sum(duration_nano) / 1e9, 3) AS total_seconds
FROM spans
WHERE kind = 'SERVER' AND attributes['http.route'] IS NOT NULL
GROUP BY 1, 2, 3
ORDER BY request_count DESC, service_name, method, route
LIMIT 30;
