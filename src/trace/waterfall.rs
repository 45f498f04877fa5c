//! Draws a trace in a terminal: the tree on the left, the waterfall on the right.
//!
//! Read [`Waterfall`].
//!
//! ```text
//! shop GET /cart          100 ms  ███████████████████
//! ├─ auth Check          25.0 ms  ████▊
//! └─ ✗ basket Get        50.0 ms           ▐█████████
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use crate::span::StatusCode;

use super::waterfall_layout::{DURATION_WIDTH, Layout, TimeRange, bar_of_eighths};
use super::waterfall_text::{counted, display_name, shorten};
use super::{Placement, TraceNode, TraceTree, format_duration};

/// How a trace is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waterfall {
    width: usize,
    ascii: bool,
    color: bool,
    max_spans: usize,
    on_critical_path: Vec<bool>,
}

/// A span of a drawing in its parts, for tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawnSpan {
    /// The branches before it, its marks and its name.
    pub label: String,
    /// How long it took, as people read it; `?` where it never ended.
    pub duration: String,
    /// When it ran, as a bar between the trace's start and end.
    pub bar: String,
}

/// The narrowest drawing; a narrower one is drawn this wide.
const MIN_WIDTH: usize = 40;
/// Colors of services, of the 256 of terminals: well apart, legible on black and on white.
const SERVICE_COLORS: [u8; 10] = [33, 35, 172, 135, 37, 168, 64, 99, 136, 73];
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

impl Waterfall {
    /// A drawing in Unicode without colors, `width` columns wide (at least 40), of the first 200
    /// spans of each trace.
    pub fn new(width: usize) -> Self {
        Self {
            width: width.max(MIN_WIDTH),
            ascii: false,
            color: false,
            max_spans: 200,
            on_critical_path: Vec::new(),
        }
    }

    /// Which spans the trace waited for, in the order of the tree: they are marked `•` (`*` in
    /// ASCII).
    #[must_use]
    pub fn with_critical_path(mut self, on_critical_path: Vec<bool>) -> Self {
        self.on_critical_path = on_critical_path;
        self
    }

    /// Whether branches and bars are drawn in ASCII; names keep their letters.
    #[must_use]
    pub fn with_ascii(mut self, ascii: bool) -> Self {
        self.ascii = ascii;
        self
    }

    /// Whether each service has its color and errors are red (ANSI escapes).
    #[must_use]
    pub fn with_color(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// How many spans are drawn at most; a note tells of the rest.
    #[must_use]
    pub fn with_max_spans(mut self, max_spans: usize) -> Self {
        self.max_spans = max_spans;
        self
    }

    /// The lines of the drawing: a summary, a line for each span, and notes on what is odd.
    ///
    /// A line is never wider than the width, colors aside, and holds no control characters:
    /// those of names are escaped. Marks before a name: `✗` an error (`x` in ASCII), `?` a
    /// parent that is not in the trace, `↺` (`@`) a broken cycle, `•` (`*`) on the critical path. Bars lie between the earliest
    /// start and the latest end of the trace; a duration that is missing (`?`) or negative
    /// is a point at the span's start.
    pub fn draw(&self, tree: &TraceTree) -> Vec<String> {
        let nodes = tree.nodes();
        let mut lines = vec![self.summary(tree)];
        let layout = Layout::new(self.width, nodes, self.max_spans);
        let mut colors = ServiceColors::default();
        // Whether each ancestor of the node being drawn is the last of its siblings.
        let mut last_at_depth: Vec<bool> = Vec::new();
        let is_last = last_siblings(nodes);
        for (index, node) in nodes.iter().take(self.max_spans).enumerate() {
            last_at_depth.truncate(node.depth);
            last_at_depth.push(is_last[index]);
            let marks = self.marks(index, node);
            lines.push(self.span_line(node, &marks, &last_at_depth, &layout, &mut colors));
        }
        if let Some(rest) = nodes.get(self.max_spans..).filter(|rest| !rest.is_empty()) {
            lines.push(self.note_of_rest(rest));
        }
        lines.extend(self.findings(tree));
        lines
    }

    /// Every span of the tree in its parts, without colors; what would make a line wider than a
    /// screen is cut from its branches only.
    pub fn spans(&self, tree: &TraceTree) -> Vec<DrawnSpan> {
        let nodes = tree.nodes();
        let layout = Layout::new(self.width, nodes, nodes.len());
        let plain = Self {
            color: false,
            ..self.clone()
        };
        let is_last = last_siblings(nodes);
        let mut last_at_depth: Vec<bool> = Vec::new();
        let mut drawn = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            last_at_depth.truncate(node.depth);
            last_at_depth.push(is_last[index]);
            let mut label = plain.branch(&last_at_depth, &layout);
            for (mark, _) in plain.marks(index, node) {
                label.push_str(mark);
                label.push(' ');
            }
            label.push_str(&display_name(&node.span.name, "(no name)"));
            let mut bar = String::new();
            plain.push_bar(&mut bar, node, &layout, "");
            let duration = node.span.duration_nano;
            drawn.push(DrawnSpan {
                label,
                duration: duration.map_or_else(|| "?".to_string(), |n| plain.duration_text(n)),
                bar,
            });
        }
        drawn
    }

