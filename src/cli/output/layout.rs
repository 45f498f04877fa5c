//! How wide each column of a table is when not all of it fits.
//!
//! Read [`choose`]. Numbers and times are never cut, since a cut number is another number; texts
//! share what is left, and columns that find no room are left out from the right.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The least a text is cut to.
const LEAST_WIDTH: usize = 12;

/// What stands in for what is left out.
const ELLIPSIS: char = '…';

/// What one column asks for, in terminal columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// The width of its name.
    pub(super) name: usize,
    /// The width of its widest value.
    pub(super) value: usize,
    /// Whether its values may be cut.
    pub(super) elastic: bool,
}

impl Wish {
    fn natural(&self) -> usize {
        self.name.max(self.value).max(1)
    }

    fn least(&self) -> usize {
        let value = if self.elastic {
            self.value.min(LEAST_WIDTH)
        } else {
            self.value
        };
        value.max(self.name.min(LEAST_WIDTH)).max(1)
    }
}

/// The width of each column that is shown, from the left; fewer than the wishes if not all fit.
///
/// A line is ` a │ b │ c `: each column takes its width and two blanks, with a rule between.
pub(super) fn choose(wishes: &[Wish], available: Option<usize>) -> Vec<usize> {
    let natural: Vec<usize> = wishes.iter().map(Wish::natural).collect();
    let Some(available) = available else {
        return natural;
    };
    if line_width(&natural) <= available {
        return natural;
    }
    let least: Vec<usize> = wishes.iter().map(Wish::least).collect();
    let mut shown = wishes.len();
    // A column of `…` says that others were left out.
    let omission = |shown: usize| if shown < wishes.len() { 4 } else { 0 };
    while shown > 1 && line_width(&least[..shown]) + omission(shown) > available {
        shown -= 1;
    }
    let room = available.saturating_sub(omission(shown) + 3 * shown - 1);
    share(&least[..shown], &natural[..shown], room)
}

fn line_width(widths: &[usize]) -> usize {
    (widths.iter().sum::<usize>() + 3 * widths.len()).saturating_sub(1)
}

/// Widths between the least and the natural ones that fill `room`, the narrow ones served first.
fn share(least: &[usize], natural: &[usize], room: usize) -> Vec<usize> {
    let at = |cap: usize| -> Vec<usize> {
        least
            .iter()
            .zip(natural)
            .map(|(least, natural)| (*natural).min(cap).max(*least))
            .collect()
    };
    let (mut low, mut high) = (0, room);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if at(middle).iter().sum::<usize>() <= room {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let mut widths = at(low);
    let mut left = room.saturating_sub(widths.iter().sum());
    for (width, natural) in widths.iter_mut().zip(natural) {
        if left > 0 && *width < *natural {
            *width += 1;
            left -= 1;
        }
    }
    if let [only] = widths.as_mut_slice() {
        *only = (*only).min(room.max(1));
    }
    widths
}

/// The terminal columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` cut to `width` terminal columns, with `…` where something is missing.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if self::width(text) <= width {
        return text.to_string();
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        short.push(character);
    }
    short.push(ELLIPSIS);
    short
}

/// `text` on one line, with control characters spelled out: data must not steer the terminal.
pub(super) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_string();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: usize, value: usize) -> Wish {
        Wish {
            name,
            value,
            elastic: true,
        }
    }

    fn number(name: usize, value: usize) -> Wish {
        Wish {
            elastic: false,
            ..text(name, value)
        }
    }

    #[test]
    fn widths_are_natural_where_they_fit() {
        let wishes = [text(4, 20), number(5, 3)];
        assert_eq!(choose(&wishes, None), [20, 5]);
        assert_eq!(choose(&wishes, Some(30)), [20, 5]);
    }

    #[test]
    fn texts_are_cut_and_numbers_are_not() {
        let wishes = [text(4, 100), number(5, 19), text(4, 100)];
        let widths = choose(&wishes, Some(80));
        assert_eq!(widths[1], 19);
        assert_eq!(line_width(&widths), 80);
        assert!(widths[0].abs_diff(widths[2]) <= 1);
    }

    #[test]
    fn short_texts_stay_whole_beside_long_ones() {
        assert_eq!(choose(&[text(1, 15), text(1, 500)], Some(60)), [15, 40]);
    }

    #[test]
    fn columns_without_room_are_left_out_from_the_right() {
        let wishes = vec![text(10, 40); 35];
        let widths = choose(&wishes, Some(80));
        assert_eq!(widths.len(), 5);
        assert!(line_width(&widths) + 4 <= 80);
    }

    #[test]
    fn one_column_is_always_shown_however_narrow_the_terminal() {
        for available in 0..5 {
            let widths = choose(&[number(5, 30), text(5, 30)], Some(available));
            assert_eq!(widths.len(), 1);
            assert!(widths[0] >= 1);
        }
    }

    #[test]
    fn texts_are_cut_by_the_columns_they_take() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("数据库", 5), "数据…");
        assert_eq!(shorten("数据库", 4), "数…");
        assert_eq!(shorten("abc", 1), "…");
    }

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(printable("a\nb\t\x1b[31m"), "a\\nb\\t\\u{1b}[31m");
    }
}
