-- title: Exceptions by type
-- question: Which exceptions are thrown, where, and what do they say?
-- uses: span_events, attributes of events
SELECT
  attributes['exception.type'] AS exception_type,
  service_name,
  count(*) AS exception_count,
  count(DISTINCT trace_id) AS trace_count,
  min(attributes['exception.message']) AS example_message,
  min(time) AS first_seen,
  max(time) AS last_seen
FROM span_events
WHERE name = 'exception'
GROUP BY attributes['exception.type'], service_name
ORDER BY exception_count DESC, exception_type, service_name;
