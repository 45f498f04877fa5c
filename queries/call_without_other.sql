-- title: Work without a step
-- question: Which calls of one service never reached another that they should have?
-- uses: span_tree with NOT EXISTS, by the bounds of subtrees
-- param: service=orders
-- param: missing=payments
SELECT
  a.start_time,
  a.trace_id,
  a.span_id,
  a.name AS operation,
  a.descendant_count,
  round(a.duration_ms, 3) AS duration_ms
FROM span_tree AS a
WHERE a.service_name = $service
  AND a.kind = 'SERVER'
  AND NOT EXISTS (
    SELECT 1
    FROM span_tree AS b
    WHERE b.trace_id = a.trace_id
      AND b.tree_order > a.tree_order
      AND b.tree_order <= a.tree_end
      AND b.service_name = $missing
  )
ORDER BY a.start_time DESC, a.span_id
LIMIT 50;
