//! The DaemonSet's pods: where they run, what of the node they see, how they are looked after, and how they go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rendering::{list, named, newest, only, pod};

#[test]
fn pods_come_before_all_others_and_need_no_cluster_network() {
    let rendered = newest("default", &[]).unwrap();
    let pod = pod(&rendered).unwrap();
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["hostPID"], true);
    assert_eq!(pod["dnsPolicy"], "Default");
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    let everything = |effect: &str| json!({"operator": "Exists", "effect": effect});
    assert_eq!(pod["tolerations"], json!([everything("NoSchedule"), everything("NoExecute")]));
}

#[test]
fn the_nodes_folders_are_those_and_mounts_come_from_the_node_alone() {
    let rendered = newest("default", &[]).unwrap();
    let pod = pod(&rendered).unwrap();
    let volumes = list(&pod["volumes"]).iter().filter(|volume| !volume["hostPath"].is_null());
    let folders: BTreeMap<&str, &str> = volumes
        .map(|volume| (volume["name"].as_str().unwrap(), volume["hostPath"]["path"].as_str().unwrap()))
        .collect();
    let expected = [
        ("agent-state", "/var/lib/weft/agent"),
        ("cni-bin", "/opt/cni/bin"),
        ("cni-conf", "/etc/cni/net.d"),
        ("netns", "/run/netns"),
        ("run", "/run/weft"),
        ("state", "/var/lib/weft"),
        ("tun", "/dev/net/tun"),
    ];
    assert_eq!(folders, BTreeMap::from(expected));
    let daemon = named(&pod["containers"], "daemon").unwrap();
    for volume in ["run", "netns"] {
        let mount = named(&daemon["volumeMounts"], volume).unwrap();
        assert_eq!(mount["mountPropagation"], "HostToContainer", "{volume}");
    }
    // The API server refuses it in pods that are not privileged; the schemas know nothing of that.
    assert!(!pod.to_string().contains("Bidirectional"));
}

#[test]
fn every_mount_has_its_volume() {
    for values in ["default", "everything", "uninstall", "metrics"] {
        let rendered = newest(values, &[]).unwrap();
        let pod = pod(&rendered).unwrap();
        for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
            for mount in list(&container["volumeMounts"]) {
                named(&pod["volumes"], mount["name"].as_str().unwrap()).unwrap();
            }
        }
    }
}

#[test]
fn the_daemon_is_asked_over_its_socket_and_the_agent_over_http_on_the_node() {
    let rendered = newest("default", &["--set", "agent.healthPort=9800"]).unwrap();
    let pod = pod(&rendered).unwrap();
    let daemon = named(&pod["containers"], "daemon").unwrap();
    let agent = named(&pod["containers"], "agent").unwrap();
    for (probe, path) in
        [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(daemon[probe]["exec"]["command"], json!(["/usr/bin/weft", "status"]));
        assert_eq!(named(&daemon["env"], "WEFT_AGENT").unwrap()["value"], "http://127.0.0.1:9800");
        let request = json!({"host": "127.0.0.1", "port": 9800, "path": path});
        assert_eq!(agent[probe]["httpGet"], request);
    }
    let config = &only(&rendered, "ConfigMap").unwrap()["data"]["agent.toml"];
    assert!(config.as_str().unwrap().contains("127.0.0.1:9800"));
}

#[test]
fn requests_of_a_pod_are_at_most_100m_and_50_mi() {
    let rendered = newest("default", &[]).unwrap();
    let containers = list(&pod(&rendered).unwrap()["containers"]);
    let sum = |of: &str, unit: &str| -> u32 {
        let amounts =
            containers.iter().map(|container| container["resources"]["requests"][of].as_str().unwrap());
        amounts.map(|amount| amount.strip_suffix(unit).unwrap().parse::<u32>().unwrap()).sum()
    };
    assert!((1..=100).contains(&sum("cpu", "m")));
    assert!((1..=50).contains(&sum("memory", "Mi")));
}

#[test]
fn an_update_takes_as_many_nodes_at_once_as_the_value_says() {
    let strategy = |options: &[&str]| {
        let rendered = newest("default", options).unwrap();
        only(&rendered, "DaemonSet").unwrap()["spec"]["updateStrategy"].clone()
    };
    let rolling = |most: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}});
    assert_eq!(strategy(&[]), rolling(1.into()));
    let percent = "updateStrategy.rollingUpdate.maxUnavailable=10%";
    assert_eq!(strategy(&["--set", percent]), rolling("10%".into()));
    assert_eq!(strategy(&["--set", "updateStrategy.type=OnDelete"]), json!({"type": "OnDelete"}));
}

