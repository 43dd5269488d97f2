//! Aligned columns of plain text.

use std::fmt::Write as _;

use dayfly_server::record::one_line;

/// Rows under a line of headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new() };
        table.row(headings.iter().map(ToString::to_string));
        table
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// The rows as lines, each column as wide as its widest cell, the last one as it is.
    pub(super) fn lines(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(at) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        let mut lines = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

/// Names and values, a line each, the values one below the other.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<(&str, String)> = pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut lines = String::new();
    for (name, value) in pairs {
        let _ = writeln!(lines, "{name:<width$}  {}", one_line(&value));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["TASK", "STATE"]);
        table.row(["task_1".to_owned(), "open\u{1b}[2J".to_owned()]);
        assert_eq!(table.lines(), "TASK    STATE\ntask_1  open\\u{1b}[2J\n");
        let text = pairs([
            ("a", "1".to_owned()),
            ("none", String::new()),
            ("long", "2\n3".to_owned()),
        ]);
        assert_eq!(text, "a     1\nlong  2\\u{a}3\n");
    }
}
