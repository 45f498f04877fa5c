//! What a search for traces asks: a query as plain data, its conditions as text, the cursor that
//! leads from one page to the next. Pure; how a search is answered is the engine's matter.

mod trace_query;
mod condition;
mod condition_text;
mod condition_token;
mod duration_text;
mod cursor;
mod search_page;
mod jaeger;

pub use condition::{AttributeCondition, AttributeScope, AttributeTest, AttributeValue, Condition};
pub use cursor::Cursor;
pub use duration_text::parse_duration;
pub use jaeger::{JaegerQuery, JaegerRequest};
pub use search_page::{SearchHit, SearchPage, SearchPlace, TraceOverview};
pub(crate) use trace_query::PageStart;
pub use trace_query::{Matching, SearchOrder, SpanName, TraceQuery};
