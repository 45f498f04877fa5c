//! Paths: where a span stands in its trace, as text that sorts in tree order.
//!
//! Read [`for_each_path`] and [`is_ancestor_path`].

use std::fmt::Write as _;

use super::Forest;

/// How deep a span may be to have a path: the paths of a chain grow with the square of its length.
pub const MAX_PATH_DEPTH: usize = 1000;

/// Calls `visit` with each node, in tree order, and its path: the places among siblings, counted
/// from 0, from the top down. `None` for nodes deeper than [`MAX_PATH_DEPTH`].
///
/// ```text
///   a         0            places of several digits have a letter before them that tells how
///   ├─ b      0/0          many more follow, so that texts sort as numbers do:
///   │  └─ c   0/0/0
///   └─ d      0/1          9 < a10 < a99 < b100
///   x         1
/// ```
///
/// Paths sort byte by byte in tree order, and one is an ancestor's exactly if it is the beginning
/// of the other up to a `/`. Both hold within a trace only.
pub fn for_each_path(forest: &Forest, mut visit: impl FnMut(usize, Option<&str>)) {
    let mut path = String::new();
    // For each level above the next node: the length of its path, and how many children of it
    // came by.
    let mut levels: Vec<(usize, u32)> = vec![(0, 0)];
    for node in 0..forest.len() {
        let depth = forest.depth(node);
        if depth > MAX_PATH_DEPTH {
            visit(node, None);
            continue;
        }
        levels.truncate(depth + 1);
        let Some((len, place)) = levels.last_mut() else {
            continue;
        };
        path.truncate(*len);
        if depth > 0 {
            path.push('/');
        }
        push_place(&mut path, *place);
        *place += 1;
        levels.push((path.len(), 0));
        visit(node, Some(&path));
    }
}

fn push_place(path: &mut String, place: u32) {
    let more_digits = place.checked_ilog10().unwrap_or(0);
    if more_digits > 0 {
        // At most ten digits, so at most `i`.
        path.push((b'a' + more_digits as u8 - 1) as char);
    }
    // Writing to a text cannot fail.
    let _ = write!(path, "{place}");
}

/// Whether a path of [`for_each_path`] is that of an ancestor of the other's node, where both are
/// of one trace. No path is its own ancestor's.
pub fn is_ancestor_path(above: &str, below: &str) -> bool {
    below
        .strip_prefix(above)
        .is_some_and(|rest| !above.is_empty() && rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_rows, spans};
    use super::*;
    use proptest::prelude::*;

    fn paths(forest: &Forest) -> Vec<String> {
        let mut paths = Vec::new();
        for_each_path(forest, |node, path| {
            assert_eq!(node, paths.len());
            paths.push(path.unwrap_or("-").to_string());
        });
        paths
    }

    #[test]
    fn a_path_is_the_places_from_the_top_down() {
        let buffer = spans(&[
            "1 - 0 9 a",
            "2 1 1 1 a",
            "3 2 2 1 a",
            "4 1 3 1 a",
            "5 9 4 1 a",
        ]);
        let forest = Forest::new(&buffer.columns());
        assert_eq!(paths(&forest), ["0", "0/0", "0/0/0", "0/1", "1"]);
    }

    #[test]
    fn places_of_several_digits_sort_as_numbers() {
        let mut places: Vec<String> = Vec::new();
        for place in [0, 1, 9, 10, 11, 99, 100, 1000, 4_000_000_000] {
            let mut path = String::new();
            push_place(&mut path, place);
            places.push(path);
        }
        assert_eq!(places[3], "a10");
        assert!(places.is_sorted(), "{places:?}");
        assert!("0/0" < "0/1" && "0" < "0/0" && "0/9" < "0/a10");
    }

    #[test]
    fn nodes_too_deep_have_no_path() {
        let rows: Vec<String> = (1..=1100)
            .map(|id| {
                format!(
                    "{id} {} {id} 1 a",
                    if id == 1 {
                        "-".to_string()
                    } else {
                        (id - 1).to_string()
                    }
                )
            })
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let paths = paths(&Forest::new(&spans(&rows).columns()));
        assert_eq!(paths[MAX_PATH_DEPTH].len(), 2 * MAX_PATH_DEPTH + 1);
        assert!(paths[MAX_PATH_DEPTH + 1..].iter().all(|path| path == "-"));
    }

    proptest! {
        #[test]
        fn paths_sort_in_tree_order_and_tell_ancestors(rows in random_rows()) {
            let forest = Forest::new(&rows.buffer().columns());
            let paths = paths(&forest);
            prop_assert!(paths.is_sorted_by(|a, b| a < b));
            for (above, path) in paths.iter().enumerate() {
                for (below, other) in paths.iter().enumerate() {
                    prop_assert_eq!(is_ancestor_path(path, other), forest.is_ancestor(above, below));
                }
            }
        }
    }
}
