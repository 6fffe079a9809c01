//! What a conformance test tells of a file of cases: one row of the table in the README, which must say the same.

/// The cases of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) run: usize,
    /// Those that hold.
    pub(crate) passed: usize,
    /// Those that do not, by name and with a reason.
    pub(crate) excused: usize,
}

impl Tally {
    /// Counts a case; one that fails, or passes although it is excused, is a failure.
    pub(crate) fn count(&mut self, id: &str, result: Result<(), String>, is_excused: bool, failures: &mut Vec<String>) {
        self.run += 1;
        match result {
            Ok(()) if is_excused => failures.push(format!("{id}: passes, but is excused")),
            Ok(()) => self.passed += 1,
            Err(_) if is_excused => self.excused += 1,
            Err(why) => failures.push(format!("{id}: {why}")),
        }
    }

    /// Prints the row; an error when the README has another one for this file. A corpus with another number of cases is not
    /// the README's.
    #[allow(clippy::print_stdout, reason = "the table is what a reader of the test's output wants")]
    pub(crate) fn tell(&self, file: &str) -> Result<(), String> {
        let row = format!("| {file} | {} | {} | {} |", self.run, self.passed, self.excused);
        println!("{row}");
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(readme).map_err(|error| error.to_string())?;
        let same_cases = format!("| {file} | {} | ", self.run);
        match readme.lines().find(|line| line.starts_with(&same_cases)) {
            Some(told) if !told.starts_with(&row) => Err(format!("the README says {told}, not {row}")),
            None if !readme.contains(&format!("| {file} | ")) => Err(format!("the README lacks the row {row}")),
            _ => Ok(()),
        }
    }
}
