//! What programs say of themselves.

use std::process::Command;

/// The first line that a program prints, if it is there and succeeds.
pub fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let first =
        String::from_utf8_lossy(&text).lines().map(str::trim).find(|line| !line.is_empty())?.to_owned();
    output.status.success().then_some(first)
}
