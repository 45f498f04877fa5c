-- title: Deployments compared
-- question: Is a service's newer version slower, or does it fail more often, operation by operation?
-- uses: percentile_cont, service_version
-- param: service=pricing
SELECT
  name AS operation,
  kind,
  service_version,
  count(*) AS span_count,
  round(100.0 * count(*) FILTER (WHERE has_error) / count(*), 3) AS error_percent,
  round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_nano) / 1e6, 3) AS p50_ms,
  round(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_nano) / 1e6, 3) AS p95_ms
FROM spans
WHERE service_name = $service
GROUP BY name, kind, service_version
ORDER BY operation, kind, service_version;