#[test]
fn pods_begin_anew_when_their_configuration_changes_and_only_then() {
    let checksum = |options: &[&str]| {
        let rendered = newest("default", options).unwrap();
        let template = &only(&rendered, "DaemonSet").unwrap()["spec"]["template"];
        template["metadata"]["annotations"]["checksum/config"].as_str().unwrap().to_owned()
    };
    assert_eq!(checksum(&[]), checksum(&["--set", "updateStrategy.rollingUpdate.maxUnavailable=3"]));
    assert_ne!(checksum(&[]), checksum(&["--set", "logLevel=debug"]));
    assert_ne!(checksum(&[]), checksum(&["--set", "mtu=1400"]));
}

#[test]
fn the_agent_reaches_an_api_server_that_is_named() {
    let environment = |values: &str| {
        let rendered = newest(values, &[]).unwrap();
        named(&pod(&rendered).unwrap()["containers"], "agent").unwrap()["env"].clone()
    };
    let value = |values: &str, name: &str| named(&environment(values), name).map(|v| v["value"].clone());
    assert_eq!(value("external-api-server", "KUBERNETES_SERVICE_HOST").unwrap(), "api.example.net");
    assert_eq!(value("external-api-server", "KUBERNETES_SERVICE_PORT").unwrap(), "8443");
    assert!(value("default", "KUBERNETES_SERVICE_HOST").is_err());
    let name = environment("default");
    let name = &named(&name, "NODE_NAME").unwrap()["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(name, "spec.nodeName");
}

#[test]
fn an_image_is_named_by_its_digest_or_its_tag() {
    let image = |values: &str, options: &[&str]| {
        let rendered = newest(values, options).unwrap();
        list(&pod(&rendered).unwrap()["containers"])[0]["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(image("default", &[]), concat!("weft.dev/weft:", env!("CARGO_PKG_VERSION")));
    assert_eq!(image("default", &["--set", "image.tag=2.0"]), "weft.dev/weft:2.0");
    let digest = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45";
    assert_eq!(image("digest", &[]), format!("registry.example.net/network/weft@sha256:{digest}"));
}

#[test]
fn everything_that_users_add_is_there() {
    let rendered = newest("everything", &[]).unwrap();
    let template = &only(&rendered, "DaemonSet").unwrap()["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["example.net/tier"], "node");
    assert_eq!(template["metadata"]["annotations"]["example.net/owner"], "network");
    let pod = &template["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "one"}, {"name": "two"}]));
    assert_eq!(pod["nodeSelector"]["weft.dev/node"], "true");
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["tolerations"], json!([{"key": "node.weft.dev/not-ready", "operator": "Exists"}]));
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    assert_eq!(named(&pod["volumes"], "cni-bin").unwrap()["hostPath"]["path"], "/usr/lib/cni");
    assert_eq!(named(&pod["volumes"], "cni-conf").unwrap()["hostPath"]["path"], "/etc/cni/multus/net.d");
    named(&pod["volumes"], "certificates").unwrap();
    for (container, arguments) in [
        (
            "daemon",
            json!(["--config", "/etc/weft/weftd.toml", "--mounts", "/proc/1/ns/mnt", "--log-level", "trace"]),
        ),
        ("agent", json!(["run", "--config", "/etc/weft/agent.toml", "--node-name", "elsewhere"])),
    ] {
        let container = named(&pod["containers"], container).unwrap();
        assert_eq!(container["args"], arguments);
        assert_eq!(named(&container["env"], "RUST_LOG").unwrap()["value"], "debug");
        let mount = named(&container["volumeMounts"], "certificates").unwrap();
        assert_eq!(mount["mountPath"], "/etc/ssl/certs");
        assert_eq!(container["imagePullPolicy"], "Never");
    }
}

#[test]
fn the_configuration_is_taken_away_only_when_that_is_asked_for() {
    let names = |pod: &Value, of: &str| -> Vec<String> {
        list(&pod[of]).iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    let rendered = newest("default", &[]).unwrap();
    let usual = pod(&rendered).unwrap();
    assert_eq!(names(usual, "initContainers"), ["install-cni"]);
    assert!(!usual.to_string().contains("uninstall") && !usual.to_string().contains("preStop"));
    // The daemon goes on to carry the pods that are there. The agent would write the configuration again.
    let rendered = newest("uninstall", &[]).unwrap();
    let last = pod(&rendered).unwrap();
    assert_eq!(names(last, "initContainers"), ["uninstall-cni"]);
    assert_eq!(names(last, "containers"), ["daemon"]);
    let arguments = &list(&last["initContainers"])[0]["args"];
    let folders = ["--bin-dir", "/host/opt/cni/bin", "--conf-dir", "/host/etc/cni/net.d"];
    let name = ["--conf-name", "10-weft.conflist"];
    assert_eq!(*arguments, json!([&["uninstall"][..], &folders, &name].concat()));
}
