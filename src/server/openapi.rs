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
            "/api/v1/traces/{trace_id}": { "get": {
                "operationId": "trace",
                "summary": "One trace as an OTLP request, as it came in.",
                "parameters": [{
                    "name": "trace_id", "in": "path", "required": true,
                    "description": "32 hex digits; 16 are padded with zeros.",
                    "schema": { "type": "string" },
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
