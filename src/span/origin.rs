//! What all spans of one scope of one resource have in common, made ready once.
//!
//! Read [`Origin`].

use super::value::write_attributes;
use super::{Resource, Scope, Value};

/// A resource and a scope as columns: texts and JSON made once, shared by their spans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub(super) service_name: Option<String>,
    pub(super) service_namespace: Option<String>,
    pub(super) service_version: Option<String>,
    pub(super) service_instance_id: Option<String>,
    pub(super) deployment_environment: Option<String>,
    pub(super) resource_attributes: Option<String>,
    pub(super) resource_dropped_attributes_count: Option<i64>,
    pub(super) resource_schema_url: Option<String>,
    pub(super) scope_name: Option<String>,
    pub(super) scope_version: Option<String>,
    pub(super) scope_attributes: Option<String>,
    pub(super) scope_dropped_attributes_count: Option<i64>,
    pub(super) schema_url: Option<String>,
}

impl Origin {
    /// The columns of spans from `resource` and `scope`.
    ///
    /// Service columns come from the resource's attributes by the names of OpenTelemetry's
    /// semantic conventions, the current one before the older. A service name that is not text
    /// is shown as its JSON; a missing or empty one is NULL.
    pub fn new(resource: &Resource, scope: &Scope) -> Self {
        let attribute = |keys: &[&str]| {
            keys.iter().find_map(|key| {
                let entry = resource
                    .attributes
                    .iter()
                    .rev()
                    .find(|(name, _)| name == key);
                entry.and_then(|(_, value)| text_of(value))
            })
        };
        Self {
            service_name: attribute(&["service.name"]),
            service_namespace: attribute(&["service.namespace"]),
            service_version: attribute(&["service.version"]),
            service_instance_id: attribute(&["service.instance.id"]),
            deployment_environment: attribute(&[
                "deployment.environment.name",
                "deployment.environment",
            ]),
            resource_attributes: attributes_json(&resource.attributes),
            resource_dropped_attributes_count: count(resource.dropped_attributes_count),
            resource_schema_url: non_empty(&resource.schema_url),
            scope_name: non_empty(&scope.name),
            scope_version: non_empty(&scope.version),
            scope_attributes: attributes_json(&scope.attributes),
            scope_dropped_attributes_count: count(scope.dropped_attributes_count),
            schema_url: non_empty(&scope.schema_url),
        }
    }

    /// The name of the service, if it is known.
    pub fn service_name(&self) -> Option<&str> {
        self.service_name.as_deref()
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => non_empty(text),
        other => {
            let mut json = String::new();
            other.write_json(&mut json);
            Some(json)
        }
    }
}

fn attributes_json(attributes: &[(String, Value)]) -> Option<String> {
    (!attributes.is_empty()).then(|| {
        let mut json = String::new();
        write_attributes(attributes, &mut json);
        json
    })
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

fn count(number: u32) -> Option<i64> {
    (number > 0).then_some(i64::from(number))
}
