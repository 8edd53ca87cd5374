//! Table: rows of words as Markdown, which reads in a terminal too.

pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers stand to the right.
    right: Vec<bool>,
}

impl Table {
    /// A heading that begins with `>` stands to the right, and so does its column.
    pub(super) fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let headings = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![headings], right }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.right.len(), "a row has a cell for each heading");
        self.rows.push(cells.into());
    }

    pub(super) fn row_of(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.right.len(), "a row has a cell for each heading");
        self.rows.push(cells);
    }

    pub(super) fn markdown(&self) -> String {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| self.line(row, &widths)).collect();
        lines.insert(1, self.rule(&widths));
        lines.join("\n")
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cell = |((cell, width), right): ((&String, &usize), &bool)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        };
        let cells: Vec<String> = row.iter().zip(widths).zip(&self.right).map(cell).collect();
        format!("| {} |", cells.join(" | "))
    }

    fn rule(&self, widths: &[usize]) -> String {
        let cell = |(width, right): (&usize, &bool)| {
            if *right { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(*width) }
        };
        let cells: Vec<String> = widths.iter().zip(&self.right).map(cell).collect();
        format!("| {} |", cells.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_in_columns() {
        let mut table = Table::new(&["what", ">per second"]);
        table.row(["bare".into(), "58,000".into()]);
        table.row(["µ".into(), "7".into()]);
        let wanted =
            "| what | per second |\n| ---- | ---------: |\n| bare |     58,000 |\n| µ    |          7 |";
        assert_eq!(table.markdown(), wanted);
    }
}
