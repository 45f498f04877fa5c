//! Where the parts of a drawn trace stand: how wide each is, and bars for when a span ran.
//!
//! Read [`Layout`]. What is drawn there is `waterfall.rs`.

use super::TraceNode;

/// What a duration takes at most: `-106751d 23h`, and mostly less.
pub(super) const DURATION_WIDTH: usize = 9;
/// Eighths of a character's width, filled from the left.
pub(super) const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// How a line's width is shared out.
pub(super) struct Layout {
    pub(super) label_width: usize,
    /// What a level of the tree takes.
    pub(super) indent: usize,
    /// How many levels above a node are shown.
    pub(super) max_guides: usize,
    pub(super) bar_width: usize,
    pub(super) range: TimeRange,
}

impl Layout {
    /// The layout for these nodes, of which the first `drawn` are drawn.
    pub(super) fn new(width: usize, nodes: &[TraceNode], drawn: usize) -> Self {
        // A space before the duration and two after it.
        let free = width - DURATION_WIDTH - 3;
        let bar_width = (free * 2 / 5).max(8);
        let label_width = free - bar_width;
        let depths = nodes.iter().take(drawn).map(|node| node.depth);
        let max_depth = depths.max().unwrap_or(0);
        let indent = [3, 2]
            .into_iter()
            .find(|indent| max_depth * indent <= label_width * 3 / 5)
            .unwrap_or(1);
        Self {
            label_width,
            indent,
            max_guides: if indent == 1 {
                label_width * 2 / 5
            } else {
                max_depth
            },
            bar_width,
            range: TimeRange::of(nodes),
        }
    }
}

/// The time between the earliest start and the latest end.
#[derive(Clone, Copy)]
pub(super) struct TimeRange {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) empty: bool,
}

impl TimeRange {
    pub(super) fn of(nodes: &[TraceNode]) -> Self {
        let mut range = Self {
            start: i64::MAX,
            end: i64::MIN,
            empty: nodes.is_empty(),
        };
        for node in nodes {
            let start = node.span.start_time_unix_nano;
            let duration = node.span.duration_nano.unwrap_or(0).max(0);
            range.start = range.start.min(start);
            range.end = range.end.max(start.saturating_add(duration));
        }
        range
    }

    pub(super) fn length(&self) -> Option<i64> {
        (!self.empty).then(|| self.end.saturating_sub(self.start))
    }

    /// A moment as eighths of columns from the left edge, rounded to the nearest.
    pub(super) fn eighths(&self, nano: i64, columns: usize) -> usize {
        let length = i128::from(self.end) - i128::from(self.start);
        if length <= 0 {
            return 0;
        }
        let offset = (i128::from(nano) - i128::from(self.start)).clamp(0, length);
        let whole = columns as i128 * 8;
        // At most `whole`, so the conversion cannot fail.
        usize::try_from((offset * whole + length / 2) / length).unwrap_or(0)
    }
}

/// A bar from one eighth to another, from the column of the first on. A terminal fills a column
/// from the left only, or its right half: a start in the right half of a column that the bar
/// leaves is drawn so, any other at the column's edge. Within one column only the length counts.
pub(super) fn bar_of_eighths(from: usize, to: usize) -> String {
    let mut bar = String::new();
    let mut at = from - from % 8;
    if to < at + 8 {
        bar.push(EIGHTHS[to - from - 1]);
        return bar;
    }
    if from % 8 >= 4 && to >= at + 8 {
        bar.push('▐');
        at += 8;
    }
    while at + 8 <= to {
        bar.push('█');
        at += 8;
    }
    if to > at {
        bar.push(EIGHTHS[to - at - 1]);
    }
    bar
}
