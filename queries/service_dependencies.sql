-- title: Service dependencies
-- question: Which service calls which, how often, how slowly, and with how many errors?
-- uses: service_edges, a row a call, also of databases and other things that send no spans
SELECT
  caller,
  callee,
  kind,
  count(*) AS call_count,
  count(*) FILTER (WHERE has_error) AS error_count,
  round(avg(duration_nano) / 1e6, 3) AS mean_ms,
  round(quantile_cont(duration_nano, 0.95) / 1e6, 3) AS p95_ms
FROM service_edges
GROUP BY caller, callee, kind
ORDER BY call_count DESC, caller, callee, kind;
