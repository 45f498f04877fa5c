//! Attributes that OpenTelemetry's semantic conventions have renamed.
//!
//! Read [`keys_meaning`]. Keys without another name, such as `exception.type`, stand for
//! themselves.

/// The current key of an attribute, then the older ones, the latest first.
///
/// From the renamed attributes of spans and resources in the schema file of version 1.44.0
/// (<https://opentelemetry.io/schemas/1.44.0>) and from the migration guides for HTTP, databases
/// and RPC (<https://opentelemetry.io/docs/specs/semconv/non-normative/>). Left out is what is
/// not a renaming alone: keys that were divided (`http.target`) or merged (`db.redis.database_index`,
/// `rpc.service`), that mean another value (`rpc.grpc.status_code`, a number, now a name), or that
/// came to mean something else again (`enduser.id`).
const RENAMED: &[&[&str]] = &[
    // HTTP and URL.
    &["http.request.method", "http.method"],
    &["http.response.status_code", "http.status_code"],
    &["http.request.body.size", "http.request_content_length"],
    &["http.response.body.size", "http.response_content_length"],
    &["http.request.resend_count", "http.resend_count"],
    &["url.full", "http.url"],
    &["url.scheme", "http.scheme"],
    &[
        "user_agent.original",
        "http.user_agent",
        "browser.user_agent",
    ],
    // Network. A server span may have both names: its own host is the server then.
    &["client.address", "http.client_ip"],
    &[
        "server.address",
        "tls.client.server_name",
        "net.host.name",
        "net.peer.name",
    ],
    &["server.port", "net.host.port", "net.peer.port"],
    &[
        "network.protocol.name",
        "net.protocol.name",
        "net.app.protocol.name",
        "messaging.protocol",
    ],
    &[
        "network.protocol.version",
        "net.protocol.version",
        "net.app.protocol.version",
        "http.flavor",
        "messaging.protocol_version",
    ],
    &["network.peer.address", "net.sock.peer.addr", "net.peer.ip"],
    &["network.peer.port", "net.sock.peer.port"],
    &[
        "network.local.address",
        "server.socket.address",
        "net.sock.host.addr",
        "net.host.ip",
    ],
    &[
        "network.local.port",
        "server.socket.port",
        "net.sock.host.port",
    ],
    &["network.transport", "net.transport"],
    &["network.connection.type", "net.host.connection.type"],
    &["network.connection.subtype", "net.host.connection.subtype"],
    &["network.carrier.name", "net.host.carrier.name"],
    &["network.carrier.mcc", "net.host.carrier.mcc"],
    &["network.carrier.mnc", "net.host.carrier.mnc"],
    &["network.carrier.icc", "net.host.carrier.icc"],
    // Databases.
    &["db.system.name", "db.system"],
    &["db.namespace", "db.name", "db.elasticsearch.cluster.name"],
    &["db.query.text", "db.statement"],
    &["db.operation.name", "db.operation"],
    &[
        "db.collection.name",
        "db.sql.table",
        "db.mongodb.collection",
        "db.cosmosdb.container",
        "db.cassandra.table",
    ],
    &["cassandra.coordinator.dc", "db.cassandra.coordinator.dc"],
    &["cassandra.coordinator.id", "db.cassandra.coordinator.id"],
    &[
        "cassandra.consistency.level",
        "db.cassandra.consistency_level",
    ],
    &["cassandra.query.idempotent", "db.cassandra.idempotence"],
    &["cassandra.page.size", "db.cassandra.page_size"],
    &[
        "cassandra.speculative_execution.count",
        "db.cassandra.speculative_execution_count",
    ],
    &["elasticsearch.node.name", "db.elasticsearch.node.name"],
    &["azure.client.id", "db.cosmosdb.client_id"],
    &[
        "azure.cosmosdb.connection.mode",
        "db.cosmosdb.connection_mode",
    ],
    &[
        "azure.cosmosdb.consistency.level",
        "db.cosmosdb.consistency_level",
    ],
    &[
        "azure.cosmosdb.operation.request_charge",
        "db.cosmosdb.request_charge",
    ],
    &[
        "azure.cosmosdb.operation.contacted_regions",
        "db.cosmosdb.regions_contacted",
    ],
    &[
        "azure.cosmosdb.request.body.size",
        "db.cosmosdb.request_content_length",
    ],
    &[
        "azure.cosmosdb.response.sub_status_code",
        "db.cosmosdb.sub_status_code",
    ],
    // Messaging.
    &["messaging.destination.name", "messaging.destination"],
    &[
        "messaging.destination.temporary",
        "messaging.temp_destination",
    ],
    &[
        "messaging.destination.partition.id",
        "messaging.kafka.destination.partition",
        "messaging.kafka.partition",
    ],
    &[
        "messaging.destination.subscription.name",
        "messaging.servicebus.destination.subscription_name",
    ],
    &["messaging.operation.type", "messaging.operation"],
    &[
        "messaging.client.id",
        "messaging.client_id",
        "messaging.kafka.client_id",
        "messaging.rocketmq.client_id",
    ],
    &[
        "messaging.consumer.group.name",
        "messaging.kafka.consumer.group",
        "messaging.kafka.consumer_group",
        "messaging.rocketmq.client_group",
        "messaging.eventhubs.consumer.group",
    ],
    &["messaging.message.id", "messaging.message_id"],
    &[
        "messaging.message.conversation_id",
        "messaging.conversation_id",
    ],
    &[
        "messaging.message.body.size",
        "messaging.message.payload_size_bytes",
        "messaging.message_payload_size_bytes",
    ],
    &["messaging.kafka.offset", "messaging.kafka.message.offset"],
    &["messaging.kafka.message.key", "messaging.kafka.message_key"],
    &[
        "messaging.kafka.message.tombstone",
        "messaging.kafka.tombstone",
    ],
    &[
        "messaging.rabbitmq.destination.routing_key",
        "messaging.rabbitmq.routing_key",
    ],
    &[
        "messaging.rocketmq.message.type",
        "messaging.rocketmq.message_type",
    ],
    &[
        "messaging.rocketmq.message.tag",
        "messaging.rocketmq.message_tag",
    ],
    &[
        "messaging.rocketmq.message.keys",
        "messaging.rocketmq.message_keys",
    ],
    // Remote calls.
    &["rpc.system.name", "rpc.system"],
    &["rpc.response.status_code", "rpc.connect_rpc.error_code"],
    &["rpc.message.type", "message.type"],
    &["rpc.message.id", "message.id"],
    &["rpc.message.compressed_size", "message.compressed_size"],
    &["rpc.message.uncompressed_size", "message.uncompressed_size"],
    &["jsonrpc.request.id", "rpc.jsonrpc.request_id"],
    &["jsonrpc.protocol.version", "rpc.jsonrpc.version"],
    &["service.peer.name", "peer.service"],
    // Code, functions in the cloud, resources.
    &["code.function.name", "code.function"],
    &["code.file.path", "code.filepath"],
    &["code.line.number", "code.lineno"],
    &["code.column.number", "code.column"],
    &["faas.invocation_id", "faas.execution"],
    &["cloud.resource_id", "faas.id"],
    &["deployment.environment.name", "deployment.environment"],
    &["telemetry.distro.version", "telemetry.auto.version"],
    &["container.runtime.name", "container.runtime"],
    &["user.roles", "enduser.role"],
    &["android.app.state", "android.state"],
    &["ios.app.state", "ios.state"],
    &["azure.resource_provider.namespace", "az.namespace"],
    &["azure.service.request.id", "az.service_request_id"],
    &["vcs.change.id", "vcs.repository.change.id"],
    &["vcs.change.title", "vcs.repository.change.title"],
    &["vcs.ref.head.name", "vcs.repository.ref.name"],
    &["vcs.ref.head.revision", "vcs.repository.ref.revision"],
    &["vcs.ref.head.type", "vcs.repository.ref.type"],
    // Feature flags, generative models.
    &["feature_flag.provider.name", "feature_flag.provider_name"],
    &[
        "feature_flag.result.reason",
        "feature_flag.evaluation.reason",
    ],
    &["feature_flag.result.variant", "feature_flag.variant"],
    &[
        "feature_flag.error.message",
        "feature_flag.evaluation.error.message",
    ],
    &["gen_ai.provider.name", "gen_ai.system"],
    &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"],
    &[
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
    ],
    &["gen_ai.request.seed", "gen_ai.openai.request.seed"],
    &[
        "openai.request.service_tier",
        "gen_ai.openai.request.service_tier",
    ],
    &[
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
    ],
    &[
        "openai.response.system_fingerprint",
        "gen_ai.openai.response.system_fingerprint",
    ],
];

/// The keys under which the attribute with this key, current or older, may stand: the current
/// one first, then the older ones, the latest first.
pub fn keys_meaning(key: &str) -> Vec<&str> {
    match RENAMED.iter().find(|keys| keys.contains(&key)) {
        Some(keys) => keys.to_vec(),
        None => vec![key],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_meaning() {
        let mut keys: Vec<&str> = RENAMED.iter().copied().flatten().copied().collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(RENAMED.iter().all(|keys| keys.len() > 1));
    }

    #[test]
    fn old_and_new_keys_find_each_other() {
        let keys = ["http.response.status_code", "http.status_code"];
        for key in keys {
            assert_eq!(keys_meaning(key), keys);
        }
        assert_eq!(keys_meaning("exception.type"), ["exception.type"]);
    }
}
