//! The numbers of many groups, in little more than the bytes they need, and passed from one stage
//! of an aggregation to the next without being copied.
//!
//! Read [`GroupedValues`].
//!
//! ```text
//! values in any order ─ gathered ─ ordered by group ─┐
//!                                                    ├─ runs: values of one group each
//! states of another stage ───────────────────────────┘
//! ```
//!
//! A run is a binary view: a length and a place in a buffer. What merges or repartitions states
//! moves views and leaves the buffers alone; a list array would be copied each time.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewArray, BooleanArray, make_view};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::filter;
use datafusion::common::{Result, exec_err};

/// Values that are gathered before they are ordered: no more than a processor's cache holds, since
/// ordering goes to and fro between groups.
const GATHERED: usize = 1 << 16;
/// The least values gathered for each group: a run of fewer costs more than its values.
const LEAST_RUN: usize = 4;
/// The most values whose bytes the place of a view can tell.
const ADDRESSABLE: usize = u32::MAX as usize / size_of::<f64>();

/// Values, each of a group, groups being numbered from zero.
#[derive(Debug, Default)]
pub(super) struct GroupedValues {
    /// Values not yet ordered, batch by batch as they came.
    gathered: Vec<(Vec<u32>, ScalarBuffer<f64>)>,
    gathered_count: usize,
    runs: Vec<Runs>,
    /// Of the runs.
    byte_count: usize,
}

/// Values in runs of one group each.
#[derive(Debug)]
struct Runs {
    /// The group of each run.
    groups: Vec<u32>,
    values: BinaryViewArray,
}

impl Runs {
    /// The runs of the groups that are asked for.
    fn filtered(&self, is_wanted: impl Fn(u32) -> bool) -> Result<Self> {
        let wanted: Vec<bool> = self.groups.iter().map(|group| is_wanted(*group)).collect();
        let wanted = BooleanArray::from(wanted);
        let values = filter(&self.values, &wanted)?;
        let groups = self.groups.iter().copied();
        Ok(Self {
            groups: groups.filter(|group| is_wanted(*group)).collect(),
            values: BinaryViewArray::from(values.to_data()),
        })
    }

    fn size(&self) -> usize {
        let bytes: usize = self.values.lengths().map(|length| length as usize).sum();
        self.groups.len() * (size_of::<u32>() + size_of::<u128>()) + bytes
    }
}

impl GroupedValues {
    /// Appends values, each with its group, of `group_count` groups so far.
    pub(super) fn extend(
        &mut self,
        groups: Vec<u32>,
        values: ScalarBuffer<f64>,
        group_count: usize,
    ) -> Result<()> {
        self.gathered_count += values.len();
        self.gathered.push((groups, values));
        // Ordering takes the time of going through all groups.
        match self.gathered_count >= GATHERED.max(LEAST_RUN * group_count) {
            true => self.order(group_count),
            false => Ok(()),
        }
    }

    /// Appends runs of values, each with its group.
    pub(super) fn extend_runs(&mut self, groups: Vec<u32>, values: BinaryViewArray) {
        self.push(Runs { groups, values });
    }

    fn push(&mut self, runs: Runs) {
        self.byte_count += runs.size();
        self.runs.push(runs);
    }

    pub(super) fn size(&self) -> usize {
        let value = size_of::<u32>() + size_of::<f64>();
        let batches = self.gathered.capacity() * size_of::<(Vec<u32>, ScalarBuffer<f64>)>();
        self.gathered_count * value + batches + self.byte_count
    }

