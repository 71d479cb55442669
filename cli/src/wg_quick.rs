//! WireGuard's configuration files, as wg-quick(8) and wg(8) read them, as the spec of a Tunnel.
//!
//! What Weft does in another way or not at all is noted; what cannot be understood is an error, with its line. Whether
//! the values are right is the daemon's to judge.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};

use weft_proto::v1::{TunnelSpec, WireGuard, WireGuardPeer};

/// Finds the addresses of a host name and a port.
pub type Resolve<'a> = &'a dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What was read.
#[derive(Debug, Default, PartialEq)]
pub struct Imported {
    /// What it says, but for the Router.
    pub spec: TunnelSpec,
    /// What the user should know of the way there.
    pub notes: Vec<String>,
}

/// Octets of `PersistentKeepalive`, the longest of all keys.
const LONGEST_KEY: usize = 19;

/// A file while it is read.
struct Reader<'a> {
    resolve: Resolve<'a>,
    section: Section,
    spec: TunnelSpec,
    wireguard: WireGuard,
    notes: Vec<String>,
    errors: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    None,
    Interface,
    Peer,
}

/// Reads a file. Errors begin with their line and are told together; they repeat no secret.
pub fn parse(text: &str, resolve: Resolve<'_>) -> Result<Imported, Vec<String>> {
    let mut reader = Reader {
        resolve,
        section: Section::None,
        spec: TunnelSpec::default(),
        wireguard: WireGuard::default(),
        notes: Vec::new(),
        errors: Vec::new(),
    };
    for (index, line) in text.lines().enumerate() {
        if let Err(error) = reader.line(line) {
            reader.errors.push(format!("line {}: {error}", index + 1));
        }
    }
    reader.finish()
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('[') {
            return self.begin(line);
        }
        let Some((key, value)) = line.split_once('=') else {
            // It may be the rest of a secret, so it is not repeated.
            return Err("no \"KEY = VALUE\"".to_owned());
        };
        let (key, value) = (shown(key.trim()), value.trim());
        if value.is_empty() {
            return Err(format!("{key} has no value"));
        }
        match self.section {
            Section::None => Err(format!("{key} stands before any section, [Interface] or [Peer] expected")),
            Section::Interface => self.interface(key, value),
            Section::Peer => self.peer(key, value),
        }
    }

    fn begin(&mut self, line: &str) -> Result<(), String> {
        if line.eq_ignore_ascii_case("[interface]") {
            self.section = Section::Interface;
        } else if line.eq_ignore_ascii_case("[peer]") {
            self.section = Section::Peer;
            self.wireguard.peers.push(WireGuardPeer::default());
        } else {
            return Err(format!("{line} is not a section, [Interface] or [Peer] expected"));
        }
        Ok(())
    }

    fn interface(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key.to_ascii_lowercase().as_str() {
            "privatekey" => self.wireguard.private_key = value.to_owned(),
            "listenport" => self.wireguard.listen_port = number(key, value)?,
            "mtu" => self.spec.mtu = number(key, value)?,
            "address" => {
                for address in list(value) {
                    self.spec.addresses.push(with_length(address)?);
                }
            }
            "dns" => {
                self.note(format_args!("{key} is left out: containers get their name servers from elsewhere"))
            }
            "table" if value.eq_ignore_ascii_case("auto") => {}
            "table" => self
                .note(format_args!("{key} = {value} is left out: the Router reaches what peers are allowed")),
            "preup" | "postup" | "predown" | "postdown" => {
                self.note(format_args!("{key} is left out: Weft runs no commands"));
            }
            "fwmark" | "saveconfig" => self.note(format_args!("{key} is left out: Weft has no use for it")),
            _ => return Err(format!("{key} is not a key of [Interface]")),
        }
        Ok(())
    }

    fn peer(&mut self, key: &str, value: &str) -> Result<(), String> {
        let endpoint = match key.eq_ignore_ascii_case("endpoint") {
            true => Some(self.endpoint(value)?),
            false => None,
        };
        let mut masked = Vec::new();
        // There is one since the section began.
        let Some(peer) = self.wireguard.peers.last_mut() else { return Ok(()) };
        match key.to_ascii_lowercase().as_str() {
            "publickey" => peer.public_key = value.to_owned(),
            "presharedkey" => peer.preshared_key = value.to_owned(),
            "endpoint" => peer.endpoint = endpoint.unwrap_or_default(),
            "persistentkeepalive" if value.eq_ignore_ascii_case("off") => {
                peer.persistent_keepalive_seconds = 0
            }
            "persistentkeepalive" => peer.persistent_keepalive_seconds = number(key, value)?,
            "allowedips" => {
                for given in list(value) {
                    let prefix = without_host_bits(given)?;
                    if given.contains('/') && !same_text(given, &prefix) {
                        masked.push(format!("{given} is taken as {prefix}, as WireGuard does"));
                    }
                    if !peer.allowed_prefixes.contains(&prefix) {
                        peer.allowed_prefixes.push(prefix);
                    }
                }
            }
            _ => return Err(format!("{key} is not a key of [Peer]")),
        }
        self.notes.extend(masked);
        Ok(())
    }

    /// An endpoint with an address: a name is looked up now, and not again.
    fn endpoint(&mut self, value: &str) -> Result<String, String> {
        if let Ok(endpoint) = value.parse::<SocketAddr>() {
            return Ok(endpoint.to_string());
        }
        let wrong = || format!("Endpoint: {value:?} is not HOST:PORT or [ADDRESS]:PORT");
        let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains([':', '[', ']']) {
            return Err(wrong());
        }
        let found =
            (self.resolve)(host, port).map_err(|error| format!("Endpoint: {host} is not found: {error}"))?;
        let first = found.first().ok_or_else(|| format!("Endpoint: {host} has no address"))?;
        self.note(format_args!("{host} is {} now; that stays, also when the name moves", first.ip()));
        Ok(first.to_string())
    }

    fn note(&mut self, text: impl Display) {
        self.notes.push(text.to_string());
    }

    fn finish(mut self) -> Result<Imported, Vec<String>> {
        if self.section == Section::None && self.errors.is_empty() {
            self.errors.push("no section in it, [Interface] expected".to_owned());
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        if self.wireguard.private_key.is_empty() {
            self.note("no PrivateKey: the key that is there stays, or the daemon makes one");
        }
        if self.wireguard.listen_port == 0 {
            self.note("no ListenPort: it listens on 51820");
        }
        let spec = TunnelSpec { wireguard: Some(self.wireguard), ..self.spec };
        Ok(Imported { spec, notes: self.notes })
    }
}

/// A key that may be repeated in an error. A line that was broken may begin with a part of a secret.
fn shown(key: &str) -> &str {
    let is_word = key.len() <= LONGEST_KEY && key.bytes().all(|octet| octet.is_ascii_alphabetic());
    if is_word { key } else { "what stands there" }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn number(key: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{key}: {value:?} is not a number"))
}

/// An address with its prefix length, which is that of a single address when it is left out.
fn with_length(text: &str) -> Result<String, String> {
    let (address, length) = split(text)?;
    Ok(format!("{address}/{length}"))
}

/// The prefix that an address is in.
fn without_host_bits(text: &str) -> Result<String, String> {
    let (address, length) = split(text)?;
    let masked = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    };
    Ok(format!("{masked}/{length}"))
}

fn split(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("{text:?} is not an address, with or without a prefix length");
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), |length| length.parse().map_err(|_| wrong()))?;
    if length > most { Err(wrong()) } else { Ok((address, length)) }
}

/// Whether two texts are the same prefix with the same address before the mask.
fn same_text(given: &str, prefix: &str) -> bool {
    with_length(given).is_ok_and(|given| given == prefix)
}

#[cfg(test)]
mod tests;
