//! Router solicitations and advertisements (RFC 4861 sections 4.1, 4.2 and 4.6) with the options for name servers
//! (RFC 8106 section 5).

use std::net::Ipv6Addr;

use super::icmpv6::{self, OPTION_SOURCE_LINK_LAYER, fill_checksum, link_layer_option};
use super::{Malformed, read_u16, read_u32, write_u16};
use crate::{MacAddr, Prefix};

/// Octets of a solicitation without options.
pub const SOLICITATION_LENGTH: usize = 8;
/// Octets of an advertisement without options.
pub const HEADER_LENGTH: usize = 16;

const OPTION_PREFIX: u8 = 3;
const OPTION_MTU: u8 = 5;
const OPTION_DNS: u8 = 25;
const OPTION_SEARCH: u8 = 31;

const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// Reads a solicitation: the asker's link-layer address, if it tells it. The caller has checked hop limit, code and
/// checksum (RFC 4861 section 6.1.1).
pub fn parse_solicitation(message: &[u8]) -> Result<Option<MacAddr>, Malformed> {
    if message.len() < SOLICITATION_LENGTH || message[0] != icmpv6::ROUTER_SOLICITATION {
        return Err(Malformed("shorter than a router solicitation, or something else"));
    }
    link_layer_option(&message[SOLICITATION_LENGTH..], OPTION_SOURCE_LINK_LAYER)
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advertisement {
    /// The hop limit that hosts shall use; 0: what they like.
    pub hop_limit: u8,
    /// Addresses come by DHCPv6.
    pub managed: bool,
    /// Other things come by DHCPv6.
    pub other: bool,
    /// Seconds that the router may be a default router; 0: it may not.
    pub router_lifetime: u16,
    /// Milliseconds that a confirmation holds; 0: as the host likes.
    pub reachable_time: u32,
    /// Milliseconds between two solicitations; 0: as the host likes.
    pub retransmit_time: u32,
    /// The router's link-layer address.
    pub link_layer: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// The link's prefixes.
    pub prefixes: Vec<PrefixInformation>,
    /// Name servers, and for how many seconds.
    pub dns: Option<(u32, Vec<Ipv6Addr>)>,
    /// Domains to look short names up in, and for how many seconds.
    pub search: Option<(u32, Vec<String>)>,
}

/// A prefix of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Prefix,
    /// Its addresses are on the link.
    pub on_link: bool,
    /// Hosts make themselves addresses in it.
    pub autonomous: bool,
    /// Seconds for which it holds.
    pub valid: u32,
    /// Seconds for which those addresses are preferred.
    pub preferred: u32,
}