    fn summary(&self, tree: &TraceTree) -> String {
        let nodes = tree.nodes();
        let services: std::collections::HashSet<&str> = nodes
            .iter()
            .map(|node| node.span.service_name.as_str())
            .collect();
        let mut line = format!(
            "{}, {}",
            counted(nodes.len(), "span"),
            counted(services.len(), "service")
        );
        let errors = error_count(nodes);
        if errors > 0 {
            let _ = write!(line, ", {}", counted(errors, "error"));
        }
        if let Some(length) = TimeRange::of(nodes).length() {
            let _ = write!(line, ", {}", self.duration_text(length));
        }
        line
    }

    fn span_line(
        &self,
        node: &TraceNode,
        marks: &[(&'static str, &'static str)],
        last_at_depth: &[bool],
        layout: &Layout,
        colors: &mut ServiceColors,
    ) -> String {
        let mut line = String::with_capacity(self.width * 3);
        let branch = shorten(&self.branch(last_at_depth, layout), layout.label_width);
        let mut left = layout.label_width - branch.width();
        self.paint(&mut line, DIM, &branch);
        for (mark, style) in marks {
            if left >= 3 {
                self.paint(&mut line, style, mark);
                line.push(' ');
                left -= mark.width() + 1;
            }
        }
        let color = colors.of(&node.span.service_name);
        let service = shorten(&display_name(&node.span.service_name, "(no service)"), left);
        left -= service.width();
        self.paint(&mut line, &color, &service);
        if left >= 3 {
            let name = shorten(&display_name(&node.span.name, "(no name)"), left - 1);
            line.push(' ');
            line.push_str(&name);
            left -= name.width() + 1;
        }
        line.extend(std::iter::repeat_n(' ', left + 1));
        let duration = match node.span.duration_nano {
            Some(nano) => self.duration_text(nano),
            None => "?".to_string(),
        };
        let duration = shorten(&duration, DURATION_WIDTH);
        let padding = DURATION_WIDTH - duration.width();
        line.extend(std::iter::repeat_n(' ', padding));
        line.push_str(&duration);
        line.push_str("  ");
        self.push_bar(&mut line, node, layout, &color);
        line.truncate(line.trim_end().len());
        line
    }

    /// The branches before a node. Where they would take most of the label, the guides of the
    /// levels in between are left out and the node's depth is written instead.
    fn branch(&self, last_at_depth: &[bool], layout: &Layout) -> String {
        let (tee, corner, bar) = match (self.ascii, layout.indent) {
            (false, 3) => ("├─ ", "└─ ", "│  "),
            (false, 2) => ("├ ", "└ ", "│ "),
            (false, _) => ("├ ", "└ ", "│"),
            (true, 3) => ("|- ", "`- ", "|  "),
            (true, 2) => ("|-", "`-", "| "),
            (true, _) => ("|-", "`-", "|"),
        };
        let depth = last_at_depth.len() - 1;
        let mut branch = String::new();
        if depth == 0 {
            return branch;
        }
        let guides = &last_at_depth[1..depth];
        for last in guides.iter().take(layout.max_guides) {
            if *last {
                branch.extend(std::iter::repeat_n(' ', layout.indent));
            } else {
                branch.push_str(bar);
            }
        }
        if guides.len() > layout.max_guides {
            let dots = if self.ascii { ".." } else { "…" };
            let _ = write!(branch, "{dots}{depth} ");
        }
        branch.push_str(if last_at_depth[depth] { corner } else { tee });
        branch
    }

