-- title: One after another
-- question: Where did one service begin its work within seconds after another had ended its own, for the same request?
-- uses: span_tree joined with itself by time, without what is below
-- param: first=basket
-- param: second=orders
-- param: seconds=5
SELECT
  a.trace_id,
  a.name AS first_operation,
  b.name AS second_operation,
  a.end_time AS first_ended,
  round((CAST(b.start_time AS BIGINT) - CAST(a.end_time AS BIGINT)) / 1e6, 3) AS gap_ms
FROM span_tree AS a
JOIN span_tree AS b
  ON b.trace_id = a.trace_id
  AND b.start_time >= a.end_time
  AND CAST(b.start_time AS BIGINT) <= CAST(a.end_time AS BIGINT) + CAST($seconds AS BIGINT) * 1000000000
  AND NOT (b.tree_order > a.tree_order AND b.tree_order <= a.tree_end)
WHERE a.service_name = $first
  AND a.kind = 'SERVER'
  AND b.service_name = $second
  AND b.kind = 'SERVER'
ORDER BY first_ended DESC, a.trace_id, gap_ms
LIMIT 50;
