//! The standard output: buffered, flushed before every wait, and content when nobody reads any more.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Where messages are printed.
#[derive(Debug)]
pub(super) struct Stdout(BufWriter<StdoutLock<'static>>);

impl Stdout {
    /// Takes the standard output for this program alone.
    pub(super) fn lock() -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints `text` on the standard output, once.
pub(super) fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = Stdout::lock();
    stdout.write_all(text)?;
    stdout.flush()
}

/// Output that waits for the next flush.
const BUFFER_BYTES: usize = 64 * 1024;