    fn marks(&self, index: usize, node: &TraceNode) -> Vec<(&'static str, &'static str)> {
        let mut marks = Vec::new();
        if self.on_critical_path.get(index).copied().unwrap_or(false) {
            marks.push((if self.ascii { "*" } else { "•" }, DIM));
        }
        match node.placement {
            Placement::Orphan => marks.push(("?", DIM)),
            Placement::CycleBroken if self.ascii => marks.push(("@", DIM)),
            Placement::CycleBroken => marks.push(("↺", DIM)),
            Placement::Root | Placement::Child => {}
        }
        if node.span.status_code == StatusCode::Error {
            marks.push((if self.ascii { "x" } else { "✗" }, RED));
        }
        marks
    }

    fn push_bar(&self, line: &mut String, node: &TraceNode, layout: &Layout, color: &str) {
        let range = &layout.range;
        let start = node.span.start_time_unix_nano;
        let failed = node.span.status_code == StatusCode::Error;
        let color = if failed { RED } else { color };
        let last_eighth = layout.bar_width * 8 - 1;
        let from = range.eighths(start, layout.bar_width).min(last_eighth);
        line.extend(std::iter::repeat_n(' ', from / 8));
        let Some(duration) = node.span.duration_nano.filter(|nano| *nano >= 0) else {
            self.paint(line, color, if self.ascii { "." } else { "·" });
            return;
        };
        let end = start.saturating_add(duration);
        let to = range.eighths(end, layout.bar_width).max(from + 1);
        let bar = if self.ascii {
            "#".repeat(to.div_ceil(8) - from / 8)
        } else {
            bar_of_eighths(from, to)
        };
        self.paint(line, color, &bar);
    }

    fn note_of_rest(&self, rest: &[TraceNode]) -> String {
        let dots = if self.ascii { "..." } else { "…" };
        let mut note = format!("{dots} {} more not drawn", counted(rest.len(), "span"));
        let errors = error_count(rest);
        if errors > 0 {
            let _ = write!(note, ", {} among them", counted(errors, "error"));
        }
        note
    }

    /// Notes on what is odd in the trace.
    fn findings(&self, tree: &TraceTree) -> Vec<String> {
        let count = |wanted: fn(&TraceNode) -> bool| {
            tree.nodes().iter().filter(|node| wanted(node)).count()
        };
        let cycle = if self.ascii { "@" } else { "↺" };
        [
            (
                count(|node| node.placement == Placement::Orphan),
                "? {} whose parent is not in the trace",
            ),
            (
                count(|node| node.placement == Placement::CycleBroken),
                "{cycle} {} whose ancestors lead back to it",
            ),
            (
                count(|node| node.shares_id),
                "! {} with an id that another span has too",
            ),
            (
                count(|node| node.span.duration_nano.is_some_and(|nano| nano < 0)),
                "! {} with a negative duration",
            ),
            (tree.duplicate_count(), "! {} left out as exact copies"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, note)| {
            note.replace("{cycle}", cycle)
                .replace("{}", &counted(count, "span"))
        })
        .collect()
    }

    fn duration_text(&self, nano: i64) -> String {
        let text = format_duration(nano);
        if self.ascii {
            text.replace('µ', "u")
        } else {
            text
        }
    }

    fn paint(&self, line: &mut String, style: &str, text: &str) {
        if self.color && !text.is_empty() {
            line.push_str(style);
            line.push_str(text);
            line.push_str(RESET);
        } else {
            line.push_str(text);
        }
    }
}

/// Colors in the order in which services appear.
#[derive(Default)]
struct ServiceColors {
    of_service: HashMap<String, usize>,
}

impl ServiceColors {
    fn of(&mut self, service: &str) -> String {
        let next = self.of_service.len();
        let index = *self.of_service.entry(service.to_string()).or_insert(next);
        let color = SERVICE_COLORS[index % SERVICE_COLORS.len()];
        format!("\x1b[38;5;{color}m")
    }
}

/// For each node whether no sibling follows it.
fn last_siblings(nodes: &[TraceNode]) -> Vec<bool> {
    nodes
        .iter()
        .map(|node| {
            nodes
                .get(node.subtree_end)
                .is_none_or(|next| next.depth < node.depth)
        })
        .collect()
}

