-- title: Delay of messages
-- question: How long do messages wait between the producer and the consumer that links to it?
-- uses: span_links, JOIN by linked ids across traces
SELECT
  producer.service_name AS producer,
  producer.attributes['messaging.destination.name'] AS topic,
  link.service_name AS consumer,
  count(*) AS message_count,
  round(avg(CAST(link.span_start_time AS BIGINT) - CAST(producer.end_time AS BIGINT)) / 1e6, 3) AS mean_delay_ms,
  round(max(CAST(link.span_start_time AS BIGINT) - CAST(producer.end_time AS BIGINT)) / 1e6, 3) AS longest_delay_ms
FROM span_links AS link
JOIN spans AS producer
  ON producer.trace_id = link.linked_trace_id AND producer.span_id = link.linked_span_id
WHERE producer.kind = 'PRODUCER'
GROUP BY 1, 2, 3
ORDER BY message_count DESC, producer, topic, consumer;
