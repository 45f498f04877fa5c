//! Results as tables for people, or one value a line (the expanded view).
//!
//! Read [`TableWriter`]. Rows are held until the end, since widths depend on all of them; their
//! number is capped, and the query stops when the cap is reached.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::format::{Demand, ResultWriter, encoding_error};
use super::layout::{self, Wish};
use crate::Result;
use crate::cli::quantity::counted;
use crate::cli::terminal::Style;

/// How tables look.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableOptions {
    /// Terminal columns a line may take; no limit where nobody looks.
    pub(crate) width: Option<usize>,
    /// Rows shown at the most.
    pub(crate) max_rows: Option<usize>,
    /// Whether each value has a line of its own.
    pub(crate) expanded: bool,
    /// Whether names and NULL are set off.
    pub(crate) color: bool,
}

/// Collects the rows of one result and draws them at the end.
pub(super) struct TableWriter<'a> {
    out: &'a mut (dyn Write + Send),
    options: TableOptions,
    columns: Vec<Column>,
    row_count: usize,
    /// Whether there were more rows than are shown.
    capped: bool,
}

struct Column {
    name: String,
    /// Numbers stand right.
    right: bool,
    /// Texts and nested values may be cut.
    elastic: bool,
    /// `None` is NULL.
    cells: Vec<Option<String>>,
}

impl<'a> TableWriter<'a> {
    pub(super) fn new(
        schema: &SchemaRef,
        out: &'a mut (dyn Write + Send),
        options: TableOptions,
    ) -> Self {
        let columns = schema
            .fields()
            .iter()
            .map(|field| Column {
                name: layout::printable(field.name()),
                right: field.data_type().is_numeric(),
                elastic: is_elastic(field.data_type()),
                cells: Vec::new(),
            })
            .collect();
        Self {
            out,
            options,
            columns,
            row_count: 0,
            capped: false,
        }
    }

    fn footer(&self, shown: usize) -> String {
        let rows = counted(self.row_count as u64, "row");
        let mut footer = if self.capped {
            format!("(the first {rows}; there are more")
        } else {
            format!("({rows}")
        };
        if shown < self.columns.len() {
            footer.push_str(&format!("; {shown} of {} columns fit", self.columns.len()));
        }
        footer.push(')');
        footer
    }

    fn draw_table(&mut self) -> io::Result<()> {
        let wishes: Vec<Wish> = self.columns.iter().map(Column::wish).collect();
        let widths = layout::choose(&wishes, self.options.width);
        let omitted = widths.len() < self.columns.len();
        let color = self.options.color;
        let columns = &self.columns[..widths.len()];

        let names = columns.iter().zip(&widths).map(|(column, width)| {
            let name = padded(&column.name, *width, column.right);
            Style::Bold.paint(&name, color)
        });
        write_line(self.out, names, omitted)?;
        let rules: Vec<String> = widths
            .iter()
            .map(|width| "─".repeat(width + 2))
            .chain(omitted.then(|| "───".to_string()))
            .collect();
        writeln!(self.out, "{}", rules.join("┼"))?;
        for row in 0..self.row_count {
            let cells = columns
                .iter()
                .zip(&widths)
                .map(|(column, width)| column.cell(row, *width, color));
            write_line(self.out, cells, omitted)?;
        }
        let footer = self.footer(widths.len());
        writeln!(self.out, "{}", Style::Dim.paint(&footer, color))
    }

    fn draw_expanded(&mut self) -> io::Result<()> {
        let color = self.options.color;
        let name_width = self
            .columns
            .iter()
            .map(|column| layout::width(&column.name))
            .max()
            .unwrap_or(0);
        for row in 0..self.row_count {
            let title = format!("─[ row {} ]", row + 1);
            let rule = "─".repeat(
                (name_width + 2)
                    .saturating_sub(layout::width(&title))
                    .max(3),
            );
            writeln!(self.out, "{}", Style::Dim.paint(&(title + &rule), color))?;
            for column in &self.columns {
                let name = Style::Bold.paint(&padded(&column.name, name_width, false), color);
                let cell = match &column.cells[row] {
                    Some(cell) => cell.clone(),
                    None => Style::Dim.paint("NULL", color),
                };
                writeln!(self.out, " {name} │ {cell}")?;
            }
        }
        let footer = self.footer(self.columns.len());
        writeln!(self.out, "{}", Style::Dim.paint(&footer, color))
    }
}

impl ResultWriter for TableWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        let room = self
            .options
            .max_rows
            .map_or(usize::MAX, |max_rows| max_rows - self.row_count);
        let rows = batch.num_rows().min(room);
        let format = FormatOptions::default().with_display_error(true);
        // What no line can show needs no memory either.
        let widest = match self.options.width {
            Some(width) if !self.options.expanded => width,
            _ => usize::MAX,
        };
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            let formatter =
                ArrayFormatter::try_new(array.as_ref(), &format).map_err(encoding_error)?;
            // Also what is NULL without a bitmap of its own: the null type, dictionaries.
            let nulls = array.logical_nulls();
            let is_null = |row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            column.cells.extend((0..rows).map(|row| {
                (!is_null(row)).then(|| {
                    let text = layout::printable(&formatter.value(row).to_string());
                    if column.elastic {
                        layout::shorten(&text, widest)
                    } else {
                        text
                    }
                })
            }));
        }
        self.row_count += rows;
        if rows < batch.num_rows() {
            self.capped = true;
            return Ok(Demand::Enough);
        }
        Ok(Demand::More)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.options.expanded {
            self.draw_expanded()?;
        } else {
            self.draw_table()?;
        }
        Ok(())
    }
}

