-- title: Service dependencies
-- question: Which service calls which, how often, how slowly, and with how many errors?
-- uses: JOIN of each span with its parent
SELECT
  parent.service_name AS caller,
  child.service_name AS callee,
  count(*) AS call_count,
  count(*) FILTER (WHERE child.has_error) AS error_count,
  round(avg(child.duration_nano) / 1e6, 3) AS mean_ms,
  round(percentile_cont(0.95) WITHIN GROUP (ORDER BY child.duration_nano) / 1e6, 3) AS p95_ms
FROM spans AS child
JOIN spans AS parent
  ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
WHERE parent.service_name <> child.service_name
GROUP BY parent.service_name, child.service_name
ORDER BY call_count DESC, caller, callee;