impl Advertisement {
    /// The message, checksum included. What does not fit into `room` octets is left out, the last options first.
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr, room: usize) -> Vec<u8> {
        let mut message = vec![0; HEADER_LENGTH];
        message[0] = icmpv6::ROUTER_ADVERTISEMENT;
        message[4] = self.hop_limit;
        message[5] = u8::from(self.managed) << 7 | u8::from(self.other) << 6;
        write_u16(&mut message, 6, self.router_lifetime);
        message[8..12].copy_from_slice(&self.reachable_time.to_be_bytes());
        message[12..16].copy_from_slice(&self.retransmit_time.to_be_bytes());
        for option in self.options() {
            if message.len() + option.len() <= room {
                message.extend(option);
            }
        }
        fill_checksum(source, destination, &mut message);
        message
    }

    fn options(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let link_layer = self
            .link_layer
            .map(|MacAddr([a, b, c, d, e, f])| vec![OPTION_SOURCE_LINK_LAYER, 1, a, b, c, d, e, f]);
        let mtu = self.mtu.map(|mtu| [&[OPTION_MTU, 1, 0, 0], &mtu.to_be_bytes()[..]].concat());
        let prefixes = self.prefixes.iter().map(PrefixInformation::option);
        let dns = self.dns.iter().filter(|(_, servers)| !servers.is_empty()).map(|(lifetime, servers)| {
            option(OPTION_DNS, *lifetime, servers.iter().flat_map(|server| server.octets()))
        });
        let search =
            self.search.iter().filter(|(_, domains)| !domains.is_empty()).map(|(lifetime, domains)| {
                option(OPTION_SEARCH, *lifetime, domains.iter().flat_map(|domain| encode_name(domain)))
            });
        link_layer.into_iter().chain(mtu).chain(prefixes).chain(dns).chain(search)
    }

    /// Reads the message. The caller has checked hop limit, code and checksum. Of several options of a kind, the
    /// first holds, but for prefixes.
    pub fn parse(message: &[u8]) -> Result<Advertisement, Malformed> {
        let Some(fixed) = message.first_chunk::<HEADER_LENGTH>() else {
            return Err(Malformed("shorter than a router advertisement"));
        };
        if fixed[0] != icmpv6::ROUTER_ADVERTISEMENT {
            return Err(Malformed("no router advertisement"));
        }
        let mut options = &message[HEADER_LENGTH..];
        let mut advertisement = Advertisement {
            hop_limit: fixed[4],
            managed: fixed[5] & 0x80 != 0,
            other: fixed[5] & 0x40 != 0,
            router_lifetime: read_u16(fixed, 6),
            reachable_time: read_u32(fixed, 8),
            retransmit_time: read_u32(fixed, 12),
            link_layer: link_layer_option(options, OPTION_SOURCE_LINK_LAYER)?,
            ..Advertisement::default()
        };
        // The walk above has found the lengths of all options right.
        while let [kind, units, ..] = *options {
            let (option, rest) = options.split_at((usize::from(units) * 8).min(options.len()));
            advertisement.take_option(kind, option)?;
            options = rest;
        }
        Ok(advertisement)
    }

    fn take_option(&mut self, kind: u8, option: &[u8]) -> Result<(), Malformed> {
        match (kind, option.len()) {
            (OPTION_MTU, 8) => self.mtu = self.mtu.or(Some(read_u32(option, 4))),
            (OPTION_PREFIX, 32) => self.prefixes.push(PrefixInformation::parse(option)?),
            (OPTION_DNS, 24..) if self.dns.is_none() => {
                let servers = option[8..].chunks_exact(16).map(address).collect();
                self.dns = Some((read_u32(option, 4), servers));
            }
            (OPTION_SEARCH, 16..) if self.search.is_none() => {
                self.search = Some((read_u32(option, 4), decode_names(&option[8..])?));
            }
            _ => {}
        }
        Ok(())
    }
}

impl PrefixInformation {
    fn option(&self) -> Vec<u8> {
        let mut option = vec![0; 32];
        option[..3].copy_from_slice(&[OPTION_PREFIX, 4, self.prefix.length()]);
        option[3] = if self.on_link { ON_LINK } else { 0 } | if self.autonomous { AUTONOMOUS } else { 0 };
        option[4..8].copy_from_slice(&self.valid.to_be_bytes());
        option[8..12].copy_from_slice(&self.preferred.to_be_bytes());
        if let std::net::IpAddr::V6(address) = self.prefix.address() {
            option[16..].copy_from_slice(&address.octets());
        }
        option
    }

    fn parse(option: &[u8]) -> Result<PrefixInformation, Malformed> {
        let prefix = Prefix::containing(address(&option[16..]).into(), option[2]);
        Ok(PrefixInformation {
            prefix: prefix.map_err(|_| Malformed("a prefix is longer than 128 bits"))?,
            on_link: option[3] & ON_LINK != 0,
            autonomous: option[3] & AUTONOMOUS != 0,
            valid: read_u32(option, 4),
            preferred: read_u32(option, 8),
        })
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[..16]);
    octets.into()
}

/// An option of RFC 8106: a lifetime, then its content, filled up with zeros.
fn option(kind: u8, lifetime: u32, content: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut option = vec![kind, 0, 0, 0];
    option.extend(lifetime.to_be_bytes());
    option.extend(content);
    option.resize(option.len().next_multiple_of(8), 0);
    option[1] = (option.len() / 8) as u8;
    option
}

/// A name as DNS writes it (RFC 1035 section 3.1); empty for what is none.
fn encode_name(name: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            return Vec::new();
        }
        encoded.push(label.len() as u8);
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    if encoded.len() > 255 { Vec::new() } else { encoded }
}

fn decode_names(mut bytes: &[u8]) -> Result<Vec<String>, Malformed> {
    let malformed = Malformed("a domain name is cut short or compressed");
    let mut names = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    while let [length, rest @ ..] = bytes {
        let length = usize::from(*length);
        if length > 63 || length > rest.len() {
            return Err(malformed);
        }
        if length > 0 {
            labels.push(String::from_utf8_lossy(&rest[..length]).into_owned());
        } else if !labels.is_empty() {
            names.push(std::mem::take(&mut labels).join("."));
        }
        bytes = &rest[length..];
    }
    if labels.is_empty() { Ok(names) } else { Err(malformed) }
}

#[cfg(test)]
mod tests;
