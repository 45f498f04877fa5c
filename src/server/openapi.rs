//! The HTTP API described for programs.
//!
//! Read [`openapi`].

use serde_json::{Value, json};

/// The OpenAPI 3.1 document.
pub(super) fn openapi() -> Value {
    let failure = json!({ "$ref": "#/components/responses/Problem" });
    let failures = |codes: &[&str], mut responses: Value| {
        for code in codes {
            responses[*code] = failure.clone();
        }
        responses
    };
    let rows = json!({ "type": "array", "items": { "type": "object" } });
    let text = json!({ "schema": { "type": "string" } });
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tracelake",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "SQL over distributed traces.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{}, { "token": [] }],
        "paths": {
            "/api/v1/sql": { "post": {
                "operationId": "sql",
                "summary": "Answers one SQL statement; the rows are streamed.",
                "requestBody": { "required": true, "content": {
                    "text/plain": text,
                    "application/json": { "schema": { "$ref": "#/components/schemas/Query" } },
                }},
                "responses": failures(
                    &["400", "401", "403", "404", "406", "413", "422", "500", "501", "503"],
                    json!({ "200": { "description": "The rows.", "content": {
                        "application/json": { "schema": rows },
                        "application/x-ndjson": text,
                        "text/csv": text,
                        "application/vnd.apache.arrow.stream": binary,
                    }}}),
                ),
            }},
            "/api/v1/search": { "post": {
                "operationId": "search",
                "summary": "One page of the traces that a search finds.",
                "requestBody": { "required": true, "content": {
                    "application/json": { "schema": { "$ref": "#/components/schemas/Search" } },
                }},
                "responses": failures(
                    &["400", "401", "403", "413", "422", "500", "503"],
                    json!({ "200": { "description": "The page.", "content": {
                        "application/json": {
                            "schema": { "$ref": "#/components/schemas/Page" } } }}}),
                ),
            }},
            "/api/v1/traces/{trace_id}": { "get": {
                "operationId": "trace",
                "summary": "One trace as an OTLP request, as it came in.",
                "parameters": [{
                    "name": "trace_id", "in": "path", "required": true,
                    "description": "32 hex digits; 16 are padded with zeros.",
                    "schema": {
                        "type": "string", "pattern": "^[0-9a-fA-F]{16}([0-9a-fA-F]{16})?$",
                    },
                }],
                "responses": failures(
                    &["400", "401", "403", "404", "406", "422", "500", "503"],
                    json!({ "200": { "description": "The trace.", "content": {
                        "application/json": { "schema": { "type": "object" } },
                        "application/x-protobuf": binary,
                    }}}),
                ),
            }},
            "/api/v1/openapi.json": { "get": {
                "operationId": "openapi",
                "summary": "This document.",
                "responses": { "200": { "description": "The document.", "content": {
                    "application/json": { "schema": { "type": "object" } } } } },
            }},
            "/healthz": { "get": plain("health", "Whether the process lives.", &["200"]) },
            "/readyz": { "get": plain("ready", "Whether it answers requests.", &["200", "503"]) },
            "/metrics": { "get": plain(
                "metrics", "Metrics in Prometheus' text format.", &["200", "401", "403", "500"],
            )},
        },
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Query": {
                    "type": "object", "required": ["sql"], "additionalProperties": false,
                    "properties": {
                        "sql": { "type": "string" },
                        "parameters": {
                            "description": "Values for $1, $2, … or for $name.",
                            "anyOf": [
                                { "type": "null" },
                                { "type": "array", "items": scalar_schema() },
                                { "type": "object", "additionalProperties": scalar_schema() },
                            ],
                        },
                    },
                },
                "Search": search_schema(),
                "Condition": condition_schema(),
                "Page": page_schema(),
                "Trace": trace_schema(),
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "kind", "detail"],
                    "properties": {
                        "type": { "type": "string" },
                        "title": { "type": "string" },
                        "status": { "type": "integer" },
                        "kind": { "type": "string" },
                        "detail": { "type": "string" },
                    },
                },
            },
            "responses": { "Problem": { "description": "What was wrong, and what to do.",
                "content": { "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/Problem" } } } } },
        },
    })
}

