//! Each object against the schemas of several versions of Kubernetes.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::rendering::{VERSIONS, chart, helm, list, name, newest, objects, only, root, tool, values_files};

/// Makes an object wrong.
type Change = fn(&mut Value);

/// What `schemas.py` finds wrong; a line of its input is a version of Kubernetes, where the object comes from, and
/// the object.
fn mistakes(lines: impl IntoIterator<Item = (&'static str, String, Value)>) -> Result<String> {
    let mut python = Command::new("/usr/bin/python3")
        .arg(root().join("tests/tests/chart/schemas.py"))
        .args([tool("kubernetes-schemas")?, chart().join("crds")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut text = String::new();
    for (kubernetes, from, object) in lines {
        let line = json!({ "kubernetes": kubernetes, "from": from, "object": object });
        text.push_str(&format!("{line}\n"));
    }
    python.stdin.take().context("standard input")?.write_all(text.as_bytes())?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn lint_finds_nothing_with_any_values_file() {
    let path = chart();
    for file in values_files().unwrap() {
        let values = file.to_str().unwrap();
        let output = helm(&["lint", "--strict", "--values", values, path.to_str().unwrap()]).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{values}: {said}");
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{values}: {said}");
    }
}

#[test]
fn every_version_of_kubernetes_takes_what_is_rendered() {
    let lines = |kubernetes: &'static str| {
        let mut lines = Vec::new();
        for file in values_files().unwrap() {
            let name = name(&file);
            let rendered = objects(kubernetes, &name, &["--include-crds"]).unwrap();
            assert!(rendered.len() >= 3, "{name}: three objects at least expected");
            lines.extend(rendered.into_iter().map(|object| (kubernetes, name.clone(), object)));
        }
        lines
    };
    std::thread::scope(|scope| {
        let checks = VERSIONS.map(|kubernetes| scope.spawn(move || mistakes(lines(kubernetes)).unwrap()));
        for check in checks {
            assert_eq!(check.join().unwrap(), "");
        }
    });
}

#[test]
fn the_schemas_find_what_kubernetes_would_refuse() {
    let daemonset = only(&newest("default", &[]).unwrap(), "DaemonSet").unwrap().clone();
    let wrong: [(&str, Change); 4] = [
        ("hostNetwrok", |object| object["spec"]["template"]["spec"]["hostNetwrok"] = true.into()),
        ("spec/template/spec/hostPID", |object| object["spec"]["template"]["spec"]["hostPID"] = "yes".into()),
        ("'selector' is a required property", |object| {
            object["spec"].as_object_mut().unwrap().remove("selector");
        }),
        ("no apps/v2 DaemonSet", |object| object["apiVersion"] = "apps/v2".into()),
    ];
    let lines = wrong.map(|(expected, change)| {
        let mut changed = daemonset.clone();
        change(&mut changed);
        ("1.34", format!("<{expected}>"), changed)
    });
    let said = mistakes(lines).unwrap();
    for (expected, _) in wrong {
        let line = said.lines().find(|line| line.starts_with(&format!("<{expected}>")));
        assert!(line.is_some_and(|line| line.matches(expected).count() == 2), "{expected}: {said}");
    }
}

#[test]
fn an_older_kubernetes_gets_no_field_that_it_does_not_know() {
    let newest = only(&newest("default", &[]).unwrap(), "DaemonSet").unwrap().clone();
    let said = mistakes([("1.29", "newest".to_owned(), newest)]).unwrap();
    assert!(said.contains("appArmorProfile"), "{said}");
    let old = objects("1.29", "default", &[]).unwrap();
    let annotations = &only(&old, "DaemonSet").unwrap()["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["container.apparmor.security.beta.kubernetes.io/daemon"], "unconfined");
}

#[test]
fn names_are_of_the_release_and_its_namespace() {
    for (values, expected) in [("default", "weft"), ("everything", "pod-fabric")] {
        for object in newest(values, &[]).unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let kind = object["kind"].as_str().unwrap();
            let chosen = ["IPPool", "ServiceAccount"].contains(&kind);
            assert!(chosen || name.starts_with(expected), "{kind} {name}");
            let cluster_wide = ["IPPool", "ClusterRole", "ClusterRoleBinding"].contains(&kind);
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace == "kube-system" || cluster_wide && namespace.is_null(), "{kind} {name}");
        }
    }
}

#[test]
fn pools_become_objects_that_outlive_the_release() {
    let rendered = newest("dual-stack", &[]).unwrap();
    let pools: Vec<&Value> = rendered.iter().filter(|object| object["kind"] == "IPPool").collect();
    let specs: Vec<Value> = pools.iter().map(|pool| pool["spec"].clone()).collect();
    let expected = [
        json!({"cidr": "198.18.0.0/16"}),
        json!({"cidr": "fd00:198:18::/48", "blockSize": 64}),
        json!({"cidr": "192.0.2.0/24", "blockSize": 28, "network": "storage"}),
    ];
    assert_eq!(specs, expected);
    assert!(pools.iter().all(|pool| pool["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
}

#[test]
fn metrics_are_served_only_where_they_are_asked_for() {
    let kinds = |values: &str| -> Vec<String> {
        let rendered = newest(values, &[]).unwrap();
        rendered.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert!(!kinds("default").iter().any(|kind| kind.contains("Service") && kind != "ServiceAccount"));
    let rendered = newest("metrics", &[]).unwrap();
    let (service, monitor) =
        (only(&rendered, "Service").unwrap(), only(&rendered, "ServiceMonitor").unwrap());
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(!wanted.is_empty());
    for (label, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][label], value, "the monitor does not find the Service");
    }
    let pod = &only(&rendered, "DaemonSet").unwrap()["spec"]["template"];
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value, "the Service does not find the pods");
    }
    let ports = |ports: &Value| list(ports)[0]["name"].clone();
    let agent = super::rendering::named(&pod["spec"]["containers"], "agent").unwrap();
    assert_eq!(list(&agent["ports"])[0]["hostPort"], 9811);
    assert_eq!(ports(&service["spec"]["ports"]), list(&monitor["spec"]["endpoints"])[0]["port"]);
    assert_eq!(list(&service["spec"]["ports"])[0]["targetPort"], ports(&agent["ports"]));
}
