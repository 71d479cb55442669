//! What a runtime says by the environment (section "Parameters" of the specification), with its rules.
//! CNI_ARGS are split up in [`crate::arguments`].

use std::ffi::OsString;

use weft_proto::v1::AttachmentKey;

use crate::failure::{Code, Failure};

/// Longest id of a container that the daemon takes.
const LONGEST_ID: usize = 253;
/// Longest name of a device in Linux, in bytes.
const LONGEST_INTERFACE: usize = 15;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// ADD.
    Add,
    /// DEL.
    Del,
    /// CHECK.
    Check,
    /// GC.
    Gc,
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

/// The parameters of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What is to be done.
    pub operation: Operation,
    /// Which attachment; empty for commands that are not about one.
    pub key: AttachmentKey,
    /// The container's namespace; empty when it is not told.
    pub netns: String,
    /// CNI_ARGS as they came.
    pub arguments: String,
    /// Where other plugins are, as `PATH`.
    pub path: OsString,
}

impl Operation {
    fn from_name(name: &str) -> Option<Operation> {
        Some(match name {
            "ADD" => Operation::Add,
            "DEL" => Operation::Del,
            "CHECK" => Operation::Check,
            "GC" => Operation::Gc,
            "STATUS" => Operation::Status,
            "VERSION" => Operation::Version,
            _ => return None,
        })
    }

    /// As CNI_COMMAND has it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Add => "ADD",
            Operation::Del => "DEL",
            Operation::Check => "CHECK",
            Operation::Gc => "GC",
            Operation::Status => "STATUS",
            Operation::Version => "VERSION",
        }
    }

    /// Whether it is about one attachment.
    fn has_attachment(self) -> bool {
        matches!(self, Operation::Add | Operation::Del | Operation::Check)
    }
}

impl Environment {
    /// Reads the variables by `get`, and checks those that the command needs.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Environment, Failure> {
        let text = |name: &str| match get(name).unwrap_or_default().into_string() {
            Ok(text) => Ok(text),
            Err(_) => Err(Failure::environment(name, "it is not UTF-8")),
        };
        let command = text("CNI_COMMAND")?;
        let operation = Operation::from_name(&command).ok_or_else(|| unknown_command(&command))?;
        let mut environment = Environment {
            operation,
            key: AttachmentKey::default(),
            netns: String::new(),
            arguments: String::new(),
            path: get("CNI_PATH").unwrap_or_default(),
        };
        if operation.has_attachment() {
            let needed: &[&str] = match operation {
                Operation::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
                _ => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            };
            let empty = |name: &&str| get(name).unwrap_or_default().is_empty();
            let missing: Vec<&str> = needed.iter().copied().filter(|name| empty(name)).collect();
            if !missing.is_empty() {
                return Err(Failure::environment(&missing.join(", "), format!("{command} needs it")));
            }
            environment.key =
                AttachmentKey { container_id: text("CNI_CONTAINERID")?, interface: text("CNI_IFNAME")? };
            environment.netns = text("CNI_NETNS")?;
            environment.arguments = text("CNI_ARGS")?;
            environment.check()?;
        }
        Ok(environment)
    }

    fn check(&self) -> Result<(), Failure> {
        let AttachmentKey { container_id, interface } = &self.key;
        if !is_name(container_id) || container_id.len() > LONGEST_ID {
            let details = format!(
                "{container_id:?} is no container id: up to {LONGEST_ID} letters, digits, \"_\", \".\" and \"-\" \
                 expected, beginning with a letter or digit"
            );
            return Err(Failure::environment("CNI_CONTAINERID", details));
        }
        if !is_interface(interface) {
            let details = format!(
                "{interface:?} cannot be a device: 1 to {LONGEST_INTERFACE} bytes expected, without \"/\", \":\" \
                 and white space, and not \".\" or \"..\""
            );
            return Err(Failure::environment("CNI_IFNAME", details));
        }
        // DEL needs no namespace, so that a strange one must not keep it from tidying up.
        if self.operation != Operation::Del && !self.netns.starts_with('/') {
            let details = format!("\"{}\" is no absolute path of a network namespace", self.netns);
            return Err(Failure::environment("CNI_NETNS", details));
        }
        Ok(())
    }
}

