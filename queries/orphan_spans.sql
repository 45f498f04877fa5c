-- title: Orphan spans
-- question: Which services send spans whose parents never arrive, and whose children are they?
-- uses: NOT EXISTS, an anti join
SELECT
  child.service_name,
  child.name AS operation,
  count(*) AS orphan_count,
  count(DISTINCT child.trace_id) AS trace_count,
  min(child.trace_id) AS example_trace_id
FROM spans AS child
WHERE child.parent_span_id IS NOT NULL
  AND NOT EXISTS (
    SELECT 1
    FROM spans AS parent
    WHERE parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
  )
GROUP BY child.service_name, child.name
ORDER BY orphan_count DESC, child.service_name, operation;
