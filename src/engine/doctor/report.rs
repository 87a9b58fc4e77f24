//! What the file `REPORT` beside what a repair sets aside says.

use std::fmt::{self, Write as _};

use super::{Diagnosis, Plan};

/// The last line, written when everything is done.
pub(super) const FINISHED: &str = "\nAll of this was done.\n";

/// All but the last line.
pub(super) fn text(diagnosis: &Diagnosis, plan: &Plan, moment: &str) -> String {
    let mut text = String::new();
    write_text(diagnosis, plan, moment, &mut text).expect("a String takes every text");
    text
}

fn write_text(diagnosis: &Diagnosis, plan: &Plan, moment: &str, out: &mut String) -> fmt::Result {
    writeln!(out, "campanile doctor --repair, {moment}")?;
    write_line(out, &diagnosis.data_dir.to_string_lossy())?;
    writeln!(out, "\nWhat was wrong:")?;
    for problem in &diagnosis.problems {
        write_line(out, &problem.with_causes())?;
    }
    if diagnosis.problems_left_out > 0 {
        writeln!(out, "- and {} more", diagnosis.problems_left_out)?;
    }
    writeln!(out, "\nWhat is done about it, in this order:")?;
    for action in &plan.actions {
        write_line(out, &action.to_string())?;
    }
    writeln!(out, "\nWhat is given up by it:")?;
    for loss in plan.losses() {
        write_line(out, &loss)?;
    }
    Ok(())
}

/// Names of files may hold anything, so what a terminal would obey is left out.
fn write_line(out: &mut String, entry: &str) -> fmt::Result {
    let plain: String = entry.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    writeln!(out, "- {plain}")
}
