//! Values that are refused, with the name of the value in the message.

use super::rendering::template;

fn refused(values: &str) -> String {
    let output = template("1.34", &["--set-json", values]).unwrap();
    assert!(!output.status.success(), "{values} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn misspelled_values_are_named() {
    for (value, name) in [
        ("tunel={}", "'tunel'"),
        ("tunnel.mod=\"vxlan\"", "'mod'"),
        ("image.repo=\"x\"", "'repo'"),
        ("cni.binpath=\"/opt\"", "'binpath'"),
        ("ipam.pool=[]", "'pool'"),
        ("ipam.pools=[{\"name\":\"a\",\"cidr\":\"198.18.0.0/16\",\"size\":24}]", "'size'"),
        ("metrics.enable=true", "'enable'"),
        ("daemon.worker=1", "'worker'"),
        ("resources.request={}", "'request'"),
        ("updateStrategy.maxUnavailable=1", "'maxUnavailable'"),
        ("loglevel=\"info\"", "'loglevel'"),
    ] {
        let said = refused(value);
        assert!(said.contains("additional propert") && said.contains(name), "{value}: {said}");
    }
}

#[test]
fn wrong_types_and_values_out_of_range_are_named() {
    for (value, place) in [
        ("image.tag=1", "/image/tag"),
        ("image.digest=\"sha256:12\"", "/image/digest"),
        ("image.pullPolicy=\"Sometimes\"", "/image/pullPolicy"),
        ("tunnel.mode=\"ipip\"", "/tunnel/mode"),
        ("tunnel.port=80", "/tunnel/port"),
        ("tunnel.port=65536", "/tunnel/port"),
        ("tunnel.port=\"51820\"", "/tunnel/port"),
        ("tunnel.vni=16777216", "/tunnel/vni"),
        ("encryption.enabled=\"true\"", "/encryption/enabled"),
        ("mtu=1279", "/mtu"),
        ("keyRotation.hours=-1", "/keyRotation/hours"),
        ("ipam.mode=\"cluster-pool\"", "/ipam/mode"),
        ("ipam.pools=[{\"name\":\"a\"}]", "/ipam/pools/0"),
        ("ipam.pools=[{\"name\":\"a\",\"cidr\":\"198.18.0.0\"}]", "/ipam/pools/0/cidr"),
        ("masquerade.except=\"192.0.2.0/24\"", "/masquerade/except"),
        ("cni.binPath=\"opt/cni/bin\"", "/cni/binPath"),
        ("cni.confName=\"10-weft.conf\"", "/cni/confName"),
        ("cni.exclusive=1", "/cni/exclusive"),
        ("cni.portType=\"host\"", "/cni/portType"),
        ("k8sServiceHost=\"https://api.example.net\"", "/k8sServiceHost"),
        ("k8sServicePort=0", "/k8sServicePort"),
        ("metrics.port=\"metrics\"", "/metrics/port"),
        ("logLevel=\"loud\"", "/logLevel"),
        ("logFormat=\"xml\"", "/logFormat"),
        ("daemon.workers=257", "/daemon/workers"),
        ("daemon.busyPollMicroseconds=1000001", "/daemon/busyPollMicroseconds"),
        ("daemon.collectSeconds=86401", "/daemon/collectSeconds"),
        ("daemon.capabilities=[]", "/daemon/capabilities"),
        ("daemon.capabilities=[\"net_admin\"]", "/daemon/capabilities/0"),
        ("resources.requests.cpu=\"much\"", "/resources/requests/cpu"),
        ("tolerations=[{\"operator\":\"Any\"}]", "/tolerations/0/operator"),
        ("updateStrategy.rollingUpdate.maxUnavailable=0", "/updateStrategy/rollingUpdate/maxUnavailable"),
        ("extraArgs=\"--x\"", "/extraArgs"),
        ("extraEnv=[{\"value\":\"x\"}]", "/extraEnv/0"),
        ("podLabels.a=1", "/podLabels/a"),
    ] {
        let said = refused(value);
        assert!(said.contains(&format!("at '{place}'")), "{value}: {said}");
    }
}

#[test]
fn values_that_contradict_each_other_are_both_named() {
    for (values, names) in [
        ("tunnel.mode=\"vxlan\"", ["encryption.enabled is true", "tunnel.mode is \"vxlan\""]),
        ("tunnel.mode=\"routes\"", ["encryption.enabled is true", "tunnel.mode is \"routes\""]),
        (
            "encryption.enabled=false,tunnel.mode=\"wireguard\"",
            ["encryption.enabled is false", "tunnel.mode is \"wireguard\""],
        ),
        ("ipam.pools=[{\"name\":\"a\",\"cidr\":\"198.18.0.0/16\"}]", ["ipam.mode is \"node\"", "ipam.pools"]),
        (
            "metrics.serviceMonitor.enabled=true",
            ["metrics.serviceMonitor.enabled is true", "metrics.enabled is false"],
        ),
        ("metrics.enabled=true,metrics.port=9810", ["metrics.port", "agent.healthPort"]),
    ] {
        let said = refused(values);
        assert!(names.iter().all(|name| said.contains(name)), "{values}: {said}");
    }
}

#[test]
fn an_older_kubernetes_is_refused_with_what_is_needed() {
    let output = template("1.24", &[]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(">=1.25.0-0"), "{said}");
}
