//! Keeps `src/generated/` equal to what the .proto files say.
//!
//! `WEFT_BLESS=1 cargo test -p weft-proto --test generated` rewrites the files instead of comparing them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic_prost_build::Builder;

const FILES: [&str; 5] = [
    "weft/v1/resources.proto",
    "weft/v1/fabric.proto",
    "weft/v1/diagnostics.proto",
    "weft/v1/tunnels.proto",
    "weft/v1/endpoints.proto",
];

/// Messages with a choice of contents: `Resource` is written by hand, in the manifest's shape, and
/// `TraceRequest` and `AttachRequest` are never shown.
const WITHOUT_SERDE: [&str; 3] = ["Resource", "TraceRequest", "AttachRequest"];

/// Messages with secrets: how they look in a log is written by hand.
const WITHOUT_DEBUG: [&str; 3] =
    [".weft.v1.WireGuard", ".weft.v1.WireGuardPeer", ".weft.v1.RotateKeyRequest"];

#[test]
fn committed_code_and_descriptors_are_those_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = compile(root);
    let fresh = generate(&descriptors);
    for (name, bytes) in [("weft.v1.rs", fresh), ("weft.v1.bin", encode(descriptors))] {
        let committed = root.join("src/generated").join(name);
        if std::env::var_os("WEFT_BLESS").is_some() {
            fs::write(&committed, bytes).unwrap();
        } else {
            let same = fs::read(&committed).is_ok_and(|old| old == bytes);
            assert!(same, "src/generated/{name} is out of date: run WEFT_BLESS=1 cargo test -p weft-proto");
        }
    }
}

fn compile(root: &Path) -> FileDescriptorSet {
    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES).unwrap();
    compiler.file_descriptor_set()
}

/// The set as the reflection service gives it out: without comments.
fn encode(mut descriptors: FileDescriptorSet) -> Vec<u8> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    prost::Message::encode_to_vec(&descriptors)
}

fn generate(descriptors: &FileDescriptorSet) -> Vec<u8> {
    let out: PathBuf = [env!("CARGO_TARGET_TMPDIR"), "generated"].iter().collect();
    fs::create_dir_all(&out).unwrap();
    let mut builder =
        tonic_prost_build::configure().out_dir(&out).emit_rerun_if_changed(false).btree_map(".");
    builder = builder.skip_debug(WITHOUT_DEBUG);
    for file in descriptors.file.iter().filter(|file| file.package() == "weft.v1") {
        for message in file.message_type.iter().filter(|m| !WITHOUT_SERDE.contains(&m.name())) {
            builder = with_serde(builder, message, file.name() == FILES[0]);
        }
    }
    builder.compile_fds(descriptors.clone()).unwrap();
    fs::read(out.join("weft.v1.rs")).unwrap()
}

/// Every message can be shown; those of the resources can be read too.
fn with_serde(builder: Builder, message: &DescriptorProto, input: bool) -> Builder {
    let path = format!(".weft.v1.{}", message.name());
    let (derive, strict) = match input {
        true => ("serde::Serialize, serde::Deserialize", ", deny_unknown_fields, default"),
        false => ("serde::Serialize", ""),
    };
    let builder = builder
        .message_attribute(&path, format!("#[derive({derive})]"))
        .message_attribute(&path, format!("#[serde(rename_all = \"camelCase\"{strict})]"));
    message.field.iter().fold(builder, |builder, field| {
        builder.field_attribute(format!("{path}.{}", field.name()), attribute(field))
    })
}

/// How a field looks in JSON and YAML; what has its default value is left out.
fn attribute(field: &FieldDescriptorProto) -> String {
    let with = match (field.r#type(), field.type_name()) {
        (Type::Enum, name) => {
            format!(", with = \"crate::encoding::Word::<{}>\"", name.replace(".weft.v1.", ""))
        }
        (Type::Message, ".google.protobuf.Timestamp") => ", with = \"crate::encoding::timestamp\"".to_owned(),
        (Type::String, _) if field.name() == "allowed" => {
            ", deserialize_with = \"crate::encoding::numbers_or_texts\"".to_owned()
        }
        (Type::Bytes, _) => ", serialize_with = \"crate::encoding::hex\"".to_owned(),
        _ => String::new(),
    };
    format!("#[serde(skip_serializing_if = \"crate::encoding::is_default\"{with})]")
}
