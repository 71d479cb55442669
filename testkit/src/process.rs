//! Programs that run for a test: with a deadline, with their output kept, and never outliving the test.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::wait_until;

/// Longest time that a program may take which is waited for.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, or an error with everything that it said.
    pub fn ok(self) -> Result<String> {
        if self.success() { Ok(self.stdout) } else { bail!("{self}") }
    }

    /// Its standard error if it ended with `code`, or an error with everything that it said.
    pub fn fails_with(self, code: i32) -> Result<String> {
        if self.code == Some(code) { Ok(self.stderr) } else { bail!("exit code {code} expected: {self}") }
    }

    /// Standard output and error together.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { command, code, stdout, stderr } = self;
        write!(f, "`{command}` ended with {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    command: String,
    child: Child,
    stdout: Collector,
    stderr: Collector,
}

impl Process {
    /// Starts `command` and collects what it says. `input` is written to its standard input.
    pub fn spawn(mut command: Command, name: &str, input: Option<&str>) -> Result<Process> {
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
            let text = text.to_owned();
            // A program that ends without reading its input is not this function's error.
            thread::spawn(move || stdin.write_all(text.as_bytes()));
        }
        let stdout = Collector::start(child.stdout.take());
        let stderr = Collector::start(child.stderr.take());
        Ok(Process { command: name.to_owned(), child, stdout, stderr })
    }

    /// Its process id, as seen outside of the lab.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard output until now.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has said on standard error until now.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its output (standard output or error) contains `text`.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let seen = |p: &Process| p.stdout().contains(text) || p.stderr().contains(text);
        wait_until(DEADLINE, text, || seen(self) || !self.is_running())?;
        if seen(self) {
            Ok(())
        } else {
            bail!("`{}` ended before it said {text:?}: {}", self.command, self.said())
        }
    }

    /// Waits for its end; it is killed when it is not over in time.
    pub fn wait(mut self) -> Result<Output> {
        let over = wait_until(DEADLINE, &format!("the end of `{}`", self.command), || !self.is_running());
        if over.is_err() {
            self.end();
        }
        over.with_context(|| self.said())?;
        self.end_of_itself()
    }

    /// What it left, when it ends by itself; waited for without a deadline.
    pub(crate) fn end_of_itself(&mut self) -> Result<Output> {
        let status = self.child.wait().context("the exit status")?;
        Ok(self.output(status))
    }

    /// Sends SIGKILL, waits for the end, and gives what it said.
    pub fn kill(mut self) -> Output {
        let status = self.end();
        self.output(status)
    }

    /// Sends SIGTERM or another signal by name and does not wait.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().context("kill")?;
        if status.success() { Ok(()) } else { bail!("kill -s {name} {pid} failed") }
    }

    fn end(&mut self) -> ExitStatus {
        // Both only fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().unwrap_or_default()
    }

    fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }

    fn output(&mut self, status: ExitStatus) -> Output {
        self.stdout.finish();
        self.stderr.finish();
        Output {
            command: self.command.clone(),
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads a pipe to its end on a thread, so that a talkative program never blocks.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collector {
    fn start(pipe: Option<impl Read + Send + 'static>) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = bytes.clone();
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
                }
            })
        });
        Collector { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of the pipe, but not for a grandchild that keeps it open.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = wait_until(Duration::from_secs(1), "the end of the output", || reader.is_finished());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: Option<&str>) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command, script, input).unwrap()
    }

    #[test]
    fn output_and_exit_code_are_kept() {
        let output = shell("cat; echo oh >&2; exit 3", Some("in")).wait().unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.code), ("in", "oh\n", Some(3)));
        assert!(output.clone().ok().unwrap_err().to_string().contains("oh"));
        assert_eq!(output.fails_with(3).unwrap(), "oh\n");
    }

    #[test]
    fn a_word_of_a_running_program_can_be_waited_for() {
        let mut process = shell("echo ready; exec sleep 600", None);
        process.wait_for("ready").unwrap();
        assert!(process.is_running());
        assert_eq!(process.kill().code, None);
    }

    #[test]
    fn waiting_for_a_word_ends_when_the_program_does() {
        let error = shell("echo no", None).wait_for("yes").unwrap_err().to_string();
        assert!(error.contains("ended before it said \"yes\""), "{error}");
    }
}
