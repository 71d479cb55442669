//! Keeps `src/cluster/etcd/generated/` equal to what the .proto files say.
//!
//! `WEFT_BLESS=1 cargo test -p weft-agent --test generated` rewrites the files instead of comparing them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const PACKAGES: [&str; 2] = ["mvccpb", "etcdserverpb"];

#[test]
fn committed_code_is_that_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = generate(&root.join("proto"));
    for package in PACKAGES {
        let name = format!("{package}.rs");
        let bytes = fs::read(fresh.join(&name)).unwrap();
        let committed = root.join("src/cluster/etcd/generated").join(&name);
        if std::env::var_os("WEFT_BLESS").is_some() {
            fs::write(&committed, bytes).unwrap();
        } else {
            let same = fs::read(&committed).is_ok_and(|old| old == bytes);
            assert!(
                same,
                "{name} is out of date: run WEFT_BLESS=1 cargo test -p weft-agent --test generated"
            );
        }
    }
}

/// The folder with what was generated.
fn generate(protos: &Path) -> PathBuf {
    let files = PACKAGES.map(|package| format!("{package}.proto"));
    let mut compiler = protox::Compiler::new([protos]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(files).unwrap();
    let out: PathBuf = [env!("CARGO_TARGET_TMPDIR"), "etcd"].iter().collect();
    fs::create_dir_all(&out).unwrap();
    let builder = tonic_prost_build::configure().out_dir(&out).emit_rerun_if_changed(false);
    builder.build_server(false).compile_fds(compiler.file_descriptor_set()).unwrap();
    out
}
