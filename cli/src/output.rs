//! stdout: buffered, with colour when a person looks at it.

use std::io::{self, BufWriter, IsTerminal, Write};

/// Where a command prints to.
pub struct Output {
    writer: Box<dyn Write>,
    /// Whether colours are wanted.
    pub colour: bool,
    /// Whether a person looks at it.
    pub terminal: bool,
}

impl Output {
    /// The process's stdout; coloured on a terminal unless NO_COLOR is set to something.
    pub fn stdout() -> Output {
        let stdout = io::stdout();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = stdout.is_terminal();
        Output { writer: Box::new(BufWriter::new(stdout)), colour: terminal && !plain, terminal }
    }

    /// Prints a value as indented JSON.
    pub fn json<T: serde::Serialize>(&mut self, value: &T) -> Result<(), crate::error::Error> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(writeln!(self, "{text}")?)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `print` writes.
    pub fn captured<E: std::fmt::Debug>(
        colour: bool,
        print: impl FnOnce(&mut Output) -> Result<(), E>,
    ) -> String {
        let bytes = Rc::new(RefCell::new(Vec::new()));
        let mut output = Output { writer: Box::new(Shared(bytes.clone())), colour, terminal: false };
        print(&mut output).unwrap();
        String::from_utf8(bytes.take()).unwrap()
    }
}