/// Whether a text can be a container's id or a network's name.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Whether Linux would take a text as the name of a device.
fn is_interface(text: &str) -> bool {
    (1..=LONGEST_INTERFACE).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

fn unknown_command(command: &str) -> Failure {
    let what = if command.is_empty() { "nothing".into() } else { format!("{command:?}") };
    Failure::new(
        Code::InvalidEnvironment,
        "CNI_COMMAND is missing or wrong",
        format!("ADD, DEL, CHECK, GC, STATUS or VERSION expected, not {what}; see `weft-cni --help`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 6] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Environment, Failure> {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Environment::read(|name| find(changes, name).or_else(|| find(&WHOLE, name)))
    }

    #[test]
    fn every_command_is_known_with_its_parameters() {
        for name in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            let environment = read(&[("CNI_COMMAND", name)]).unwrap();
            assert_eq!(environment.operation.name(), name);
            assert_eq!(environment.key.container_id.is_empty(), ["GC", "STATUS", "VERSION"].contains(&name));
        }
    }

    #[test]
    fn wrong_commands_are_refused() {
        for name in ["", "add", "ADD ", "UPDATE"] {
            let failure = read(&[("CNI_COMMAND", name)]).unwrap_err();
            assert_eq!(failure.code, 4);
            assert!(failure.message.contains("CNI_COMMAND"), "{failure}");
        }
    }

    #[test]
    fn container_ids_and_interfaces_obey_the_specification() {
        let wrong = [
            ("CNI_CONTAINERID", vec!["", "-c", ".c", "_c", "c/d", "c d", "c\n", "ü", "c@eth0"]),
            ("CNI_IFNAME", vec!["", ".", "..", "a/b", "a:b", "a b", "a\t", "a\u{a0}b", "abcdefghijklmnop"]),
            ("CNI_NETNS", vec!["", "run/netns/c1", "./c1"]),
        ];
        for (name, values) in wrong {
            for value in values {
                let failure = read(&[(name, value)]).unwrap_err();
                assert_eq!(failure.code, 4, "{name}={value:?}");
                assert!(failure.message.contains(name), "{failure}");
            }
        }
        for value in ["c", "0", "a_.-", "A1"] {
            assert_eq!(read(&[("CNI_CONTAINERID", value)]).unwrap().key.container_id, value);
        }
        for value in ["e", "abcdefghijklmno", "...", "a.b@c", "ü"] {
            assert_eq!(read(&[("CNI_IFNAME", value)]).unwrap().key.interface, value);
        }
        assert!(read(&[("CNI_CONTAINERID", &"c".repeat(253))]).is_ok());
        assert!(read(&[("CNI_CONTAINERID", &"c".repeat(254))]).is_err());
    }

    #[test]
    fn all_missing_variables_are_named_at_once() {
        let none = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
        let failure = read(&none).unwrap_err();
        assert_eq!(failure.message, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME is missing or wrong");
    }

    #[test]
    fn del_needs_no_namespace_and_no_path() {
        for netns in ["", "strange", "/gone"] {
            let changes = [("CNI_COMMAND", "DEL"), ("CNI_NETNS", netns), ("CNI_PATH", "")];
            assert_eq!(read(&changes).unwrap().netns, netns);
        }
    }

    #[test]
    fn commands_without_an_attachment_look_at_no_container() {
        let strange = [("CNI_CONTAINERID", "/"), ("CNI_IFNAME", "a b"), ("CNI_NETNS", "x")];
        for command in ["GC", "STATUS", "VERSION"] {
            read(&[&strange[..], &[("CNI_COMMAND", command)]].concat()).unwrap();
        }
    }
}
