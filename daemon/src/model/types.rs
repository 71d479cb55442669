//! Small checked values: kinds, names, device names, MTUs, VLAN ids.
//!
//! A value that exists is right. The messages say what was given and what was expected; the field
//! that it stood in is added by whoever parses.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use weft_stack::config::UNTAGGED;

/// Why a small value cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Not a DNS label.
    #[error(
        "\"{0}\" is not a name, 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit, expected"
    )]
    Name(String),
    /// Nothing the kernel takes as a device name.
    #[error(
        "\"{0}\" is not a device name, 1 to 15 bytes without '/', ':', '%', white space or control characters, not \".\" or \"..\", expected"
    )]
    DeviceName(String),
    /// Out of range.
    #[error("{0} is not an MTU, {min} to {max} octets expected", min = Mtu::MIN, max = Mtu::MAX)]
    Mtu(u32),
    /// Out of range.
    #[error("{0} is not a VLAN id, 1 to 4094 expected")]
    VlanId(u32),
    /// Out of range.
    #[error("{0} is not a VNI, 0 to 16777215 expected")]
    Vni(u32),
}

/// The kinds of resources, in the order in which they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A network namespace.
    Namespace,
    /// An L2 segment.
    Network,
    /// A device on a Network.
    Port,
    /// An L3 domain.
    Router,
    /// A way to far ends.
    Tunnel,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 5] = [Kind::Namespace, Kind::Network, Kind::Port, Kind::Router, Kind::Tunnel];

    /// The kind's name as users write it: "Port".
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Network => "Network",
            Kind::Port => "Port",
            Kind::Router => "Router",
            Kind::Tunnel => "Tunnel",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object's name: a DNS label (RFC 1123 section 2.1), cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 63;

    /// Takes 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit.
    pub fn new(text: &str) -> Result<Name, ValueError> {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
        if !ends || bytes.len() > Self::MAX_LENGTH || !bytes.iter().all(|b| alphanumeric(b) || *b == b'-') {
            return Err(ValueError::Name(shown(text)));
        }
        Ok(Name(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Name::new(text)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Names one object: written `Port/web`, ordered by kind, then by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name, unique within the kind.
    pub name: Name,
}

impl ObjectRef {
    /// The object of this kind and name.
    pub fn new(kind: Kind, name: Name) -> ObjectRef {
        ObjectRef { kind, name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A name that the kernel takes for a network device (`dev_valid_name` in net/core/dev.c), cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(Arc<str>);

impl DeviceName {
    /// The longest name, in bytes: IFNAMSIZ without the closing zero.
    pub const MAX_LENGTH: usize = 15;

    /// Takes 1 to 15 bytes without '/', ':', white space or control characters, other than "." and "..".
    ///
    /// '%' is refused as well: the kernel would read it as a pattern and choose a number itself.
    pub fn new(text: &str) -> Result<DeviceName, ValueError> {
        let forbidden = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
        let wrong_length = text.is_empty() || text.len() > Self::MAX_LENGTH;
        if wrong_length || text == "." || text == ".." || text.contains(forbidden) {
            return Err(ValueError::DeviceName(shown(text)));
        }
        Ok(DeviceName(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeviceName::new(text)
    }
}

impl Borrow<str> for DeviceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DeviceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for DeviceName {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for DeviceName {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The largest IP packet of a link, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mtu(u32);

impl Mtu {
    /// The least that IPv4 needs (RFC 791 section 3.2).
    pub const MIN: u32 = 68;
    /// The least that IPv6 needs (RFC 8200 section 5).
    pub const MIN_IPV6: u32 = 1280;
    /// The most: a TAP device's 65535 octets less an Ethernet header, rounded down.
    pub const MAX: u32 = 65520;
    /// Ethernet's.
    pub const DEFAULT: Mtu = Mtu(1500);

    /// Takes 68 to 65520.
    pub fn new(octets: u32) -> Result<Mtu, ValueError> {
        if (Self::MIN..=Self::MAX).contains(&octets) { Ok(Mtu(octets)) } else { Err(ValueError::Mtu(octets)) }
    }

    /// The number of octets.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A VLAN identifier (IEEE 802.1Q clause 9.6): 0 and 4095 are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// Takes 1 to 4094.
    pub fn new(id: u32) -> Result<VlanId, ValueError> {
        match u16::try_from(id) {
            Ok(small @ 1..=4094) => Ok(VlanId(small)),
            _ => Err(ValueError::VlanId(id)),
        }
    }

    /// The identifier.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where in a Network that is, in words: "untagged" or "on VLAN 7".
pub fn on_vlan(vlan: u16) -> String {
    if vlan == UNTAGGED { "untagged".to_owned() } else { format!("on VLAN {vlan}") }
}

/// A VXLAN network identifier (RFC 7348 section 5): 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(u32);

impl Vni {
    /// Takes 0 to 16777215.
    pub fn new(id: u32) -> Result<Vni, ValueError> {
        if id < 1 << 24 { Ok(Vni(id)) } else { Err(ValueError::Vni(id)) }
    }

    /// The identifier.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What was given, bounded: a message never carries more than a line of it.
fn shown(text: &str) -> String {
    const LIMIT: usize = 80;
    let mut short: String = text.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

/// A number that differs for different octets as far as a number can (FNV-1a).
pub fn fnv1a(octets: impl Iterator<Item = u8>) -> u64 {
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", &"x".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        let error = Name::new("Web").unwrap_err().to_string();
        assert!(error.starts_with("\"Web\" is not a name, 1 to 63 lower-case letters"), "{error}");
    }

    #[test]
    fn device_names_are_what_the_kernel_takes() {
        for good in ["eth0", "a", "123456789012345", "wg-0.1", "..."] {
            assert_eq!(DeviceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "1234567890123456", "eth%d", "a\u{1}"] {
            assert!(DeviceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named_with_the_range() {
        assert_eq!(VlanId::new(4095).unwrap_err().to_string(), "4095 is not a VLAN id, 1 to 4094 expected");
        assert_eq!(VlanId::new(0).unwrap_err().to_string(), "0 is not a VLAN id, 1 to 4094 expected");
        assert_eq!(VlanId::new(70_000).unwrap_err(), ValueError::VlanId(70_000));
        assert_eq!(VlanId::new(4094).unwrap().get(), 4094);
        assert_eq!(Vni::new(0xff_ffff).unwrap().get(), 16_777_215);
        assert_eq!(
            Vni::new(1 << 24).unwrap_err().to_string(),
            "16777216 is not a VNI, 0 to 16777215 expected"
        );
        assert_eq!(Mtu::new(67).unwrap_err().to_string(), "67 is not an MTU, 68 to 65520 octets expected");
        assert_eq!(Mtu::new(65_521).unwrap_err(), ValueError::Mtu(65_521));
        assert_eq!(Mtu::new(65_520).unwrap().get(), 65_520);
    }

    #[test]
    fn a_message_never_carries_more_than_a_line_of_what_was_given() {
        let error = Name::new(&"A\n".repeat(1000)).unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }
}
