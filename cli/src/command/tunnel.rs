//! `weft tunnel import` and `weft tunnel rotate`.

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::Path;

use weft_proto::v1::{
    ApplyRequest, Kind, ListRequest, Metadata, Resource, RotateKeyRequest, Tunnel, TunnelSpec, resource,
};
use weft_proto::{Client, manifest};

use super::{apply, files};
use crate::arguments::{Import, Rotate};
use crate::error::Error;
use crate::output::Output;
use crate::view::tunnel as tunnel_of;
use crate::wg_quick;

/// What stands for a secret in what is printed. The daemon takes it for no key.
const HIDDEN: &str = "(hidden)";

/// Makes a tunnel of a wg-quick file and applies it, or prints it.
pub async fn import(mut client: Client, arguments: Import, output: &mut Output) -> Result<(), Error> {
    let file = files::called(&arguments.file).into_owned();
    let lookup = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
    let imported = wg_quick::parse(&files::text(&arguments.file)?, &lookup);
    let imported = imported
        .map_err(|errors| Error::Import(errors.iter().map(|error| format!("{file}: {error}")).collect()))?;
    let name = match arguments.name {
        Some(name) => name,
        None => name_of(&arguments.file)
            .ok_or_else(|| Error::Import(vec![format!("{file} says no name for the tunnel: use --name")]))?,
    };
    let router = match arguments.router {
        Some(router) => router,
        None => only_router(&mut client).await?,
    };
    for note in &imported.notes {
        // Not on stdout, which a program may read.
        drop(writeln!(io::stderr(), "note: {note}"));
    }
    let tunnel = resource(name, TunnelSpec { router, ..imported.spec });
    if arguments.dry_run {
        return Ok(write!(output, "{}", manifest::to_yaml(&[without_secrets(tunnel)]))?);
    }
    let request =
        ApplyRequest { resources: vec![tunnel], no_wait: arguments.no_wait, ..ApplyRequest::default() };
    apply::request(client, request, output).await
}

/// Changes the key of a tunnel, and tells what peers shall know it by.
pub async fn rotate(mut client: Client, arguments: Rotate, output: &mut Output) -> Result<(), Error> {
    let private_key = match &arguments.private_key_file {
        Some(file) => files::text(file)?.trim().to_owned(),
        None => String::new(),
    };
    let Rotate { name, finish, .. } = arguments;
    let request = RotateKeyRequest { name: name.clone(), finish, private_key };
    let answer = client.tunnels.rotate_key(request).await?.into_inner();
    let (_, status) = tunnel_of(&answer.tunnel.unwrap_or_default());
    writeln!(output, "tunnel/{name} {}", if finish { "has one key" } else { "has a new key" })?;
    writeln!(output, "public key: {}", status.public_key)?;
    for key in &status.previous_public_keys {
        writeln!(output, "before:     {key}")?;
    }
    if !status.previous_public_keys.is_empty() {
        writeln!(output, "when all peers know the new key: weft tunnel rotate {name} --finish")?;
    }
    Ok(())
}

fn resource(name: String, spec: TunnelSpec) -> Resource {
    Resource {
        metadata: Some(Metadata { name, ..Metadata::default() }),
        kind: Some(resource::Kind::Tunnel(Tunnel { spec: Some(spec), status: None })),
    }
}

/// The name that a file has without its ending.
fn name_of(file: &Path) -> Option<String> {
    if file == Path::new("-") {
        return None;
    }
    Some(file.file_stem()?.to_str()?.to_ascii_lowercase().replace('_', "-"))
}

async fn only_router(client: &mut Client) -> Result<String, Error> {
    let request = ListRequest { kind: Kind::Router.into(), ..ListRequest::default() };
    let routers = client.fabric.list(request).await?.into_inner().resources;
    match &routers[..] {
        [only] => Ok(only.name().to_owned()),
        [] => Err(Error::Import(vec!["there is no Router for the tunnel to join: make one".to_owned()])),
        several => {
            let names: Vec<&str> = several.iter().map(Resource::name).collect();
            Err(Error::Import(vec![format!("--router says which Router it joins: {}", names.join(", "))]))
        }
    }
}

fn without_secrets(mut resource: Resource) -> Resource {
    if let Some(resource::Kind::Tunnel(Tunnel { spec: Some(spec), .. })) = &mut resource.kind
        && let Some(wireguard) = &mut spec.wireguard
    {
        let shared = wireguard.peers.iter_mut().map(|peer| &mut peer.preshared_key);
        for secret in shared.chain([&mut wireguard.private_key]).filter(|secret| !secret.is_empty()) {
            HIDDEN.clone_into(secret);
        }
    }
    resource
}
