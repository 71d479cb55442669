//! What the chart tells the programs: the programs themselves read it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use weft_agent::cni::Conflist;
use weft_agent::config::Config;
use weft_testkit::binaries;

use super::rendering::{list, name, named, newest, only, pod, values_files};

/// A folder of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weft-chart-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn configuration(rendered: &[Value], file: &str) -> String {
    only(rendered, "ConfigMap").unwrap()["data"][file].as_str().unwrap().to_owned()
}

fn agents(values: &str) -> toml::Table {
    configuration(&newest(values, &[]).unwrap(), "agent.toml").parse().unwrap()
}

#[test]
fn the_daemon_takes_its_configuration() {
    let folder = Folder::new("daemon");
    let path = folder.0.join("weftd.toml");
    let daemon = binaries::find("weftd").unwrap();
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        Command::new(&daemon).arg("--check").arg("--config").arg(&path).output().unwrap()
    };
    assert!(!check("workerz = 1").status.success(), "a wrong configuration is taken");
    for file in values_files().unwrap() {
        let text = configuration(&newest(&name(&file), &[]).unwrap(), "weftd.toml");
        let output = check(&text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

#[test]
fn the_agent_takes_its_configuration() {
    let folder = Folder::new("agent");
    let path = folder.0.join("agent.toml");
    let agent = binaries::find("weft-agent").unwrap();
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        Command::new(&agent).args(["run", "--check", "--config"]).arg(&path).output().unwrap()
    };
    assert!(!check("[tunnel]\nmode = \"pigeons\"").status.success(), "a wrong configuration is taken");
    for file in values_files().unwrap() {
        let text = configuration(&newest(&name(&file), &[]).unwrap(), "agent.toml");
        let output = check(&text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

/// What the agent has written, the init container of the last values takes away, and nothing of others.
#[test]
fn the_plugin_takes_away_what_the_agent_has_written() {
    let folder = Folder::new("uninstall");
    let rendered = newest("uninstall", &[]).unwrap();
    let path = folder.0.join("agent.toml");
    fs::write(&path, configuration(&rendered, "agent.toml")).unwrap();
    let mut config = Config::load(Some(&path)).unwrap();
    config.cni.conf_dir = folder.0.join("etc/cni/net.d");
    assert!(Conflist::of(&config).unwrap().write().unwrap());
    let other = config.cni.conf_dir.join("20-other.conflist");
    fs::write(&other, r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}"#)
        .unwrap();
    let uninstall = named(&pod(&rendered).unwrap()["initContainers"], "uninstall-cni").unwrap();
    let arguments = list(&uninstall["args"]).iter().map(|word| word.as_str().unwrap());
    let host = folder.0.to_str().unwrap();
    let arguments = arguments.map(|word| word.replacen("/host", host, 1));
    let output = Command::new(binaries::find("weft-cni").unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = fs::read_dir(&config.cni.conf_dir).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [other]);
}

#[test]
fn the_daemons_values_are_in_its_configuration() {
    let text = configuration(&newest("everything", &[]).unwrap(), "weftd.toml");
    let expected: toml::Table = r#"
        workers = 2
        busy_poll_us = 0
        fast_path = false
        log = { level = "debug", format = "json" }
        endpoints = { collect_seconds = 300 }
    "#
    .parse()
    .unwrap();
    assert_eq!(text.parse::<toml::Table>().unwrap(), expected);
    // Without values it has what the file that ships has.
    let given: toml::Table = configuration(&newest("default", &[]).unwrap(), "weftd.toml").parse().unwrap();
    let shipped: toml::Table = include_str!("../../../daemon/weftd.toml").parse().unwrap();
    for (key, value) in given {
        match value {
            toml::Value::Table(section) => {
                section.iter().for_each(|(inner, value)| assert_eq!(shipped[&key][inner], *value, "{inner}"));
            }
            value => assert_eq!(shipped[&key], value, "{key}"),
        }
    }
}

#[test]
fn the_agents_values_are_in_its_configuration() {
    let expected: toml::Table = r#"
        cluster = "kubernetes"
        http_address = "127.0.0.1:9800"
        metrics_address = "127.0.0.1:9999"
        log_level = "debug"
        log_format = "json"
        [tunnel]
        mode = "vxlan"
        port = 4790
        vni = 77
        mtu = 1400
        [addresses]
        source = "pools"
        cluster = ["198.18.0.0/15"]
        masquerade = false
        masquerade_except = ["192.0.2.0/24"]
        [cni]
        conf_dir = "/etc/cni/net.d"
        conf_name = "05-weft.conflist"
        exclusive = false
        port_type = "tap"
        secondary_networks = false
        [keys]
        rotate_hours = 168
        [connectivity]
        dns = "192.0.2.53"
    "#
    .parse()
    .unwrap();
    assert_eq!(agents("everything"), expected);
}

#[test]
fn encryption_means_wireguard_and_no_encryption_vxlan() {
    let mode = |values: &str, options: &[&str]| {
        let text = configuration(&newest(values, options).unwrap(), "agent.toml");
        text.parse::<toml::Table>().unwrap()["tunnel"]["mode"].as_str().unwrap().to_owned()
    };
    assert_eq!(mode("default", &[]), "wireguard");
    assert_eq!(mode("default", &["--set", "tunnel.mode=wireguard"]), "wireguard");
    assert_eq!(mode("default", &["--set", "encryption.enabled=false"]), "vxlan");
    assert_eq!(mode("vxlan", &[]), "vxlan");
    assert_eq!(mode("routes", &[]), "routes");
}

#[test]
fn metrics_are_off_or_at_their_address() {
    assert_eq!(agents("default")["metrics_address"].as_str(), Some(""));
    assert_eq!(agents("metrics")["metrics_address"].as_str(), Some("[::]:9811"));
}

/// The folders that both programs have by default are mounted where they look for them.
#[test]
fn the_folders_of_the_configurations_are_mounted() {
    let rendered = newest("everything", &[]).unwrap();
    let containers = &pod(&rendered).unwrap()["containers"];
    let shipped: toml::Table = include_str!("../../../daemon/weftd.toml").parse().unwrap();
    let mounted = |container: &str, path: &str| {
        let mounts = list(&named(containers, container).unwrap()["volumeMounts"]);
        assert!(mounts.iter().any(|mount| mount["mountPath"] == path), "{container} has no {path}");
    };
    for folder in ["state_dir", "run_dir", "netns_dir"] {
        mounted("daemon", shipped[folder].as_str().unwrap());
    }
    let queue = shipped["endpoints"]["detach_queue"].as_str().unwrap();
    assert!(queue.starts_with(shipped["state_dir"].as_str().unwrap()), "{queue} is not on the node");
    mounted("agent", agents("everything")["cni"]["conf_dir"].as_str().unwrap());
    mounted("agent", "/run/weft");
}