/// What may be asked of traces: every member may be left out or be null.
fn search_schema() -> Value {
    let text = |what: &str| json!({ "type": ["string", "null"], "description": what });
    let nano =
        |what: &str| json!({ "type": ["integer", "null"], "format": "int64", "description": what });
    let name = |key: &str| {
        json!({ "type": "object", "required": [key], "additionalProperties": false,
                "properties": { key: { "type": "string" } } })
    };
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "from_nano": nano("Matching spans start here or later, in nanoseconds since the epoch."),
            "to_nano": nano("Matching spans start before this."),
            "service_name": text("The service of the span."),
            "span_name": { "anyOf": [{ "type": "null" }, name("exact"), name("prefix")] },
            "kind": { "enum": [
                null, "UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER",
            ] },
            "status_code": { "enum": [null, "UNSET", "OK", "ERROR"] },
            "min_duration_nano": nano("The span takes at least so long."),
            "max_duration_nano": nano("The span takes at the most so long."),
            "attributes": text("Conditions on attributes, as search_traces has them."),
            "condition": { "anyOf": [
                { "type": "null" }, { "$ref": "#/components/schemas/Condition" },
            ] },
            "matching": { "enum": ["same_span", "any_span"] },
            "order": { "enum": ["newest", "slowest"] },
            "limit": { "type": "integer", "minimum": 1, "maximum": 10_000, "default": 20 },
            "cursor": text("The next_cursor of the page before."),
            "page": { "type": ["integer", "null"], "minimum": 1,
                      "description": "The number of the page, in the place of a cursor." },
            "with_total": { "type": "boolean", "default": false },
            "max_span_ids": { "type": "integer", "minimum": 0, "default": 100 },
        },
    })
}

/// Conditions as JSON.
fn condition_schema() -> Value {
    let condition = json!({ "$ref": "#/components/schemas/Condition" });
    let several = json!({ "type": "array", "items": condition });
    let value = json!({ "type": ["string", "number", "boolean"] });
    let one = |key: &str, schema: Value| {
        json!({ "type": "object", "required": [key], "additionalProperties": false,
                "properties": { key: schema } })
    };
    let number = || json!({ "type": "number" });
    let text = || json!({ "type": "string" });
    let test = json!({ "anyOf": [
        { "const": "exists" },
        one("equal", value.clone()), one("not_equal", value.clone()),
        one("less", number()), one("less_or_equal", number()),
        one("greater", number()), one("greater_or_equal", number()),
        one("in", json!({ "type": "array", "items": value })),
        one("prefix", text()), one("matches", text()),
    ] });
    let attribute = json!({
        "type": "object", "required": ["key", "test"],
        "properties": {
            "scope": { "enum": ["any", "span", "resource", "scope", "event", "link"] },
            "key": { "type": "string" },
            "test": test,
        },
    });
    json!({ "anyOf": [
        one("attribute", attribute), one("and", several.clone()), one("or", several),
        one("not", condition),
    ] })
}

fn page_schema() -> Value {
    json!({
        "type": "object", "required": ["traces", "next_cursor", "total_count"],
        "properties": {
            "traces": { "type": "array", "items": { "$ref": "#/components/schemas/Trace" } },
            "next_cursor": { "type": ["string", "null"] },
            "total_count": { "type": ["integer", "null"] },
        },
    })
}

/// A trace that was found.
fn trace_schema() -> Value {
    let text = || json!({ "type": "string" });
    let optional = || json!({ "type": ["string", "null"] });
    let count = || json!({ "type": "integer" });
    json!({
        "type": "object",
        "required": ["trace_id", "start_time", "end_time", "span_count", "cursor"],
        "properties": {
            "trace_id": text(), "root_service": optional(), "root_name": optional(),
            "start_time": text(), "end_time": text(),
            "duration_nano": count(), "duration_ms": { "type": "number" },
            "span_count": count(), "service_count": count(), "error_count": count(),
            "has_root": { "type": "boolean" }, "orphan_count": count(),
            "first_ingested_at": optional(), "last_ingested_at": optional(),
            "matched_span_count": count(),
            "matched_span_ids": { "type": "array", "items": text() },
            "last_match_time": text(),
            "longest_match_nano": { "type": ["integer", "null"] },
            "cursor": text(),
        },
    })
}

fn scalar_schema() -> Value {
    json!({ "type": ["string", "number", "boolean", "null"] })
}

/// A path that answers with text.
fn plain(id: &str, summary: &str, codes: &[&str]) -> Value {
    let mut responses = json!({});
    for code in codes {
        responses[*code] = json!({ "description": "See the text.", "content": {
            "text/plain": { "schema": { "type": "string" } } } });
    }
    json!({ "operationId": id, "summary": summary, "responses": responses })
}
