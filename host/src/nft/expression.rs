//! The expressions that rules are made of, and how the kernel is told of them (linux/netfilter/nf_tables.h).

use crate::netfilter::Attributes;

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEMENT: u16 = 1;
/// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// Four octets that expressions read and write; longer values take several that follow each other. 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// `NFT_REG32_00` and those after it.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// What is known of a packet beside its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The device that it came in by: 16 octets.
    InputDevice,
    /// The device that it leaves by: 16 octets.
    OutputDevice,
    /// Its family: one octet, see [`Family`].
    Family,
    /// The protocol that its network header carries: one octet.
    Protocol,
}

/// Where octets of a packet are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The IP header.
    Network,
    /// What it carries.
    Transport,
}

/// Whose address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// `NFPROTO_…`.
    pub fn number(self) -> u8 {
        match self {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        }
    }
}

/// A step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads what is known of the packet.
    Meta(Meta, Register),
    /// Loads octets of the packet.
    Payload {
        /// Counted from here.
        base: Base,
        /// The first.
        offset: u32,
        /// How many.
        length: u32,
        /// To here.
        to: Register,
    },
    /// Loads what the node takes an address for (`RTN_…`, four octets in the machine's order).
    AddressType(Side, Register),
    /// Loads the connection's status (`IPS_…`, four octets in the machine's order).
    ConnectionStatus(Register),
    /// Keeps only these bits of four octets.
    Mask(Register, [u8; 4]),
    /// Matches when the register has this value.
    Is(Register, Vec<u8>),
    /// Matches when the register has another value.
    IsNot(Register, Vec<u8>),
    /// Matches when the register has a key of this set.
    In(Register, &'static str),
    /// Matches when it has none.
    NotIn(Register, &'static str),
    /// Matches when the register has a key of this map, and loads the value to the same register.
    Map(Register, &'static str),
    /// Sends the connection to this address and port.
    DestinationNat {
        /// The address's family.
        family: Family,
        /// Where the address is.
        address: Register,
        /// Where the port is.
        port: Register,
    },
    /// Gives the connection the address of the device that it leaves by as its source.
    Masquerade,
    /// Drops the packet.
    Drop,
}

impl Expression {
    /// Appends the expression to a list of such.
    pub(super) fn write(&self, list: &mut Attributes) {
        list.nested(LIST_ELEMENT, |expression| {
            expression.text(NAME, self.name());
            expression.nested(DATA, |data| self.write_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expression::Meta(..) => "meta",
            Expression::Payload { .. } => "payload",
            Expression::AddressType(..) => "fib",
            Expression::ConnectionStatus(_) => "ct",
            Expression::Mask(..) => "bitwise",
            Expression::Is(..) | Expression::IsNot(..) => "cmp",
            Expression::In(..) | Expression::NotIn(..) | Expression::Map(..) => "lookup",
            Expression::DestinationNat { .. } => "nat",
            Expression::Masquerade => "masq",
            Expression::Drop => "immediate",
        }
    }

    fn write_data(&self, data: &mut Attributes) {
        match self {
            // NFTA_META_DREG, NFTA_META_KEY.
            Expression::Meta(meta, to) => data.number(1, to.number()).number(2, meta_key(*meta)),
            // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN.
            Expression::Payload { base, offset, length, to } => {
                let base = if *base == Base::Network { 1 } else { 2 };
                data.number(1, to.number()).number(2, base).number(3, *offset).number(4, *length)
            }
            // NFTA_FIB_DREG, _RESULT (NFT_FIB_RESULT_ADDRTYPE), _FLAGS (NFTA_FIB_F_SADDR or _DADDR).
            Expression::AddressType(side, to) => {
                let side = if *side == Side::Source { 1 } else { 2 };
                data.number(1, to.number()).number(2, 3).number(3, side)
            }
            // NFTA_CT_DREG, _KEY (NFT_CT_STATUS).
            Expression::ConnectionStatus(to) => data.number(1, to.number()).number(2, 2),
            Expression::Mask(register, mask) => write_mask(data, *register, mask),
            // NFTA_CMP_SREG, _OP (NFT_CMP_EQ, NFT_CMP_NEQ), _DATA.
            Expression::Is(register, value) => write_comparison(data, *register, 0, value),
            Expression::IsNot(register, value) => write_comparison(data, *register, 1, value),
            // NFTA_LOOKUP_SET, _SREG, _DREG, _FLAGS (NFT_LOOKUP_F_INV).
            Expression::In(register, set) => data.text(1, set).number(2, register.number()),
            Expression::NotIn(register, set) => data.text(1, set).number(2, register.number()).number(5, 1),
            Expression::Map(register, map) => {
                data.text(1, map).number(2, register.number()).number(3, register.number())
            }
            // NFTA_NAT_TYPE (NFT_NAT_DNAT), _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
            Expression::DestinationNat { family, address, port } => data
                .number(1, 1)
                .number(2, u32::from(family.number()))
                .number(3, address.number())
                .number(5, port.number()),
            Expression::Masquerade => data,
            // NFTA_IMMEDIATE_DREG (NFT_REG_VERDICT), _DATA with NFTA_VERDICT_CODE (NF_DROP).
            Expression::Drop => data.number(1, 0).nested(2, |data| {
                data.nested(DATA_VERDICT, |verdict| {
                    verdict.number(1, 0);
                });
            }),
        };
    }
}

/// `NFT_META_…`.
fn meta_key(meta: Meta) -> u32 {
    match meta {
        Meta::InputDevice => 6,
        Meta::OutputDevice => 7,
        Meta::Family => 15,
        Meta::Protocol => 16,
    }
}

fn write_comparison<'a>(
    data: &'a mut Attributes,
    register: Register,
    operator: u32,
    value: &[u8],
) -> &'a mut Attributes {
    data.number(1, register.number());
    data.number(2, operator);
    data.nested(3, |data| {
        data.put(DATA_VALUE, value);
    })
}

/// `NFTA_BITWISE_SREG`, `_DREG`, `_LEN`, `_MASK`, `_XOR`.
fn write_mask<'a>(data: &'a mut Attributes, register: Register, mask: &[u8; 4]) -> &'a mut Attributes {
    data.number(1, register.number()).number(2, register.number()).number(3, 4);
    data.nested(4, |data| {
        data.put(DATA_VALUE, mask);
    });
    data.nested(5, |data| {
        data.put(DATA_VALUE, &[0; 4]);
    })
}
