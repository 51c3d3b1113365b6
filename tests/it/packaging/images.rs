//! The images of `packaging/docker`, built and run by an engine of the test's own.

use super::{debian, locked, possible, run, top};

/// Linked with glibc, statically, as the image from scratch has it; made once.
fn static_binary() -> String {
    let build = "RUSTFLAGS='-C target-feature=+crt-static' exec cargo build --quiet --locked \
                 --target x86_64-unknown-linux-gnu";
    locked("static.lock", || run(&["sh", "-c", build]));
    let path = top().join("target/x86_64-unknown-linux-gnu/debug/supervisor");
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_static_binary_has_nothing_that_loads_name_services() {
    if !possible(&["nm"]) {
        return;
    }
    let symbols = run(&["nm", &static_binary()]);
    let loads =
        ["getgrgid_r", "getgrnam_r", "getgrouplist", "getpwnam_r", "getpwuid_r", "initgroups"];
    let names = || symbols.lines().filter_map(|line| line.split_whitespace().last());
    let found: Vec<_> = names().filter(|name| loads.contains(name)).collect();
    assert_eq!(found, [""; 0]);
    // Hosts are looked up, by what glibc has inside.
    for needed in ["getaddrinfo", "__nss_configure_lookup"] {
        assert!(names().any(|name| name == needed), "{needed}");
    }
}

#[test]
fn a_static_binary_looks_up_hosts_and_loads_no_library_for_it() {
    if possible(&["debootstrap", "cc", "unshare"]) {
        let (root, binary) = (debian("bookworm"), static_binary());
        run(&["tests/packaging/root", &root, "tests/packaging/static", &binary]);
    }
}

#[test]
fn the_images_are_built_run_and_say_how_their_programs_are() {
    if possible(&["debootstrap", "dockerd", "docker", "ip", "unshare"]) {
        let (root, binary) = (debian("bookworm"), static_binary());
        let dynamic = env!("CARGO_BIN_EXE_supervisor");
        let words = ["tests/packaging/root", &root, "tests/packaging/images", &binary, dynamic];
        assert!(run(&words).ends_with("== done\n"));
    }
}
