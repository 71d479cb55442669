//! Wrong usage, told in one line like every other error; the argument parser's own text has several.

use clap::{CommandFactory, Error};

use crate::arguments::Arguments;

/// What is wrong with the arguments, and where help is.
pub fn line(error: &Error, arguments: impl Iterator<Item = String>) -> String {
    let text = error.render().to_string();
    let told = text.strip_prefix("error: ").unwrap_or(&text).lines().map(str::trim);
    let told = told.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut sentence = String::new();
    for part in told.filter(|part| !part.is_empty()) {
        let (joint, part) = match part.strip_prefix("tip: ") {
            Some(tip) => ("; ", tip),
            None => (" ", part),
        };
        if !sentence.is_empty() {
            sentence.push_str(joint);
        }
        sentence.push_str(part);
    }
    format!("{sentence}; `{} --help` tells more", command(arguments))
}

/// The command that was meant, as far as it can be seen.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let known = Arguments::command();
    match arguments.find(|word| known.find_subcommand(word).is_some()) {
        Some(command) => format!("weft {command}"),
        None => "weft".to_owned(),
    }
}
