-- title: Where time is spent
-- question: Which operations do the waiting that requests wait for themselves, rather than for what they call?
-- uses: span_tree's self time and critical path
SELECT
  service_name,
  name AS operation,
  count(*) AS span_count,
  round(sum(self_time_nano) / 1e9, 3) AS self_seconds,
  round(100.0 * sum(self_time_nano) / sum(sum(self_time_nano)) OVER (), 2) AS percent,
  round(100.0 * count(*) FILTER (WHERE on_critical_path) / count(*), 1) AS percent_on_critical_path
FROM span_tree
GROUP BY service_name, name
ORDER BY self_seconds DESC, service_name, operation
LIMIT 30;
