//! The addresses of a host name (getaddrinfo(3)).

use std::net::{SocketAddr, ToSocketAddrs as _};

/// The addresses of `HOST:PORT`, none when the name has none. It blocks until the servers answer or
/// are given up, see resolv.conf(5).
#[must_use]
pub fn addresses(name: &str) -> Vec<SocketAddr> {
    confine();
    name.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
fn confine() {}

/// A static glibc has /etc/hosts and DNS inside. For anything else that nsswitch.conf(5) names it
/// would load libraries of the machine, which are made for another glibc and crash it.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn confine() {
    use std::{
        ffi::{c_char, c_int},
        sync::Once,
    };
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both texts end in a null byte and live for ever, and nobody looks up a host
        // meanwhile: whoever does has come by here first, and waits for this.
        if unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) } != 0 {
            log::debug!("the services for host names are those of nsswitch.conf");
        }
    });
}
