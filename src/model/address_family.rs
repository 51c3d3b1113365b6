//! Kinds of sockets by name (`address_families(7)`).

use serde::{Deserialize, Serialize};

/// Names and numbers (linux/socket.h), the same on every architecture.
const NAMES: [(&str, u16); 41] = [
    ("AF_UNIX", 1),
    ("AF_LOCAL", 1),
    ("AF_INET", 2),
    ("AF_AX25", 3),
    ("AF_IPX", 4),
    ("AF_APPLETALK", 5),
    ("AF_NETROM", 6),
    ("AF_ATMPVC", 8),
    ("AF_X25", 9),
    ("AF_INET6", 10),
    ("AF_ROSE", 11),
    ("AF_KEY", 15),
    ("AF_NETLINK", 16),
    ("AF_PACKET", 17),
    ("AF_ECONET", 19),
    ("AF_ATMSVC", 20),
    ("AF_RDS", 21),
    ("AF_IRDA", 23),
    ("AF_PPPOX", 24),
    ("AF_WANPIPE", 25),
    ("AF_LLC", 26),
    ("AF_IB", 27),
    ("AF_MPLS", 28),
    ("AF_CAN", 29),
    ("AF_TIPC", 30),
    ("AF_BLUETOOTH", 31),
    ("AF_IUCV", 32),
    ("AF_RXRPC", 33),
    ("AF_ISDN", 34),
    ("AF_PHONET", 35),
    ("AF_IEEE802154", 36),
    ("AF_CAIF", 37),
    ("AF_ALG", 38),
    ("AF_NFC", 39),
    ("AF_VSOCK", 40),
    ("AF_KCM", 41),
    ("AF_QIPCRTR", 42),
    ("AF_SMC", 43),
    ("AF_XDP", 44),
    ("AF_MCTP", 45),
    ("AF_ROUTE", 16),
];

/// `restrict_address_families`: of which kinds it may make sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFamilies {
    /// Those that are named may not be made, all others may.
    pub denies: bool,
    /// In the order of their numbers.
    pub numbers: Box<[u16]>,
}

impl AddressFamilies {
    /// The number of a family.
    #[must_use]
    pub fn number(name: &str) -> Option<u16> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }

    /// The name of a family.
    #[must_use]
    pub fn name(number: u16) -> &'static str {
        NAMES.iter().find(|(_, known)| *known == number).map_or("AF_UNSPEC", |(name, _)| *name)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_the_numbers_of_the_kernel() {
        for (name, number) in [
            ("AF_UNIX", libc::AF_UNIX),
            ("AF_INET6", libc::AF_INET6),
            ("AF_NETLINK", libc::AF_NETLINK),
            ("AF_CAN", libc::AF_CAN),
            ("AF_VSOCK", libc::AF_VSOCK),
        ] {
            assert_eq!(AddressFamilies::number(name).map(i32::from), Some(number), "{name}");
        }
        assert_eq!(AddressFamilies::name(16), "AF_NETLINK");
    }
}