    /// Makes runs of what is gathered.
    fn order(&mut self, group_count: usize) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let value_count = std::mem::take(&mut self.gathered_count);
        if value_count == 0 {
            return Ok(());
        }
        if value_count > ADDRESSABLE {
            return exec_err!("quantile_cont: too many groups");
        }
        // Lengths become the place of each group's first value, which filling moves to its end.
        let mut ends = vec![0u32; group_count];
        for group in gathered.iter().flat_map(|(groups, _)| groups) {
            ends[*group as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut ordered = vec![0.0; value_count];
        for (groups, values) in gathered {
            for (group, value) in groups.iter().zip(values.iter()) {
                let place = &mut ends[*group as usize];
                ordered[*place as usize] = *value;
                *place += 1;
            }
        }
        let lengths = ends.iter().scan(0, |begin, end| {
            let length = end - std::mem::replace(begin, *end);
            Some(length as usize)
        });
        let there = (0u32..).zip(lengths).filter(|(_, length)| *length > 0);
        let (groups, lengths): (Vec<_>, Vec<_>) = there.unzip();
        let values = views(Buffer::from_vec(ordered), lengths.into_iter())?;
        self.push(Runs { groups, values });
        Ok(())
    }

    /// Takes out the values of the first `count` of `group_count` groups; the other groups move
    /// to the front.
    pub(super) fn take_first(&mut self, count: usize, group_count: usize) -> Result<TakenGroups> {
        self.order(group_count)?;
        let taken = std::mem::take(self);
        if count == group_count {
            return TakenGroups::try_new(taken.runs, count);
        }
        let is_taken = |group| (group as usize) < count;
        let mut first = Vec::with_capacity(taken.runs.len());
        for runs in taken.runs {
            first.push(runs.filtered(is_taken)?);
            let mut others = runs.filtered(|group| !is_taken(group))?;
            others.groups.iter_mut().for_each(|g| *g -= count as u32);
            self.push(others);
        }
        TakenGroups::try_new(first, count)
    }
}

/// The values of some groups, to be had group by group.
pub(super) struct TakenGroups {
    runs: Vec<Runs>,
    /// Which runs there are, by which of `runs` and where among them, ordered by group.
    order: Vec<(u32, u32)>,
    /// Where those of each group end in `order`.
    ends: Vec<usize>,
}

impl TakenGroups {
    fn try_new(runs: Vec<Runs>, count: usize) -> Result<Self> {
        let mut ends = vec![0; count];
        for group in runs.iter().flat_map(|runs| &runs.groups) {
            ends[*group as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut order = vec![(0, 0); total];
        for (part, runs) in (0..).zip(&runs) {
            for (row, group) in (0..).zip(&runs.groups) {
                let place = &mut ends[*group as usize];
                order[*place] = (part, row);
                *place += 1;
            }
        }
        Ok(Self { runs, order, ends })
    }

    /// The runs of each group, as bytes.
    fn groups(&self) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| {
            let runs = self.order[*begin..*end].iter();
            runs.map(|(part, row)| self.runs[*part as usize].values.value(*row as usize))
        })
    }

    /// Calls `each` with the values of each group, in the order of groups.
    pub(super) fn for_each(&self, mut each: impl FnMut(&mut [f64])) {
        let mut values = Vec::new();
        for runs in self.groups() {
            values.clear();
            runs.for_each(|bytes| values.extend(numbers(bytes)));
            each(&mut values);
        }
    }

