-- title: New services and versions
-- question: What was deployed, and when was it first and last seen?
-- uses: min and max of times, a window to tell the first version from later ones
WITH versions AS (
  SELECT
    service_name,
    coalesce(service_version, '(unknown)') AS version,
    min(start_time) AS first_seen,
    max(start_time) AS last_seen,
    count(*) AS span_count,
    count(DISTINCT service_instance_id) AS instance_count
  FROM spans
  WHERE service_name IS NOT NULL
  GROUP BY service_name, coalesce(service_version, '(unknown)')
)
SELECT
  service_name,
  version,
  row_number() OVER (PARTITION BY service_name ORDER BY first_seen, version) AS version_number,
  first_seen,
  last_seen,
  instance_count,
  span_count
FROM versions
ORDER BY first_seen DESC, service_name, version;
