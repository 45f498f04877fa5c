-- title: Where errors come from
-- question: Which operations fail, with what message, how often, and for how many traces?
-- uses: has_error, a window over an aggregate
SELECT
  service_name,
  name AS operation,
  coalesce(status_message, '(no message)') AS message,
  count(*) AS error_count,
  round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS percent_of_errors,
  count(DISTINCT trace_id) AS trace_count,
  min(start_time) AS first_seen,
  max(start_time) AS last_seen
FROM spans
WHERE has_error
GROUP BY service_name, name, coalesce(status_message, '(no message)')
ORDER BY error_count DESC, service_name, operation, message
LIMIT 50;