    /// A run for each group.
    pub(super) fn into_runs(self) -> Result<ArrayRef> {
        // As ordered for the first time, all groups in a row, they are what is asked for.
        if let [runs] = self.runs.as_slice()
            && runs.groups.len() == self.ends.len()
            && (0..).zip(&runs.groups).all(|(at, group)| at == *group)
        {
            return Ok(Arc::new(runs.values.clone()));
        }
        let length = |runs: &Runs| runs.values.lengths().map(|l| l as usize).sum::<usize>();
        let byte_count = self.runs.iter().map(length).sum();
        if byte_count > ADDRESSABLE * size_of::<f64>() {
            return exec_err!("quantile_cont: more than {ADDRESSABLE} values at once");
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(byte_count);
        let mut lengths = Vec::with_capacity(self.ends.len());
        for runs in self.groups() {
            let begin = bytes.len();
            runs.for_each(|run| bytes.extend_from_slice(run));
            lengths.push((bytes.len() - begin) / size_of::<f64>());
        }
        Ok(Arc::new(views(
            Buffer::from_vec(bytes),
            lengths.into_iter(),
        )?))
    }
}

/// Runs of one value each, none where there is none.
pub(super) fn single_runs(values: impl Iterator<Item = Option<f64>>) -> Result<BinaryViewArray> {
    let views = values.map(|value| match value {
        Some(value) => make_view(&value.to_ne_bytes(), 0, 0),
        None => make_view(&[], 0, 0),
    });
    Ok(BinaryViewArray::try_new(views.collect(), [], None)?)
}

/// The numbers of a run.
pub(super) fn numbers(run: &[u8]) -> impl Iterator<Item = f64> {
    let (numbers, _) = run.as_chunks::<{ size_of::<f64>() }>();
    numbers.iter().map(|bytes| f64::from_ne_bytes(*bytes))
}

/// A buffer of values as runs of the given lengths, one after the other.
fn views(buffer: Buffer, lengths: impl Iterator<Item = usize>) -> Result<BinaryViewArray> {
    let mut rest = buffer.as_slice();
    let mut offset = 0;
    let views = lengths.map(|length| {
        let (run, others) = rest.split_at(length * size_of::<f64>());
        let view = make_view(run, 0, offset);
        // Nobody makes a buffer that is longer than a view can address.
        offset += run.len() as u32;
        rest = others;
        view
    });
    let views: ScalarBuffer<u128> = views.collect();
    Ok(BinaryViewArray::try_new(views, [buffer], None)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    fn lists(taken: &TakenGroups) -> Vec<Vec<f64>> {
        let mut lists = Vec::new();
        taken.for_each(|values| lists.push(values.to_vec()));
        lists
    }

    fn gathered(groups: &[u32], values: &[f64]) -> GroupedValues {
        let mut grouped = GroupedValues::default();
        let count = groups.iter().max().map_or(0, |last| *last as usize + 1);
        let values = values.to_vec().into();
        grouped.extend(groups.to_vec(), values, count).unwrap();
        grouped
    }

    #[test]
    fn values_come_back_by_group_however_often_they_were_ordered() {
        let mut values = gathered(&[2, 0, 2], &[1.0, 2.0, 3.0]);
        values.order(3).unwrap();
        values.extend(vec![0, 3], vec![4.0, 5.0].into(), 4).unwrap();
        assert!(values.size() > 5 * size_of::<f64>());
        let taken = values.take_first(4, 4).unwrap();
        let expected = [vec![2.0, 4.0], vec![], vec![1.0, 3.0], vec![5.0]];
        assert_eq!(lists(&taken), expected);
        let mut merged = GroupedValues::default();
        let runs = taken.into_runs().unwrap();
        let runs = runs.as_binary_view();
        merged.extend_runs(vec![1, 0, 0, 1], runs.clone());
        let taken = merged.take_first(2, 2).unwrap();
        assert_eq!(lists(&taken), [vec![1.0, 3.0], vec![2.0, 4.0, 5.0]]);
        assert_eq!(merged.size(), 0);
    }

    #[test]
    fn what_is_not_taken_moves_to_the_front() {
        let mut values = gathered(&[2, 0, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let taken = values.take_first(1, 3).unwrap();
        assert_eq!(lists(&taken), [vec![2.0]]);
        let rest = values.take_first(2, 2).unwrap();
        assert_eq!(lists(&rest), [vec![3.0], vec![1.0, 4.0]]);
    }

    #[test]
    fn one_part_of_all_groups_is_passed_on_as_it_is() {
        let mut values = gathered(&[1, 0, 1], &[1.0, 2.0, 3.0]);
        let taken = values.take_first(2, 2).unwrap();
        let part = taken.runs[0].values.data_buffers()[0].as_ptr();
        let runs = taken.into_runs().unwrap();
        assert_eq!(runs.as_binary_view().data_buffers()[0].as_ptr(), part);
    }

    #[test]
    fn single_values_need_no_buffer() {
        let runs = single_runs([Some(1.5), None].into_iter()).unwrap();
        assert!(runs.data_buffers().is_empty());
        assert_eq!(numbers(runs.value(0)).collect::<Vec<_>>(), [1.5]);
        assert!(runs.value(1).is_empty());
    }
}
