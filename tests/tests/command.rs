//! The command line: what it changes, what it shows, and how it ends.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use serde_json::json;
use weft_testkit::topology::{self, A4, FAR_B4, FRONT_GATEWAY4};
use weft_testkit::{Lab, Manifest, PortKind};

fn contains(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} expected:\n{text}");
    }
    Ok(())
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    Lab::test(|lab| {
        let yaml = topology::one_network(PortKind::Tap, PortKind::Veth).to_string();
        let said = lab.weft_with_input(&["apply", "-f", "-", "--dry-run"], Some(&yaml))?.ok()?;
        contains(&said, &["port/a", "would be created"])?;
        ensure!(
            lab.weft(&["get", "all", "-o", "name"])?.ok()?.trim().is_empty(),
            "the dry run made something"
        );
        lab.try_apply(&yaml)?.ok()?;
        let said = lab.weft_with_input(&["apply", "-f", "-", "--dry-run"], Some(&yaml))?.ok()?;
        contains(&said, &["unchanged"])
    });
}

#[test]
fn prune_removes_what_the_label_selects_and_the_request_leaves_out() {
    Lab::test(|lab| {
        let both = Manifest::new().namespace("kept").namespace("dropped").label("set", "x");
        lab.apply(&both.and(Manifest::new().namespace("other")))?;
        let kept = Manifest::new().namespace("kept").label("set", "x").to_string();
        let apply = ["apply", "-f", "-", "--prune", "-l", "set=x"];
        contains(&lab.weft_with_input(&apply, Some(&kept))?.ok()?, &["namespace/dropped deleted"])?;
        ensure!(lab.namespaces()? == ["kept", "other"], "kept and other expected: {:?}", lab.namespaces()?);
        Ok(())
    });
}

#[test]
fn applying_the_same_again_changes_nothing() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest)?;
        let before =
            (lab.get("port", "a")?["metadata"].clone(), lab.get("port", "a")?["status"]["ifindex"].clone());
        contains(&lab.apply(&manifest)?, &["port/a unchanged", "port/b unchanged"])?;
        let after =
            (lab.get("port", "a")?["metadata"].clone(), lab.get("port", "a")?["status"]["ifindex"].clone());
        ensure!(before == after, "{before:?} became {after:?}");
        Ok(())
    });
}

#[test]
fn watch_shows_the_present_state_and_then_changes() {
    Lab::test(|lab| {
        lab.apply(&Manifest::new().namespace("first"))?;
        let mut watch = lab.weft_process(&["watch", "namespaces"], None)?;
        watch.wait_for("first")?;
        lab.apply(&Manifest::new().namespace("second"))?;
        watch.wait_for("second")?;
        lab.weft(&["delete", "namespace", "first"])?.ok()?;
        watch.wait_for("eleted")
    });
}

#[test]
fn trace_says_what_would_happen_and_sends_nothing() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(FAR_B4)?;
        let before = lab.get("port", "b")?["status"]["counters"]["txPackets"].clone();
        let trace = |args: &[&str]| lab.weft(&[&["trace", "a", "--to"], args].concat())?.ok();
        contains(&trace(&[FAR_B4, "--tcp", "443"])?, &["forwarded", "route", "b"])?;
        contains(&trace(&[FRONT_GATEWAY4])?, &["answered"])?;
        contains(&trace(&["198.19.9.9"])?, &["dropped", "no_route"])?;
        contains(&trace(&[FAR_B4, "--ttl", "1"])?, &["dropped", "ttl_expired"])?;
        contains(&trace(&[FAR_B4, "--from", "198.18.1.99"])?, &["dropped", "source_address_spoofed"])?;
        ensure!(lab.get("port", "b")?["status"]["counters"]["txPackets"] == before, "a trace sent something");
        Ok(())
    });
}

#[test]
fn ports_are_shown_at_a_glance() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(topology::NEAR_B4)?;
        let table = lab.weft(&["get", "ports"])?.ok()?;
        contains(&table, &["NAME", "ADDRESSES", "RX", "DROPS", A4, "front", "tap", "veth"])?;
        contains(&lab.weft(&["get", "port", "a", "-o", "yaml"])?.ok()?, &["kind: Port", "type: tap"])?;
        contains(&lab.weft(&["describe", "port", "a"])?.ok()?, &["Ready", A4])?;
        contains(&lab.weft(&["counters", "a"])?.ok()?, &["a"])?;
        lab.weft(&["status"])?.ok().map(drop)
    });
}

#[test]
fn what_get_shows_as_yaml_can_be_applied_again() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        let yaml = lab.weft(&["get", "all", "-o", "yaml"])?.ok()?;
        let said = lab.try_apply(&yaml)?.ok()?;
        ensure!(
            !said.contains("updated") && !said.contains("created"),
            "nothing to change expected:\n{said}"
        );
        Ok(())
    });
}

#[test]
fn an_object_that_others_refer_to_is_not_deleted() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        let text = lab.weft(&["delete", "network", "front"])?.fails_with(1)?;
        contains(&text, &["Port/a"])?;
        lab.container("a").reaches(topology::NEAR_B4)
    });
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    Lab::test(|lab| {
        lab.weft(&["get", "port", "nobody"])?.fails_with(4)?;
        lab.weft(&["delete", "port", "nobody"])?.fails_with(4)?;
        lab.weft(&["delete", "port", "nobody", "--ignore-missing"])?.ok()?;
        lab.weft(&["get"])?.fails_with(2)?;
        let text = lab.weft(&["--socket", "unix:///run/nobody.sock", "status"])?.fails_with(3)?;
        contains(&text, &["/run/nobody.sock"])?;
        ensure!(text.trim().lines().count() == 1, "one line expected:\n{text}");
        Ok(())
    });
}

#[test]
fn an_applied_object_that_is_not_ready_is_told_with_its_reason() {
    Lab::test(|lab| {
        lab.node().run("ip netns add taken")?.ok()?;
        lab.container("taken").run("ip link add eth0 type bridge")?.ok()?;
        let manifest = topology::front().adopted("taken", "/run/netns/taken").port(
            "t",
            json!({ "network": "front", "namespace": "taken", "type": "tap", "addresses": ["198.18.1.20/24"] }),
        );
        let output = lab.try_apply(&manifest.to_string())?;
        ensure!(output.code == Some(5), "exit code 5 expected: {output}");
        contains(&output.text(), &["DeviceNameTaken"])
    });
}

#[test]
fn the_socket_is_for_the_daemons_user_only() {
    Lab::test(|lab| {
        let mode = lab.path("/run/weft/weftd.sock").metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "mode 600 expected, {mode:o} found");
        Ok(())
    });
}
