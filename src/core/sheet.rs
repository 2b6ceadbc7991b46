//! Rows as CSV for spreadsheets. A spreadsheet runs a cell that begins like a formula, and what a portal says can begin so:
//! such cells get an apostrophe before them, and stay text.

/// One row with its line end; cells are quoted where they must be.
pub fn line<Cell: AsRef<str>>(cells: &[Cell]) -> Vec<u8> {
    let mut sheet = csv::WriterBuilder::new().buffer_capacity(256).from_writer(Vec::new());
    // A row into memory can't fail.
    let _ = sheet.write_record(cells.iter().map(|cell| unarmed(cell.as_ref())));
    sheet.into_inner().unwrap_or_default()
}

fn unarmed(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_is_disarmed_and_nothing_else_is_touched() {
        for armed in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(unarmed(armed), format!("'{armed}"));
        }
        for harmless in ["", "JUNK", "7", "a=b", "2026-01-01T00:00:00+03:00"] {
            assert_eq!(unarmed(harmless), harmless);
        }
    }

    #[test]
    fn a_row_is_one_line_whose_cells_are_quoted_where_they_must_be() {
        let row = line(&["1", "=cmd|' /C calc'!A0", "a, \"b\"", "two\nlines", ""]);
        assert_eq!(
            String::from_utf8(row).unwrap(),
            "1,'=cmd|' /C calc'!A0,\"a, \"\"b\"\"\",\"two\nlines\",\n"
        );
    }
}
