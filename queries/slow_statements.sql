-- title: Database statements by the time they take
-- question: Which statements keep the databases busy, and who runs them?
-- uses: attributes['db.query.text'], percentile_cont
SELECT
  attributes['db.system.name'] AS database_system,
  attributes['db.namespace'] AS database_name,
  service_name AS caller,
  coalesce(attributes['db.operation.name'], '') || ' '
    || coalesce(attributes['db.collection.name'], '') AS statement_kind,
  count(*) AS call_count,
  round(sum(duration_nano) / 1e9, 3) AS total_seconds,
  round(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_nano) / 1e6, 3) AS p95_ms,
  count(*) FILTER (WHERE has_error) AS error_count,
  min(attributes['db.query.text']) AS example_statement
FROM spans
WHERE attributes['db.system.name'] IS NOT NULL
GROUP BY 1, 2, 3, 4
ORDER BY total_seconds DESC, database_system, database_name, caller, statement_kind
LIMIT 30;
