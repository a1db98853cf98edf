//! The one writer of stdout: lines, tables and JSON values; what it prints is decided elsewhere.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;

use super::{Exit, Failure};

/// Where a command's data goes, and in which form it is wanted.
pub struct Output {
    sink: Box<dyn Write>,
    json: bool,
}

/// Why data did not reach its reader.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed the pipe: it has seen enough, as in `netslot list | head`.
    #[error("the reader of stdout has gone")]
    ReaderGone,
    /// Anything else, such as a full disk.
    #[error("write to stdout: {0}")]
    Write(io::Error),
}

impl Output {
    /// Buffered stdout; [`Output::finish`] must follow.
    #[must_use]
    pub fn stdout(json: bool) -> Self {
        Self::to(Box::new(BufWriter::new(io::stdout().lock())), json)
    }

    /// Any other sink: for tests.
    #[must_use]
    pub fn to(sink: Box<dyn Write>, json: bool) -> Self {
        Self { sink, json }
    }

    /// Whether JSON is wanted.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// Writes one JSON value on a line of its own.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OutputError> {
        let mut text = serde_json::to_vec(value).map_err(|e| OutputError::Write(e.into()))?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Writes one line of text.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn line(&mut self, line: impl fmt::Display) -> Result<(), OutputError> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes text that has its line ends already.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn text(&mut self, text: &str) -> Result<(), OutputError> {
        self.bytes(text.as_bytes())
    }

    /// Writes a table.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn table(&mut self, table: &Table) -> Result<(), OutputError> {
        self.bytes(table.to_string().as_bytes())
    }

    /// Hands what is buffered to the reader; for a command that goes on running after it has printed.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn flush(&mut self) -> Result<(), OutputError> {
        self.sink.flush().map_err(OutputError::from)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the reader has gone or the write fails.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.sink.write_all(bytes).map_err(OutputError::from)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Write(error) }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            // Nobody is left to read, and nothing went wrong with the command itself.
            OutputError::ReaderGone => Self::silent(Exit::Ok),
            OutputError::Write(_) => Self::new(Exit::Failed, error),
        }
    }
}

/// The text with its control characters escaped: what comes from other users must not drive the terminal.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// Head of a column, and which side its cells keep to.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Text.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Column {
    const fn head(self) -> &'static str {
        match self {
            Self::Left(head) | Self::Right(head) => head,
        }
    }
}

impl Table {
    /// A table of no rows yet.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, each cell made [`visible`]. Cells past the last column are left out, missing ones stay empty.
    pub fn row<C: fmt::Display>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut row: Vec<String> =
            cells.into_iter().take(self.columns.len()).map(|cell| visible(&cell.to_string())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<String> = self.columns.iter().map(|c| c.head().to_owned()).collect();
        let lines = || std::iter::once(&head).chain(&self.rows);
        let width = |i: usize| lines().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in lines() {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                line += &match column {
                    Column::Left(_) => format!("{cell:<width$}  "),
                    Column::Right(_) => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose reader is there for `left` bytes more, then ends as `end` says.
    struct Pipe {
        left: usize,
        end: ErrorKind,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            if taken == 0 && !bytes.is_empty() { Err(self.end.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_command_quietly() {
        let mut out = Output::to(Box::new(Pipe { left: 3, end: ErrorKind::BrokenPipe }), true);
        let error = out.value(&["a long", "value"]).expect_err("the pipe is shorter");
        assert!(matches!(error, OutputError::ReaderGone));
        let failure = Failure::from(error);
        assert_eq!((failure.exit(), failure.message()), (Exit::Ok, None));
    }

    #[test]
    fn a_full_disk_is_told() {
        let mut out = Output::to(Box::new(Pipe { left: 0, end: ErrorKind::StorageFull }), false);
        let failure = Failure::from(out.line("data").expect_err("no room"));
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.message().is_some_and(|m| m.starts_with("write to stdout: ")));
    }

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table = Table::new(&[Column::Right("SLOT"), Column::Left("STATE"), Column::Left("TAG")]);
        table.row(["7", "free", ""]);
        table.row(["4242", "quarantined", "büro"]);
        table.row(["12345"]);
        assert_eq!(table.to_string(), " SLOT  STATE        TAG\n    7  free\n 4242  quarantined  büro\n12345\n");
    }

    #[test]
    fn a_cell_cannot_drive_the_terminal() {
        let mut table = Table::new(&[Column::Left("TAG")]);
        table.row(["\x1b[2J\u{9b}x\n"]);
        assert_eq!(table.to_string(), "TAG\n\\u{1b}[2J\\u{9b}x\\n\n");
    }
}
