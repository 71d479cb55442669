//! Aligned columns of text.

use std::io::{self, Write};

use crate::output::Output;

/// What a cell means; only a terminal shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Something is going on.
    Busy,
    /// Something is wrong.
    Bad,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a meaning; nothing is shown as `-`.
    pub fn new(text: impl Into<String>, tone: Tone) -> Cell {
        let text = text.into();
        Cell { text: if text.is_empty() { "-".to_owned() } else { text }, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Tone::Plain)
    }
}

/// Rows under a heading.
#[derive(Debug, Clone)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// An empty table.
    pub fn new(heading: &[&'static str]) -> Table {
        Table { heading: heading.to_vec(), rows: Vec::new(), indent: 0 }
    }

    /// The same table, that many columns further right.
    #[must_use]
    pub fn indented(mut self, columns: usize) -> Table {
        self.indent = columns;
        self
    }

    /// Adds a row, with as many cells as the heading has.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heading.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints heading and rows; each column is as wide as its widest cell.
    pub fn write(&self, output: &mut Output) -> io::Result<()> {
        let heading: Vec<Cell> = self.heading.iter().map(|title| Cell::from(*title)).collect();
        let rows = || std::iter::once(&heading).chain(&self.rows);
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| rows().filter_map(|row| row.get(column)).map(width).max().unwrap_or(0))
            .collect();
        rows().try_for_each(|row| self.write_row(output, row, &widths))
    }

    fn write_row(&self, output: &mut Output, row: &[Cell], widths: &[usize]) -> io::Result<()> {
        write!(output, "{:1$}", "", self.indent)?;
        for (column, (cell, wide)) in row.iter().zip(widths).enumerate() {
            let last = column + 1 == row.len();
            let padding = if last { 0 } else { wide - width(cell) + 2 };
            write!(output, "{}{:padding$}", toned(output.colour, cell.tone, &cell.text), "")?;
        }
        writeln!(output)
    }
}

fn width(cell: &Cell) -> usize {
    cell.text.chars().count()
}

/// A text in its colour (ECMA-48 SGR).
pub fn toned(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Busy => 33,
        Tone::Bad => 31,
        Tone::Plain => return text.to_owned(),
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "RX"]);
        table.row(vec!["web".into(), Cell::new("Ready", Tone::Good), "1.2M".into()]);
        table.row(vec!["größer".into(), "".into(), "0".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_a_dash() {
        let text = captured(false, |output| sample().write(output));
        assert_eq!(text, "NAME    STATE  RX\nweb     Ready  1.2M\ngrößer  -      0\n");
    }

    #[test]
    fn colours_do_not_move_the_columns() {
        let text = captured(true, |output| sample().write(output));
        assert_eq!(text, "NAME    STATE  RX\nweb     \x1b[32mReady\x1b[0m  1.2M\ngrößer  -      0\n");
    }

    #[test]
    fn an_indented_table_starts_further_right() {
        let text = captured(false, |output| sample().indented(2).write(output));
        assert!(text.lines().all(|line| line.starts_with("  ")), "{text}");
    }
}