fn error_count(nodes: &[TraceNode]) -> usize {
    nodes
        .iter()
        .filter(|node| node.span.status_code == StatusCode::Error)
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::escape_text;
    use super::*;
    use crate::span::{SpanId, SpanKind};
    use crate::trace::TraceSpan;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// A span: id, parent (0: none), start and duration in milliseconds, "service name".
    fn span(id: u64, parent: u64, start: i64, duration: i64, text: &str) -> TraceSpan {
        let id_of = |number: u64| SpanId::from_bytes(number.to_be_bytes());
        let (service, name) = text.split_once(' ').unwrap_or((text, ""));
        TraceSpan {
            span_id: id_of(id).unwrap(),
            parent_span_id: id_of(parent),
            start_time_unix_nano: start * MS,
            duration_nano: Some(duration * MS),
            service_name: service.to_string(),
            name: name.to_string(),
            kind: SpanKind::Internal,
            status_code: StatusCode::Unset,
        }
    }

    fn failed(mut span: TraceSpan) -> TraceSpan {
        span.status_code = StatusCode::Error;
        span
    }

    fn draw(waterfall: &Waterfall, spans: Vec<TraceSpan>) -> String {
        waterfall.draw(&TraceTree::new(spans)).join("\n")
    }

    fn shop() -> Vec<TraceSpan> {
        vec![
            span(1, 0, 0, 100, "shop GET /cart"),
            span(2, 1, 0, 25, "auth Check"),
            span(3, 2, 5, 10, "auth SELECT users"),
            failed(span(4, 1, 50, 50, "basket Get")),
            span(5, 4, 75, 25, "redis GET"),
        ]
    }

    // 60 columns: 29 for the label, 1, 9 for the duration, 2, 19 for the bar.
    #[test]
    fn a_trace_is_drawn_as_tree_and_waterfall() {
        let expected = "\
5 spans, 4 services, 1 error, 100 ms
shop GET /cart                   100 ms  ███████████████████
├─ auth Check                   25.0 ms  ████▊
│  └─ auth SELECT users         10.0 ms   █▉
└─ ✗ basket Get                 50.0 ms           ▐█████████
   └─ redis GET                 25.0 ms                █████";
        assert_eq!(draw(&Waterfall::new(60), shop()), expected);
    }

    #[test]
    fn ascii_draws_the_same_without_other_characters() {
        let expected = "\
5 spans, 4 services, 1 error, 100 ms
shop GET /cart                   100 ms  ###################
|- auth Check                   25.0 ms  #####
|  `- auth SELECT users         10.0 ms   ##
`- x basket Get                 50.0 ms           ##########
   `- redis GET                 25.0 ms                #####";
        let drawn = draw(&Waterfall::new(60).with_ascii(true), shop());
        assert_eq!(drawn, expected);
        assert!(drawn.is_ascii());
    }

    #[test]
    fn colors_only_add_escapes() {
        let plain = draw(&Waterfall::new(60), shop());
        let colored = draw(&Waterfall::new(60).with_color(true), shop());
        assert!(colored.contains("\x1b[31m✗\x1b[0m"));
        let mut stripped = String::new();
        let mut rest = colored.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain);
    }

    #[test]
    fn what_is_odd_is_marked_and_told() {
        let mut endless = span(3, 1, 20, 0, "a endless");
        endless.duration_nano = None;
        let spans = vec![
            span(1, 0, 0, 80, "a top"),
            span(2, 1, 40, -5, "a backwards"),
            endless,
            span(4, 9, 10, 0, "b orphan"),
            span(5, 5, 60, 20, "b ring"),
            span(5, 5, 60, 20, "b ring"),
        ];
        let expected = "\
5 spans, 2 services, 80.0 ms
a top                           80.0 ms  ███████████████████
├─ a endless                          ?      ·
└─ a backwards                 -5.00 ms           ·
? b orphan                         0 ns    ▏
↺ b ring                        20.0 ms                █████
? 1 span whose parent is not in the trace
↺ 1 span whose ancestors lead back to it
! 1 span with a negative duration
! 1 span left out as exact copies";
        let drawn = draw(&Waterfall::new(60), spans);
        assert_eq!(drawn, expected);
    }

    #[test]
    fn an_empty_trace_has_a_summary_only() {
        assert_eq!(draw(&Waterfall::new(0), Vec::new()), "0 spans, 0 services");
    }

    #[test]
    fn names_cannot_move_the_cursor_and_absent_ones_are_told() {
        assert_eq!(
            escape_text("a\nb\x1b[2J\u{202e}\u{9b}é漢"),
            "a\\nb\\u{1b}[2J\\u{202e}\\u{9b}é漢"
        );
        let drawn = draw(&Waterfall::new(60), vec![span(1, 0, 0, 1, " \t")]);
        assert!(
            drawn.contains("(no service) (no name)") || drawn.contains("\\t"),
            "{drawn}"
        );
        let drawn = draw(&Waterfall::new(60), vec![span(1, 0, 0, 1, "")]);
        assert!(drawn.contains("(no service) (no name)"), "{drawn}");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let spans = vec![
            span(1, 0, 0, 10, "訂單 漢字漢字漢字漢字漢字漢字漢字漢字漢字"),
            span(2, 1, 0, 10, "shop cafe\u{301}"),
        ];
        let expected = "\
2 spans, 2 services, 10.0 ms
訂單 漢字漢字漢字漢字漢字漢…    10.0 ms  ███████████████████
└─ shop cafe\u{301}                    10.0 ms  ███████████████████";
        assert_eq!(draw(&Waterfall::new(60), spans), expected);
    }

    #[test]
    fn long_traces_are_cut_with_a_note() {
        let spans = (1..=50)
            .map(|id| failed(span(id, u64::from(id > 1), id as i64, 1, "a b")))
            .collect();
        let lines = Waterfall::new(60)
            .with_max_spans(3)
            .draw(&TraceTree::new(spans));
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], "… 47 spans more not drawn, 47 errors among them");
    }

    #[test]
    fn a_chain_of_72_000_spans_is_drawn_in_lines_no_wider_than_asked() {
        let spans = (1..=72_000)
            .map(|id| span(id, id - 1, id as i64, 1, "a b"))
            .collect();
        let lines = Waterfall::new(60)
            .with_max_spans(usize::MAX)
            .draw(&TraceTree::new(spans));
        assert_eq!(lines.len(), 72_001);
        assert!(lines.iter().all(|line| line.width() <= 60));
        // A label of 29 columns shows the guides of 11 levels.
        let deepest = format!("{}…71999 └ a b", " ".repeat(11));
        assert!(lines[72_000].starts_with(&deepest), "{}", lines[72_000]);
    }

    #[test]
    fn times_at_the_ends_of_their_range_do_not_overflow() {
        let extreme = |start: i64, duration: Option<i64>, id: u64| TraceSpan {
            start_time_unix_nano: start,
            duration_nano: duration,
            ..span(id, 0, 0, 0, "a b")
        };
        let spans = vec![
            extreme(i64::MIN, Some(i64::MAX), 1),
            extreme(i64::MAX, Some(i64::MAX), 2),
            extreme(0, Some(i64::MIN), 3),
            extreme(i64::MIN, None, 4),
        ];
        let lines = Waterfall::new(60).draw(&TraceTree::new(spans));
        assert!(lines.iter().all(|line| line.width() <= 60), "{lines:?}");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked_whatever_the_names(
            rows in proptest::collection::vec(
                (any::<String>(), any::<String>(), 0u64..9, any::<i64>(), any::<Option<i64>>(), any::<bool>()),
                0..9,
            ),
            width in 0usize..140,
            ascii in any::<bool>(),
        ) {
            let spans = rows
                .into_iter()
                .enumerate()
                .map(|(index, (service, name, parent, start, duration, error))| TraceSpan {
                    start_time_unix_nano: start,
                    duration_nano: duration,
                    service_name: service,
                    name,
                    status_code: if error { StatusCode::Error } else { StatusCode::Ok },
                    ..span(index as u64 + 1, parent, 0, 0, "")
                })
                .collect();
            let tree = TraceTree::new(spans);
            let lines = Waterfall::new(width).with_ascii(ascii).draw(&tree);
            prop_assert!(lines.len() > tree.nodes().len());
            for line in &lines[1..=tree.nodes().len()] {
                prop_assert!(line.width() <= width.max(40), "{:?}", line);
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
