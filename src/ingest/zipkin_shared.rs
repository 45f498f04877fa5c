//! Zipkin's shared spans made two: there, client and server of one call may report the same
//! span id; here every span has an id of its own.
//!
//! ```text
//! as sent     web a SERVER             as stored   web a SERVER
//!             └ web b CLIENT                       └ web b CLIENT
//!               app b SERVER shared                  └ app d(b) SERVER
//!               └ app c CLIENT, parent b                └ app c CLIENT, parent d(b)
//! ```
//!
//! Read [`resolve`]. The server's half gets the id [`server_half_id`] derives from the shared one
//! and the client's half as its parent. That needs nothing but the half itself where it says
//! `shared`; where it does not, a server span with the id of a client span is one too. One thing
//! overrides the flag: where the group has no client's half but has the span the server names as
//! parent, the client never reported, and the server's span stays as it was sent. Which half
//! is the parent of a span that names the shared id does need the group it came in: it is the
//! server's, unless the span is of the client's service and not of the server's. A child that
//! comes in another group than the server's half hangs under the client's.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::span::{Origin, Span, SpanId, SpanKind, TraceId};

/// A span of a group, with what joins it to others.
pub(super) struct Half {
    pub(super) origin: Rc<Origin>,
    pub(super) span: Span,
    /// The service that reported it; empty where not said.
    pub(super) service: String,
    /// Whether it says that its id is its client's.
    pub(super) is_shared: bool,
}

/// Gives the server's halves of a group ids of their own, and moves their children to them.
pub(super) fn resolve(group: &mut [Half]) {
    let key = |span: &Span| (span.trace_id, span.span_id);
    let mut clients: HashMap<(TraceId, SpanId), String> = HashMap::new();
    for half in group
        .iter()
        .filter(|half| half.span.kind == SpanKind::Client)
    {
        clients.insert(key(&half.span), half.service.clone());
    }
    let present: HashSet<(TraceId, SpanId)> = group.iter().map(|half| key(&half.span)).collect();
    let mut servers: HashMap<(TraceId, SpanId), Vec<String>> = HashMap::new();
    for half in group
        .iter_mut()
        .filter(|half| half.span.kind == SpanKind::Server)
    {
        let has_client = clients.contains_key(&key(&half.span));
        let parent = half.span.parent_span_id;
        let has_parent = parent.is_some_and(|id| present.contains(&(half.span.trace_id, id)));
        half.is_shared = has_client || (half.is_shared && !has_parent);
        if half.is_shared {
            servers
                .entry(key(&half.span))
                .or_default()
                .push(half.service.clone());
        }
    }
    for half in group {
        let span = &mut half.span;
        if half.is_shared {
            span.parent_span_id = Some(span.span_id);
            span.span_id = server_half_id(span.span_id);
            continue;
        }
        let Some(parent) = span.parent_span_id else {
            continue;
        };
        let Some(services) = servers.get(&(span.trace_id, parent)) else {
            continue;
        };
        let is_of_client = clients.get(&(span.trace_id, parent)) == Some(&half.service)
            && !services.contains(&half.service);
        if !is_of_client {
            span.parent_span_id = Some(server_half_id(parent));
        }
    }
}

/// The id of the server's half of a shared span: the shared id, big-endian, through the finalizer
/// of SplitMix64 (Steele, Lea and Flood, 2014). It is one to one, so that no two shared ids meet.
fn server_half_id(shared: SpanId) -> SpanId {
    let mut bits = u64::from_be_bytes(*shared.as_bytes());
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // Only zero is mapped to zero, and no id is zero.
    SpanId::from_bytes(bits.to_be_bytes()).unwrap_or(shared)
}
