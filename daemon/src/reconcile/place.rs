//! Where devices are looked for, and what the daemon's own are called there.
//!
//! Owns the marks by which a later daemon knows what an earlier one made. Reading and writing them is
//! left to [`observe`](super::observe) and [`realize`](super::realize).

use std::fmt;
use std::path::PathBuf;

use crate::model::{Attachment, Name, Namespace, Port, fnv1a};

/// A network namespace that may hold devices of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The namespace that the daemon runs in: `host` and `uplink` ports.
    Own,
    /// The namespace that the daemon keeps for the stack's ends of veth pairs.
    Ports,
    /// The namespace of this object.
    Namespace(Name),
}

impl Place {
    /// Where the device of `port` appears.
    pub fn of(port: &Port) -> Place {
        match &port.attachment {
            Attachment::Tap(namespace) | Attachment::Veth(namespace) => Place::Namespace(namespace.clone()),
            Attachment::Host | Attachment::Uplink => Place::Own,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Own => f.write_str("the daemon's own namespace"),
            Place::Ports => f.write_str("the namespace of veth host ends"),
            Place::Namespace(name) => write!(f, "Namespace/{name}"),
        }
    }
}

/// Whether `port` is a veth pair.
pub fn is_veth(port: &Port) -> bool {
    matches!(port.attachment, Attachment::Veth(_))
}

/// Whether `port` is a network card that others made.
pub fn is_uplink(port: &Port) -> bool {
    port.attachment == Attachment::Uplink
}

/// Whether `port` has its device where the daemon runs.
pub fn is_here(port: &Port) -> bool {
    matches!(port.attachment, Attachment::Host | Attachment::Uplink)
}

/// How a network card was before the daemon took it, to be put back when it lets go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// It was administratively up.
    pub up: bool,
    /// Its alias, where the mark is now.
    pub alias: Option<String>,
}

/// The name of the stack's end of a veth pair: `w` and ten hexadecimal digits of the Port's name (FNV-1a).
pub fn host_end(port: &Name) -> String {
    let hash = fnv1a(port.as_str().bytes());
    let folded = (hash ^ (hash >> 40)) & 0xff_ffff_ffff;
    format!("w{folded:010x}")
}

/// The marks (ifalias) of one daemon instance: `weft:<instance>:<kind>/<name>`. That of a network card tells
/// also how it was: `weft:<instance>:uplink/<name>/<up or down>/<alias>`.
#[derive(Debug, Clone)]
pub struct Marks {
    prefix: String,
}

/// What every daemon's marks begin with.
const ANY_DAEMON: &str = "weft:";

impl Marks {
    /// The longest alias that the kernel takes, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The marks of the daemon whose state carries this instance id.
    pub fn new(instance: &str) -> Marks {
        Marks { prefix: format!("{ANY_DAEMON}{instance}:") }
    }

    /// The mark of a network card that is a Port; may be longer than [`Marks::MAX_LENGTH`].
    pub fn uplink(&self, name: &Name, before: &Before) -> String {
        let state = if before.up { "up" } else { "down" };
        format!("{}uplink/{name}/{state}/{}", self.prefix, before.alias.as_deref().unwrap_or_default())
    }

    /// The Port that a network card with this alias was taken for, and how the card was before.
    pub fn taken_for(&self, alias: &str) -> Option<(Name, Before)> {
        let mut parts = alias.strip_prefix(&self.prefix)?.strip_prefix("uplink/")?.splitn(3, '/');
        let name = Name::new(parts.next()?).ok()?;
        let up = match parts.next()? {
            "up" => true,
            "down" => false,
            _ => return None,
        };
        let alias = parts.next().filter(|alias| !alias.is_empty()).map(str::to_owned);
        Some((name, Before { up, alias }))
    }

    /// Whether another daemon has put its mark there.
    pub fn is_anothers(&self, alias: &str) -> bool {
        alias.starts_with(ANY_DAEMON) && !alias.starts_with(&self.prefix)
    }

    /// Whether any daemon of Weft has put its mark there.
    pub fn is_wefts(&self, alias: &str) -> bool {
        alias.starts_with(ANY_DAEMON)
    }

    /// The mark of a Port's device, both ends of a veth pair.
    pub fn port(&self, name: &Name) -> String {
        format!("{}port/{name}", self.prefix)
    }

