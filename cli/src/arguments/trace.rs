//! The arguments of `weft trace`: a packet in words, or which real packets to follow.

use std::net::IpAddr;

use clap::{ArgGroup, Args};

use super::TextFormat;

/// Arguments of `weft trace`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("protocol").args(["icmp", "tcp", "udp", "resolve"]))]
pub struct Trace {
    /// The port where the packet enters; with --live the default is all
    #[arg(required_unless_present = "live")]
    pub port: Option<String>,
    /// Destination address; with --live also a block
    #[arg(long, value_name = "ADDRESS", value_parser = block, required_unless_present_any = ["frame", "live"])]
    pub to: Option<Block>,
    /// Source address; default: the port's first of that family; with --live also a block
    #[arg(long, value_name = "ADDRESS", value_parser = block, conflicts_with = "frame")]
    pub from: Option<Block>,
    /// An echo request (the default); with --live all of ICMP
    #[arg(long)]
    pub icmp: bool,
    /// TCP to this port; with --live the default is all
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    pub tcp: Option<u16>,
    /// UDP to this port; with --live the default is all
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    pub udp: Option<u16>,
    /// An ARP request or neighbour solicitation for the destination
    #[arg(long)]
    pub resolve: bool,
    /// Source port of TCP or UDP
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<u16>,
    /// Octets of the IP packet; default: the smallest
    #[arg(long, value_name = "OCTETS")]
    pub size: Option<u16>,
    /// TTL or hop limit; default 64
    #[arg(long)]
    pub ttl: Option<u8>,
    /// Forbid fragmentation
    #[arg(long)]
    pub df: bool,
    /// Source MAC address; default: the port's
    #[arg(long, value_name = "MAC")]
    pub from_mac: Option<String>,
    /// Destination MAC address; default: the other port's or the gateway's
    #[arg(long, value_name = "MAC")]
    pub to_mac: Option<String>,
    /// VLAN tag of the frame; default: none
    #[arg(long, value_name = "ID")]
    pub vlan: Option<u16>,
    /// A whole Ethernet frame in hexadecimal digits, instead of --to
    #[arg(long, value_name = "HEX", value_parser = frame, conflicts_with_all = ["protocol", "source_port", "size", "ttl", "df", "from_mac", "to_mac", "vlan", "to"])]
    pub frame: Option<Frame>,
    /// Real packets instead of one in words.
    #[command(flatten)]
    pub live: Live,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: TextFormat,
}

/// Arguments of `weft trace --live`.
#[derive(Debug, Args)]
pub struct Live {
    /// Follow real packets, as they come
    #[arg(long, conflicts_with_all = ["frame", "size", "ttl", "df", "from_mac", "to_mac", "vlan"])]
    pub live: bool,
    /// Only from or to this MAC address
    #[arg(long, value_name = "MAC", requires = "live")]
    pub mac: Option<String>,
    /// One in so many of those that fit
    #[arg(long, value_name = "COUNT", requires = "live")]
    pub sample: Option<u32>,
    /// End after so many
    #[arg(short, long, value_name = "COUNT", requires = "live")]
    pub count: Option<u32>,
    /// End after so many seconds, at most 3600; default 60
    #[arg(long, value_name = "SECONDS", requires = "live")]
    pub seconds: Option<u32>,
}

/// An address, or a block of them in CIDR form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(pub String);

/// Octets of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

/// What is in a block is the daemon's to say; that it is none at all is told without asking.
fn block(text: &str) -> Result<Block, String> {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(_), Ok(_)) => Ok(Block(text.to_owned())),
        _ => Err("an IP address is expected, or with --live a block such as 198.18.1.0/24".to_owned()),
    }
}

fn frame(text: &str) -> Result<Frame, String> {
    let text: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let nibbles: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let nibbles = nibbles.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0);
    let nibbles = nibbles.ok_or("an even number of hexadecimal digits is expected")?;
    // Two digits make at most 255.
    Ok(Frame(nibbles.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()))
}
