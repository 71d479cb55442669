//! `weft-cni install` and `uninstall`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use weft_proto::v1::EndpointStatusResponse;

use crate::runtime::{Runtime, run};

fn weft_cni(runtime: &Runtime, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-cni"));
    command.arg(words[0]).arg("--bin-dir").arg(runtime.folder.join("bin"));
    command.arg("--conf-dir").arg(runtime.folder.join("net.d")).args(&words[1..]).output().unwrap()
}

fn install(runtime: &Runtime) -> Output {
    let socket = runtime.folder.join("weftd.sock");
    weft_cni(runtime, &["install", "--network=front", "--wait", "0", "--socket", socket.to_str().unwrap()])
}

fn plugin(runtime: &Runtime) -> PathBuf {
    runtime.folder.join("bin/weft-cni")
}

fn conflist(runtime: &Runtime) -> PathBuf {
    runtime.folder.join("net.d/10-weft.conflist")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_is_installed_works_and_is_left_alone_when_it_is_right() {
    let (runtime, _fake) = Runtime::with_daemon("install");
    let output = install(&runtime);
    assert!(output.status.success(), "{}", text(&output));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&plugin(&runtime)), mode(&conflist(&runtime))), (0o755, 0o644));
    assert_eq!(fs::read(plugin(&runtime)).unwrap(), fs::read(env!("CARGO_BIN_EXE_weft-cni")).unwrap());
    assert!(run(&plugin(&runtime), &[("CNI_COMMAND", "VERSION")], b"").ok()["supportedVersions"].is_array());
    let value: Value = serde_json::from_slice(&fs::read(conflist(&runtime)).unwrap()).unwrap();
    assert_eq!((&value["name"], &value["plugins"][0]["type"]), (&"weft".into(), &"weft-cni".into()));
    // What a runtime would make of it works.
    let mut request = value["plugins"][0].clone();
    request["name"] = value["name"].clone();
    request["cniVersion"] = "1.1.0".into();
    runtime.call_with("STATUS", request.to_string().as_bytes()).ok();
    let before = [plugin(&runtime), conflist(&runtime)].map(|path| fs::metadata(path).unwrap().ino());
    assert_eq!(text(&install(&runtime)).matches("unchanged").count(), 2);
    let after = [plugin(&runtime), conflist(&runtime)].map(|path| fs::metadata(path).unwrap().ino());
    assert_eq!(before, after);
    assert_eq!((files(&runtime.folder.join("bin")), files(&runtime.folder.join("net.d"))), (1, 1));
}

#[test]
fn a_plugin_that_runs_is_no_obstacle() {
    let (runtime, _fake) = Runtime::with_daemon("running");
    fs::create_dir_all(runtime.folder.join("bin")).unwrap();
    // An older build: the same program with something after its end.
    let mut old = fs::read(env!("CARGO_BIN_EXE_weft-cni")).unwrap();
    old.push(0);
    fs::write(plugin(&runtime), old).unwrap();
    fs::set_permissions(plugin(&runtime), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(plugin(&runtime));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = command.env("CNI_COMMAND", "STATUS").spawn().unwrap();
    let output = install(&runtime);
    assert!(text(&output).contains("weft-cni replaced"), "{}", text(&output));
    drop(running.stdin.take());
    running.wait().unwrap();
}

#[test]
fn the_configuration_waits_for_the_daemon() {
    let runtime = Runtime::new("install-waits");
    let output = install(&runtime);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("daemon is not ready"), "{}", text(&output));
    assert!(plugin(&runtime).exists() && !conflist(&runtime).exists());
    let fake = runtime.start_daemon();
    let message = "network \"front\" does not exist".to_owned();
    fake.state().status = Some(EndpointStatusResponse { message, ..EndpointStatusResponse::default() });
    let output = install(&runtime);
    assert!(text(&output).contains("network \"front\" does not exist"), "{}", text(&output));
    assert!(!conflist(&runtime).exists());
    fake.state().status = None;
    assert!(install(&runtime).status.success());
    assert!(conflist(&runtime).exists());
}

#[test]
fn files_of_others_are_neither_replaced_nor_removed() {
    let (runtime, _fake) = Runtime::with_daemon("foreign");
    for path in [plugin(&runtime), conflist(&runtime)] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let bridge = r#"{"cniVersion": "1.0.0", "name": "b", "plugins": [{"type": "bridge"}]}"#;
    for (path, content) in [(plugin(&runtime), "#!/bin/sh\n"), (conflist(&runtime), bridge)] {
        fs::write(&path, content).unwrap();
        for output in [install(&runtime), weft_cni(&runtime, &["uninstall"])] {
            assert_eq!(output.status.code(), Some(1));
            assert!(text(&output).contains("is not Weft's"), "{}", text(&output));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        fs::remove_file(&path).unwrap();
    }
    assert_eq!((files(&runtime.folder.join("bin")), files(&runtime.folder.join("net.d"))), (0, 0));
}

#[test]
fn the_plugin_alone_needs_no_daemon() {
    let runtime = Runtime::new("install-plugin");
    let output = weft_cni(&runtime, &["install", "--plugin-only"]);
    assert!(output.status.success() && plugin(&runtime).exists(), "{}", text(&output));
    assert!(!conflist(&runtime).exists());
}

#[test]
fn uninstall_takes_both_files_away_and_can_be_repeated() {
    let (runtime, _fake) = Runtime::with_daemon("uninstall");
    assert!(install(&runtime).status.success());
    let output = weft_cni(&runtime, &["uninstall"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!((files(&runtime.folder.join("bin")), files(&runtime.folder.join("net.d"))), (0, 0));
    assert_eq!(text(&weft_cni(&runtime, &["uninstall"])).matches("was not there").count(), 2);
}

#[test]
fn wrong_words_are_wrong_usage() {
    for words in [&["frobnicate"][..], &["install"], &["uninstall", "--x", "y"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_weft-cni")).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output).contains("--help"));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_weft-cni")).arg("--help").output().unwrap();
    assert!(output.status.success() && text(&output).contains("uninstall"));
}