    /// The mark of a device whose Port is gone, and that goes by itself.
    pub fn retired(&self) -> String {
        format!("{}retired", self.prefix)
    }

    /// The mark of a namespace that the daemon made for this object.
    pub fn namespace(&self, name: &Name) -> String {
        format!("{}namespace/{name}", self.prefix)
    }

    /// The mark of the namespace of the stack's ends. No object can have it: names hold no '/'.
    pub fn ports_namespace(&self) -> String {
        format!("{}ports", self.prefix)
    }

    /// The instance whose mark the namespace of the stack's ends has.
    pub fn instance_of_ports(mark: &str) -> Option<&str> {
        mark.strip_prefix(ANY_DAEMON)?.strip_suffix(":ports")
    }

    /// What the daemon made a namespace with this mark for, such as `namespace/web`; `None`: it did not.
    pub fn made_for<'a>(&self, mark: &'a str) -> Option<&'a str> {
        let made_for = mark.strip_prefix(&self.prefix)?;
        (made_for == "ports" || made_for.starts_with("namespace/")).then_some(made_for)
    }

    /// The Port that a device with this alias was made for; `None`: the device is not this daemon's.
    pub fn owner(&self, alias: &str) -> Option<Name> {
        let name = alias.strip_prefix(&self.prefix)?.strip_prefix("port/")?;
        Name::new(name).ok()
    }
}

/// The folders where namespaces are reached by path.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Of the namespaces that the daemon makes for Namespace objects.
    pub netns: PathBuf,
    /// Of the daemon's own state of this boot.
    pub run: PathBuf,
}

impl Folders {
    /// Where the namespace of an object is entered.
    pub fn namespace(&self, name: &Name, spec: &Namespace) -> PathBuf {
        match spec {
            Namespace::Make => self.netns.join(name.as_str()),
            Namespace::Adopt(path) => path.clone(),
        }
    }

    /// Where the namespace of the stack's ends is entered.
    pub fn ports(&self) -> PathBuf {
        self.run.join("netns").join("ports")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_leads_back_to_its_port_only() {
        let marks = Marks::new("4f2a");
        let name = Name::new("web-1").unwrap();
        assert_eq!(marks.port(&name), "weft:4f2a:port/web-1");
        assert_eq!(marks.owner("weft:4f2a:port/web-1"), Some(name.clone()));
        for foreign in ["", "web-1", "weft:9999:port/web-1", "weft:4f2a:namespace/web-1", "weft:4f2a:port/A"]
        {
            assert_eq!(marks.owner(foreign), None, "{foreign}");
        }
        assert_eq!(marks.owner(&marks.namespace(&name)), None);
    }

    #[test]
    fn the_mark_of_a_card_tells_how_it_was() {
        let marks = Marks::new("4f2a");
        let name = Name::new("wan").unwrap();
        for before in [
            Before { up: true, alias: None },
            Before { up: false, alias: Some("to the roof/2nd floor".to_owned()) },
        ] {
            let mark = marks.uplink(&name, &before);
            assert_eq!(marks.taken_for(&mark), Some((name.clone(), before)));
            assert_eq!(marks.owner(&mark), None);
        }
        for foreign in ["weft:9999:uplink/wan/up/", "weft:4f2a:port/wan", "weft:4f2a:uplink/wan/maybe/", ""] {
            assert_eq!(marks.taken_for(foreign), None, "{foreign}");
        }
        assert!(marks.is_anothers("weft:9999:uplink/wan/up/") && !marks.is_anothers("to the roof"));
    }

    #[test]
    fn a_made_namespace_is_known_by_its_mark() {
        let marks = Marks::new("4f2a");
        let web = marks.namespace(&Name::new("web").unwrap());
        assert_eq!(marks.made_for(&web), Some("namespace/web"));
        assert_eq!(marks.made_for(&marks.ports_namespace()), Some("ports"));
        for foreign in ["", "weft:9999:namespace/web", "weft:4f2a:port/web"] {
            assert_eq!(marks.made_for(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_host_end_is_a_device_name_and_stable() {
        let end = host_end(&Name::new("web-1").unwrap());
        assert_eq!(end.len(), 11);
        assert_eq!(end, host_end(&Name::new("web-1").unwrap()));
        assert_ne!(end, host_end(&Name::new("web-2").unwrap()));
    }
}
