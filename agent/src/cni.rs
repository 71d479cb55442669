//! The configuration that tells container runtimes to use Weft.
//!
//! It is there when, and only when, the node can serve: runtimes and the kubelet take the file as the sign of it. It
//! stays while the agent is down or restarts; taking it away is for uninstalling (`weft-cni uninstall`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{Config, Keeper};
use crate::error::Result;
use crate::file::{self, at};
use crate::mesh;

/// The first version of the specification that the plugin and every runtime in use know.
const CNI_VERSION: &str = "1.0.0";
/// What the names of configurations end in that were set aside.
const ASIDE: &str = "weft-aside";

/// The configuration file of a node.
#[derive(Debug, Clone)]
pub struct Conflist {
    folder: PathBuf,
    name: String,
    text: String,
    exclusive: bool,
}

impl Conflist {
    /// That of a configuration; none: the agent shall not write any.
    pub fn of(config: &Config) -> Option<Conflist> {
        let cni = &config.cni;
        if cni.conf_dir.as_os_str().is_empty() {
            return None;
        }
        let mut plugin = json!({
            "type": "weft-cni",
            "network": mesh::PODS,
            "socket": config.daemon_socket,
            "portType": cni.port_type,
            "capabilities": {"portMappings": true, "bandwidth": true, "ips": true, "mac": true},
        });
        // Annotations of pods are Kubernetes' alone.
        if cni.secondary_networks && config.cluster == Keeper::Kubernetes {
            plugin["podNetworks"] = json!({"socket": config.plugin_socket});
        }
        let list = json!({"cniVersion": CNI_VERSION, "name": "weft", "plugins": [plugin]});
        Some(Conflist {
            folder: cni.conf_dir.clone(),
            name: cni.conf_name.clone(),
            text: format!("{list:#}\n"),
            exclusive: cni.exclusive,
        })
    }

    /// Puts the file in place if it is not there as it should be, and others aside. True: something was changed.
    pub fn write(&self) -> Result<bool> {
        let path = self.folder.join(&self.name);
        let same = fs::read_to_string(&path).is_ok_and(|text| text == self.text);
        if !same {
            file::replace(&self.folder, &self.name, self.text.as_bytes())?;
        }
        let aside = self.exclusive && self.set_others_aside()?;
        Ok(!same || aside)
    }

    fn set_others_aside(&self) -> Result<bool> {
        let mut changed = false;
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            if !is_configuration(&path) || path.file_name().is_some_and(|name| *name == *self.name) {
                continue;
            }
            let mut name = path.clone().into_os_string();
            name.push(format!(".{ASIDE}"));
            fs::rename(&path, &name).map_err(at(&path))?;
            tracing::info!(file = %path.display(), "another network configuration was set aside: cni.exclusive is set");
            changed = true;
        }
        Ok(changed)
    }
}

/// What runtimes take for one, by its ending.
fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["conf", "conflist", "json"].iter().any(|known| ending == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("weft-agent-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn conflist(&self, exclusive: bool) -> Conflist {
            let mut config = Config::default();
            config.cni.conf_dir.clone_from(&self.0);
            config.cni.exclusive = exclusive;
            Conflist::of(&config).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_file_is_written_once_and_put_back_when_it_was_changed() {
        let folder = Folder::new("once");
        let conflist = folder.conflist(false);
        assert!(conflist.write().unwrap());
        assert!(!conflist.write().unwrap());
        assert_eq!(folder.names(), ["10-weft.conflist"]);
        let path = folder.0.join("10-weft.conflist");
        let list: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(list["plugins"][0]["network"], "pods");
        fs::write(&path, "{}").unwrap();
        assert!(conflist.write().unwrap());
    }

    #[test]
    fn others_are_set_aside_only_where_that_is_asked_for() {
        let folder = Folder::new("aside");
        for name in ["00-other.conf", "05-other.conflist", "readme.txt"] {
            fs::write(folder.0.join(name), "{}").unwrap();
        }
        folder.conflist(false).write().unwrap();
        assert_eq!(folder.names(), ["00-other.conf", "05-other.conflist", "10-weft.conflist", "readme.txt"]);
        folder.conflist(true).write().unwrap();
        let expected =
            ["00-other.conf.weft-aside", "05-other.conflist.weft-aside", "10-weft.conflist", "readme.txt"];
        assert_eq!(folder.names(), expected);
    }
}
