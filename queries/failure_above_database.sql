-- title: Failures with a database call below
-- question: In which traces did a service fail while another one, called on its behalf, used a database?
-- uses: span_tree joined with itself by the bounds of subtrees
-- param: caller=storefront
-- param: callee=menu
SELECT
  above.trace_id,
  min(above.start_time) AS failed_at,
  min(above.name) AS operation,
  count(DISTINCT below.span_id) AS database_calls,
  round(sum(below.self_time_nano) / 1e6, 3) AS database_ms
FROM span_tree AS above
JOIN span_tree AS below
  ON below.trace_id = above.trace_id
  AND below.tree_order > above.tree_order
  AND below.tree_order <= above.tree_end
WHERE above.service_name = $caller
  AND above.has_error
  AND below.service_name = $callee
  AND coalesce(below.attributes['db.system.name'], below.attributes['db.system']) IS NOT NULL
GROUP BY above.trace_id
ORDER BY failed_at DESC, above.trace_id
LIMIT 50;
