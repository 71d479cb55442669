//! Socket addresses as the kernel has them.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An IPv4 or IPv6 socket address. The family, which both begin with, tells which.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    /// Of no family.
    pub(crate) const NONE: Name = Name {
        v6: libc::sockaddr_in6 {
            sin6_family: libc::AF_UNSPEC as u16,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// Octets of the longer of the two.
    pub(crate) const LENGTH: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

    /// The address, and how many octets of it the kernel wants.
    pub(crate) fn of(address: SocketAddr) -> (Name, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => {
                let mut name = Name::NONE;
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (Name { v6 }, Name::LENGTH)
            }
        }
    }

    /// The address; `None` when it is of neither family. What the kernel did not write must be zero.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: every field of both is a plain number, and all octets of the union are initialized.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        match i32::from(v4.sin_family) {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_was() {
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 4789, 0, 7);
        for address in ["198.18.0.1:51820".parse().unwrap(), SocketAddr::from(scoped)] {
            assert_eq!(Name::of(address).0.address(), Some(address));
        }
        assert_eq!(Name::NONE.address(), None);
    }
}
