//! What the pods and the ServiceAccount may do: exactly what is listed, and no more.

use serde_json::{Value, json};

use super::rendering::{list, name, named, newest, only, pod, values_files};

const DAEMON: [&str; 6] = ["NET_ADMIN", "NET_RAW", "NET_BROADCAST", "SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT"];

fn containers(pod: &Value) -> Vec<&Value> {
    list(&pod["initContainers"]).iter().chain(list(&pod["containers"])).collect()
}

#[test]
fn no_container_is_privileged_or_may_become_more() {
    for file in values_files().unwrap() {
        let rendered = newest(&name(&file), &[]).unwrap();
        let containers = containers(pod(&rendered).unwrap());
        assert!(containers.len() >= 2);
        for container in containers {
            let context = &container["securityContext"];
            let told = format!("{}: {}", name(&file), container["name"]);
            assert_eq!(context["privileged"], false, "{told}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{told}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{told}");
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{told}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{told}");
        }
    }
}

#[test]
fn daemon_and_agent_have_the_capabilities_that_are_listed_and_nobody_else_has_any() {
    for values in ["default", "uninstall", "metrics"] {
        let rendered = newest(values, &[]).unwrap();
        for container in containers(pod(&rendered).unwrap()) {
            let added = &container["securityContext"]["capabilities"]["add"];
            let expected = match container["name"].as_str() {
                Some("daemon") => json!(DAEMON),
                Some("agent") => json!(["SYS_ADMIN"]),
                _ => Value::Null,
            };
            assert_eq!(*added, expected, "{values}: {}", container["name"]);
        }
    }
}

#[test]
fn an_agent_without_a_probe_has_no_capability_and_sees_no_namespaces() {
    let rendered = newest("default", &["--set", "agent.probe=false"]).unwrap();
    let agent = named(&pod(&rendered).unwrap()["containers"], "agent").unwrap();
    assert_eq!(agent["securityContext"]["capabilities"]["add"], Value::Null);
    assert!(list(&agent["volumeMounts"]).iter().all(|mount| mount["name"] != "netns"));
}

#[test]
fn the_api_servers_token_is_the_agents_alone() {
    let rendered = newest("default", &[]).unwrap();
    let pod = pod(&rendered).unwrap();
    assert_eq!(pod["automountServiceAccountToken"], false);
    for container in containers(pod) {
        let mounts = list(&container["volumeMounts"]);
        let has = mounts.iter().any(|mount| mount["name"] == "api-access");
        assert_eq!(has, container["name"] == "agent", "{}", container["name"]);
    }
    let sources = &named(&pod["volumes"], "api-access").unwrap()["projected"]["sources"];
    let paths = sources.to_string();
    for path in ["\"token\"", "\"ca.crt\"", "\"namespace\""] {
        assert!(paths.contains(path), "{path} is missing in {paths}");
    }
}

#[test]
fn the_agents_role_is_this_and_no_more() {
    let rendered = newest("default", &[]).unwrap();
    let role = only(&rendered, "ClusterRole").unwrap();
    let declared = ["networks", "routers", "tunnels"];
    let states = declared.map(|plural| format!("{plural}/status"));
    let expected = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["weft.dev"], "resources": declared, "verbs": ["list", "watch"]},
        {"apiGroups": ["weft.dev"], "resources": states, "verbs": ["patch"]},
        {"apiGroups": ["weft.dev"], "resources": ["ippools"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["weft.dev"], "resources": ["ippools/status"], "verbs": ["update"]},
        {"apiGroups": ["weft.dev"], "resources": ["weftnodes"], "verbs": ["list", "watch", "create", "patch"]},
        {"apiGroups": ["weft.dev"], "resources": ["weftnodes/status"], "verbs": ["patch"]},
    ]);
    assert_eq!(role["rules"], expected);
}

#[test]
fn of_services_the_agent_may_read_the_name_servers_alone_unless_it_is_told() {
    let rendered = newest("default", &["--set", "serviceAccount.name=other"]).unwrap();
    let (role, binding) = (only(&rendered, "Role").unwrap(), only(&rendered, "RoleBinding").unwrap());
    let expected = json!([
        {"apiGroups": [""], "resources": ["services"], "resourceNames": ["kube-dns"], "verbs": ["get"]},
    ]);
    assert_eq!(role["rules"], expected);
    for object in [role, binding] {
        assert_eq!(object["metadata"]["namespace"], "kube-system");
    }
    let subjects = json!([{"kind": "ServiceAccount", "name": "other", "namespace": "kube-system"}]);
    assert_eq!((&binding["subjects"], &binding["roleRef"]["name"]), (&subjects, &role["metadata"]["name"]));
    assert!(only(&newest("everything", &[]).unwrap(), "Role").is_err());
}

#[test]
fn the_role_is_bound_to_the_account_that_the_pods_have() {
    for (options, account) in [(&[][..], "weft"), (&["--set", "serviceAccount.name=other"][..], "other")] {
        let rendered = newest("default", options).unwrap();
        let binding = only(&rendered, "ClusterRoleBinding").unwrap();
        let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}]);
        assert_eq!(binding["subjects"], subjects);
        assert_eq!(binding["roleRef"]["name"], only(&rendered, "ClusterRole").unwrap()["metadata"]["name"]);
        assert_eq!(pod(&rendered).unwrap()["serviceAccountName"], account);
        assert_eq!(only(&rendered, "ServiceAccount").unwrap()["metadata"]["name"], account);
    }
}
