//! The daemon as a service: readiness, logs, who may talk to it, and a second one beside it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::{Lab, LabOptions, Manifest, binaries};

const CONFIG: [&str; 2] = ["--config", "/run/lab/weftd.toml"];

fn weftd() -> Result<String> {
    binaries::find("weftd")?.into_os_string().into_string().ok().context("the path of weftd is not UTF-8")
}

#[test]
fn readiness_and_stopping_are_told_to_the_service_manager() {
    let options = LabOptions {
        environment: vec![("NOTIFY_SOCKET".into(), "/run/lab/notify".into())],
        ..LabOptions::default()
    };
    Lab::test_with(&options, |lab| {
        let manager = UnixDatagram::bind(lab.path("/run/lab/notify"))?;
        manager.set_read_timeout(Some(Duration::from_secs(20)))?;
        lab.restart()?;
        wait_for_word(&manager, "READY=1")?;
        lab.stop_daemon()?;
        wait_for_word(&manager, "STOPPING=1")
    });
}

fn wait_for_word(manager: &UnixDatagram, word: &str) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = manager.recv(&mut message).with_context(|| format!("waiting for {word}"))?;
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == word) {
            return Ok(());
        }
    }
}

#[test]
fn logs_can_be_json_objects_one_a_line() {
    let options = LabOptions { log_format: "json".into(), ..LabOptions::default() };
    Lab::test_with(&options, |lab| {
        lab.apply(&Manifest::new().namespace("logged"))?;
        lab.stop_daemon()?;
        let log = lab.log();
        ensure!(log.contains("logged"), "the namespace is not in the log");
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
        }
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    Lab::test(|lab| {
        let output = lab.node().exec(&[&[weftd()?.as_str()], &CONFIG[..]].concat())?;
        ensure!(output.code == Some(1), "a refusal expected: {output}");
        ensure!(output.stderr.contains("/run/lab/state"), "the state's folder expected: {output}");
        lab.weft(&["status"])?.ok().map(drop)
    });
}

#[test]
fn another_user_is_refused_even_when_the_socket_lets_him_in() {
    Lab::test(|lab| {
        fs::set_permissions(lab.path("/run/weft/weftd.sock"), Permissions::from_mode(0o666))?;
        fs::copy(binaries::find("weft")?, lab.path("/run/lab/weft"))?;
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let output = lab.node().exec(&[&nobody[..], &["/run/lab/weft", "status"]].concat())?;
        let refusal = output.fails_with(1)?;
        ensure!(refusal.contains("only root and the daemon's own user"), "{refusal}");
        ensure!(lab.log().contains("65534"), "the refusal is not in the log");
        lab.weft(&["status"])?.ok().map(drop)
    });
}

#[test]
fn a_wrong_configuration_is_refused_with_field_and_value() {
    Lab::test(|lab| {
        lab.node().exec(&[&[weftd()?.as_str(), "--check"], &CONFIG[..]].concat())?.ok()?;
        for (line, word) in [("wrokers = 2", "wrokers"), ("workers = \"two\"", "workers")] {
            fs::write(lab.path("/run/lab/wrong.toml"), line)?;
            let output = lab.node().exec(&[&weftd()?, "--check", "--config", "/run/lab/wrong.toml"])?;
            ensure!(output.code == Some(1) && output.stderr.contains(word), "{word} expected: {output}");
        }
        Ok(())
    });
}
