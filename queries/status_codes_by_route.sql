-- title: Status codes by route
-- question: With which classes of HTTP status is each route answered?
-- uses: an attribute compared as a number, FILTER
SELECT
  service_name,
  attributes['http.route'] AS route,
  count(*) AS request_count,
  count(*) FILTER (WHERE attributes['http.response.status_code'] < 300) AS ok_2xx,
  count(*) FILTER (WHERE attributes['http.response.status_code'] >= 300
                     AND attributes['http.response.status_code'] < 400) AS redirected_3xx,
  count(*) FILTER (WHERE attributes['http.response.status_code'] >= 400
                     AND attributes['http.response.status_code'] < 500) AS refused_4xx,
  count(*) FILTER (WHERE attributes['http.response.status_code'] >= 500) AS failed_5xx,
  count(*) FILTER (WHERE attributes['http.response.status_code'] IS NULL) AS unknown
FROM spans
WHERE kind = 'SERVER' AND attributes['http.route'] IS NOT NULL
GROUP BY service_name, attributes['http.route']
ORDER BY failed_5xx DESC, request_count DESC, service_name, route;