impl Column {
    fn wish(&self) -> Wish {
        let value = self
            .cells
            .iter()
            .map(|cell| cell.as_deref().map_or("NULL".len(), layout::width))
            .max();
        Wish {
            name: layout::width(&self.name),
            value: value.unwrap_or(0),
            elastic: self.elastic,
        }
    }

    fn cell(&self, row: usize, width: usize, color: bool) -> String {
        match &self.cells[row] {
            Some(text) => padded(text, width, self.right),
            None => Style::Dim.paint(&padded("NULL", width, self.right), color),
        }
    }
}

fn write_line(
    out: &mut (dyn Write + Send),
    cells: impl Iterator<Item = String>,
    omitted: bool,
) -> io::Result<()> {
    let mut line = String::from(" ");
    let cells: Vec<String> = cells.chain(omitted.then(|| "…".to_string())).collect();
    line.push_str(&cells.join(" │ "));
    writeln!(out, "{}", line.trim_end())
}

/// `text` cut or filled up to `width` terminal columns.
fn padded(text: &str, width: usize, right: bool) -> String {
    let text = layout::shorten(text, width);
    let blanks = " ".repeat(width.saturating_sub(layout::width(&text)));
    if right {
        blanks + &text
    } else {
        text + &blanks
    }
}

fn is_elastic(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_elastic(values),
        other => {
            other.is_nested()
                || matches!(
                    other,
                    DataType::Utf8
                        | DataType::LargeUtf8
                        | DataType::Utf8View
                        | DataType::Binary
                        | DataType::LargeBinary
                        | DataType::BinaryView
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    fn drawn(options: TableOptions) -> (String, Demand) {
        let service: ArrayRef = Arc::new(StringViewArray::from(vec![
            Some("checkout"),
            None,
            Some("a service with a\nlong name"),
        ]));
        let spans: ArrayRef = Arc::new(Int64Array::from(vec![12, 3, 45_678]));
        let batch = RecordBatch::try_from_iter([("service", service), ("spans", spans)])
            .expect("the columns are equally long");
        let mut out = Vec::new();
        let mut writer = Box::new(TableWriter::new(&batch.schema(), &mut out, options));
        let demand = writer.write(&batch).expect("the rows can be shown");
        writer.finish().expect("memory can be written");
        (String::from_utf8_lossy(&out).into_owned(), demand)
    }

    #[test]
    fn a_table_sets_numbers_right_and_says_null() {
        let (table, demand) = drawn(TableOptions::default());
        let lines = [
            " service                     │ spans",
            "─────────────────────────────┼───────",
            " checkout                    │    12",
            " NULL                        │     3",
            " a service with a\\nlong name │ 45678",
            "(3 rows)",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), lines);
        assert_eq!(demand, Demand::More);
    }

    #[test]
    fn the_null_type_is_null_too() {
        let nulls: ArrayRef = Arc::new(arrow::array::NullArray::new(1));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", nulls, true)])
            .expect("one column makes a batch");
        let mut out = Vec::new();
        let options = TableOptions::default();
        let mut writer = Box::new(TableWriter::new(&batch.schema(), &mut out, options));
        writer.write(&batch).expect("the rows can be shown");
        writer.finish().expect("memory can be written");
        assert!(String::from_utf8_lossy(&out).contains(" NULL\n"));
    }

    #[test]
    fn a_narrow_terminal_cuts_texts() {
        let (table, _) = drawn(TableOptions {
            width: Some(22),
            ..TableOptions::default()
        });
        assert!(table.contains(" a service w… │ 45678\n"), "{table}");
        assert!(
            table.lines().all(|line| layout::width(line) <= 22),
            "{table}"
        );
    }

    #[test]
    fn the_cap_stops_the_query_and_is_said() {
        let (table, demand) = drawn(TableOptions {
            max_rows: Some(2),
            ..TableOptions::default()
        });
        assert_eq!(demand, Demand::Enough);
        assert!(table.ends_with("(the first 2 rows; there are more)\n"));
    }

    #[test]
    fn the_expanded_view_has_a_line_a_value() {
        let (table, _) = drawn(TableOptions {
            expanded: true,
            max_rows: Some(1),
            ..TableOptions::default()
        });
        assert!(
            table.contains(" service │ checkout\n spans   │ 12\n"),
            "{table}"
        );
    }

    #[test]
    fn columns_that_found_no_room_are_counted() {
        let (table, _) = drawn(TableOptions {
            width: Some(16),
            ..TableOptions::default()
        });
        assert!(table.contains("1 of 2 columns fit"), "{table}");
    }
}
