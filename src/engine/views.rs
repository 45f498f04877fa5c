//! The views every session has.
//!
//! Read [`register`].

use std::sync::Arc;

use datafusion::datasource::ViewTable;
use datafusion::prelude::SessionContext;

use super::dashboard_views::DASHBOARD_VIEWS;
use crate::error::Result;

/// One row an event, with the span it happened in.
const SPAN_EVENTS: &str = "\
SELECT trace_id, span_id, service_name, span_name, span_start_time, \
       event['time'] AS time, event['name'] AS name, event['attributes'] AS attributes, \
       event['dropped_attributes_count'] AS dropped_attributes_count \
FROM (SELECT trace_id, span_id, service_name, name AS span_name, \
             start_time AS span_start_time, unnest(events) AS event FROM spans)";

/// One row a link, with the span that holds it.
const SPAN_LINKS: &str = "\
SELECT trace_id, span_id, service_name, span_name, span_start_time, \
       link['trace_id'] AS linked_trace_id, link['span_id'] AS linked_span_id, \
       link['trace_state'] AS trace_state, link['attributes'] AS attributes, \
       link['flags'] AS flags, link['dropped_attributes_count'] AS dropped_attributes_count \
FROM (SELECT trace_id, span_id, service_name, name AS span_name, \
             start_time AS span_start_time, unnest(links) AS link FROM spans)";

/// Registers `span_events`, `span_links` and the views for dashboards.
pub(super) async fn register(context: &SessionContext) -> Result<()> {
    let own = [("span_events", SPAN_EVENTS), ("span_links", SPAN_LINKS)];
    let own = own.map(|(name, sql)| (name, sql.to_string()));
    let others = DASHBOARD_VIEWS.iter().map(|view| (view.name, view.sql()));
    for (name, sql) in own.into_iter().chain(others) {
        let plan = context.state().create_logical_plan(&sql).await?;
        let view = ViewTable::new(plan, Some(sql));
        context.register_table(name, Arc::new(view))?;
    }
    Ok(())
}
