-- title: What requests wait for
-- question: For which services do slow requests wait, and for how much of their time?
-- uses: critical_paths joined with traces
-- param: at_least_ms=100
SELECT
  t.root_service,
  t.root_name,
  p.service_name AS waits_for,
  count(DISTINCT p.trace_id) AS trace_count,
  round(avg(p.duration_nano) / 1e6, 3) AS mean_section_ms,
  round(100.0 * sum(p.duration_nano) / sum(sum(p.duration_nano)) OVER (PARTITION BY t.root_service, t.root_name), 1) AS percent
FROM traces AS t
JOIN critical_paths AS p ON p.trace_id = t.trace_id
WHERE t.duration_ms >= CAST($at_least_ms AS DOUBLE)
GROUP BY t.root_service, t.root_name, p.service_name
ORDER BY trace_count DESC, t.root_service, t.root_name, percent DESC, waits_for
LIMIT 50;
