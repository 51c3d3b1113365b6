//! Whether the host can reach others: an interface other than loopback has an address of its own.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::InterfaceFlags,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` of rtnetlink(7).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// `IFA_F_DADFAILED | IFA_F_TENTATIVE` of rtnetlink(7): not, or not yet, ours to use.
const NOT_READY: u8 = 0x08 | 0x40;

/// The socket on which the kernel tells of changes, open while anybody waits for the network.
#[derive(Default)]
pub(super) struct Network {
    socket: Option<OwnedFd>,
}

impl Network {
    /// Sees to it that changes are told from now on.
    ///
    /// # Errors
    /// The kernel has no netlink(7) for us; then somebody has to look again.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let route = SockProtocol::NetlinkRoute;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, route)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// What to poll.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Takes the messages away. What they say does not matter: they are the reason to look again,
    /// and so is an overflow.
    pub(super) fn read(&self) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; 8192];
        while let Ok(1..) | Err(Errno::EINTR | Errno::ENOBUFS) =
            recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
        {}
    }

    /// Nobody waits any more.
    pub(super) fn close(&mut self) {
        self.socket = None;
    }
}

/// Whether an interface other than loopback is up, has a carrier, and has an address that is
/// neither link-local nor still being checked for duplicates (getifaddrs(3)).
pub(super) fn is_up() -> bool {
    let unready =
        unready(&fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default());
    // Without memory or netlink there is no answer; we are asked again.
    getifaddrs().is_ok_and(|mut all| all.any(|interface| serves(&interface, &unready)))
}

fn serves(interface: &InterfaceAddress, unready: &BTreeSet<Ipv6Addr>) -> bool {
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    if !interface.flags.contains(running) || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    {
        return false;
    }
    let Some(address) = &interface.address else { return false };
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => is_global_v4(v4.ip()),
        (_, Some(v6)) => is_global_v6(v6.ip()) && !unready.contains(&v6.ip()),
        _ => false,
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast())
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let link_local = ip.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80);
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// The addresses of `if_inet6` (address, index, prefix, scope, flags, name) that are not ready.
fn unready(table: &str) -> BTreeSet<Ipv6Addr> {
    let of_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        (flags & NOT_READY != 0).then(|| Ipv6Addr::from(address))
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_still_checked_for_duplicates_is_not_ready() {
        let table = "\
            20010db8000000000000000000000001 02 40 00 40     eth0\n\
            20010db8000000000000000000000002 02 40 00 80     eth0\n\
            20010db8000000000000000000000003 02 40 00 88     eth0\n\
            nonsense\n";
        let expected = ["2001:db8::1", "2001:db8::3"].map(|ip| ip.parse().unwrap());
        assert_eq!(unready(table), BTreeSet::from(expected));
    }

    #[test]
    fn link_local_and_loopback_addresses_do_not_make_a_network() {
        for (ip, global) in [("127.0.0.1", false), ("169.254.7.7", false), ("0.0.0.0", false)] {
            assert_eq!(is_global_v4(ip.parse().unwrap()), global, "{ip}");
        }
        for (ip, global) in
            [("::1", false), ("fe80::1", false), ("febf::1", false), ("fd00::1", true)]
        {
            assert_eq!(is_global_v6(ip.parse().unwrap()), global, "{ip}");
        }
        assert!(is_global_v4(Ipv4Addr::new(10, 0, 0, 1)));
    }
}
