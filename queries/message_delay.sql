-- title: Delay of messages
-- question: How long do messages wait between the producer and the consumer that links to it?
-- uses: unnest(links), JOIN by linked ids across traces
WITH consumed AS (
  SELECT
    service_name AS consumer,
    start_time,
    unnest(links) AS link
  FROM spans
  WHERE kind = 'CONSUMER'
),
pairs AS (
  SELECT
    consumer,
    start_time,
    link['trace_id'] AS producer_trace_id,
    link['span_id'] AS producer_span_id
  FROM consumed
)
SELECT
  producer.service_name AS producer,
  producer.attributes['messaging.destination.name'] AS topic,
  pairs.consumer,
  count(*) AS message_count,
  round(avg(CAST(pairs.start_time AS BIGINT) - CAST(producer.end_time AS BIGINT)) / 1e6, 3) AS mean_delay_ms,
  round(max(CAST(pairs.start_time AS BIGINT) - CAST(producer.end_time AS BIGINT)) / 1e6, 3) AS longest_delay_ms
FROM pairs
JOIN spans AS producer
  ON producer.trace_id = pairs.producer_trace_id AND producer.span_id = pairs.producer_span_id
GROUP BY 1, 2, 3
ORDER BY message_count DESC, producer, topic, consumer;
