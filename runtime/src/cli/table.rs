//! Table: rows for people. Whole in a pipe; on a terminal the last column is cut where the line ends.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Width};

use super::screen::{Screen, Tone, clean};

/// Two columns keep this distance.
const GAP: u16 = 2;
/// The last column is not cut below this; a narrower terminal wraps.
const LAST_COLUMN_MIN: u16 = 12;

pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    tones: Vec<Tone>,
}

impl Table {
    pub(super) fn new<const N: usize>(header: [&'static str; N]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new(), tones: Vec::new() }
    }

    /// Adds a row; what was written by strangers is cleaned here. An empty cell shows as `-`.
    pub(super) fn row<const N: usize>(&mut self, tone: Tone, cells: [String; N]) {
        debug_assert_eq!(cells.len(), self.header.len());
        let shown = |cell: &String| if cell.is_empty() { "-".to_owned() } else { clean(cell).into_owned() };
        self.rows.push(cells.iter().map(shown).collect());
        self.tones.push(tone);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table, each line ended.
    pub(super) fn show(&self, screen: &Screen) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(self.header.iter().copied());
        // Words would be kept whole; no cell has this character, so a text is cut where the line ends.
        table.set_delimiter('\0');
        table.add_rows(self.rows.iter().map(|cells| {
            let mut row = Row::from(cells.clone());
            row.max_height(1);
            row
        }));
        fit(&mut table, screen.width);
        let tones = std::iter::once(Tone::Head).chain(self.tones.iter().copied());
        let lines = table.lines().zip(tones).map(|(line, tone)| screen.paint(tone, line.trim_end()) + "\n");
        lines.collect()
    }
}

/// Every column as wide as its content, the last one as wide as the terminal leaves.
fn fit(table: &mut comfy_table::Table, width: Option<u16>) {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let Some(width) = width else {
        table.set_content_arrangement(ContentArrangement::Disabled);
        return;
    };
    let widths = table.column_max_content_widths();
    let Some((last, others)) = widths.split_last() else { return };
    let taken: u16 = others.iter().map(|w| w.saturating_add(GAP)).sum();
    let left = width.saturating_sub(taken).max(LAST_COLUMN_MIN);
    let whole = (*last).saturating_add(GAP);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_truncation_indicator("…");
    table.set_width(taken.saturating_add(left));
    let fixed = others.iter().map(|w| ColumnConstraint::Absolute(Width::Fixed(w.saturating_add(GAP))));
    let constraints: Vec<_> =
        fixed.chain([ColumnConstraint::Absolute(Width::Fixed(whole.min(left)))]).collect();
    table.set_constraints(constraints);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["DELIVERY", "STATUS", "MESSAGE"]);
        table.row(Tone::Plain, ["1f.to-slack".into(), "done".into(), String::new()]);
        let message = "503 from https://hooks.slack.com, \u{1b}[31mand then a long explanation".to_owned();
        table.row(Tone::Bad, ["2a0.to-crm".into(), "dead".into(), message]);
        table
    }

    #[test]
    fn a_pipe_gets_everything() {
        assert_eq!(
            table().show(&Screen::plain()),
            "\
DELIVERY     STATUS  MESSAGE
1f.to-slack  done    -
2a0.to-crm   dead    503 from https://hooks.slack.com, \u{fffd}[31mand then a long explanation
"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        let text = table().show(&Screen::terminal(48));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "\x1b[1mDELIVERY     STATUS  MESSAGE\x1b[0m");
        assert_eq!(lines[1], "1f.to-slack  done    -");
        assert!(
            lines[2].starts_with("\x1b[31m2a0.to-crm   dead    503 from https://hooks")
                && lines[2].contains('…')
        );
        assert!(lines[2].chars().count() <= 48 + "\x1b[31m\x1b[0m".len());
    }
}
