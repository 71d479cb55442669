//! Runs every target over its committed seeds: what once was found stays mended.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use weft_fuzz::TARGETS;

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    for seed in seeds {
        let data = fs::read(&seed).unwrap();
        let result = std::panic::catch_unwind(|| (target.run)(&data));
        assert!(result.is_ok(), "{} makes the target panic", seed.display());
    }
}

#[test]
fn every_target_has_seeds_and_every_folder_a_target() {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).unwrap();
    let mut folders: Vec<_> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    folders.sort();
    names.sort();
    assert_eq!(folders, names);
}

#[test]
fn seeds_of_frames_pass() {
    replay("frames");
}

#[test]
fn seeds_of_virtio_pass() {
    replay("virtio");
}

#[test]
fn seeds_of_sequence_pass() {
    replay("sequence");
}

#[test]
fn seeds_of_manifest_pass() {
    replay("manifest");
}

#[test]
fn seeds_of_trace_pass() {
    replay("trace");
}

#[test]
fn seeds_of_wireguard_pass() {
    replay("wireguard");
}

#[test]
fn seeds_of_tunnels_pass() {
    replay("tunnels");
}
