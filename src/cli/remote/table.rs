//! Tables for people: columns as wide as what is in them, numbers to the right.

use super::lines::one_line;

/// To which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: one cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    /// The heading and the rows, without blanks at the ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let heading = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        std::iter::once(&heading)
            .chain(&self.rows)
            .map(|row: &Vec<String>| self.line(row))
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (at, ((_, side), cell)) in self.columns.iter().zip(row).enumerate() {
            let width = self.width(at);
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                Side::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.trim_end().to_owned()
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        let heading = self.columns.get(at).map_or(0, |(name, _)| name.len());
        cells.max().unwrap_or(0).max(heading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&[("QUEUE", Side::Left), ("READY", Side::Right), ("NOTE", Side::Left)]);
        table.row(["orders.billing".into(), "1".into(), String::new()]);
        table.row(["ü".into(), "1234567".into(), "a\nb".into()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines,
            ["QUEUE             READY  NOTE", "orders.billing        1", "ü               1234567  a\\nb"]
        );
    }
}
