//! x
use super::{console::End, machine::Plan};

#[test]
fn smoke() {
    let Some(plan) = Plan::new() else { return };
    let mut guest = plan.boot();
    println!("{}", guest.sh("uname -a; cat /proc/mounts; supervisor --version; sysctl kernel.sysrq fs.protected_regular; cat /proc/uptime; ps | tail -5; free"));
    guest.send("echo o >/proc/sysrq-trigger");
    assert_eq!(guest.wait_end(), End::PoweredOff);
}
