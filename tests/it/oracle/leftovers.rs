//! What the command leaves behind.

use super::{
    differences::differs,
    inits::{ALL, Init, Names, PLACES, Place, possible},
};

/// An orphan that needs a while to clean up; it is there before its parent ends.
fn scenario(names: &Names) -> String {
    let gate = names.path("gate");
    nix::unistd::mkfifo(&*gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).ok();
    format!(
        "(trap 'sleep 0.3; echo CLEANED; exit' TERM; echo up > {gate}; \
         while :; do sleep 0.05; done) 2>/dev/null & read x < {gate}; exit 3"
    )
}

/// C6: the others leave its end to the kernel.
#[test]
fn only_below_ours_an_orphan_has_time_to_clean_up() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let script = scenario(&names);
    for init in ALL {
        let ran = names.run(init, Place::Pid1, &[], &["sh", "-c", &script]);
        assert_eq!(ran.code, 3, "{init:?}: {ran:?}");
        let ours = differs("What is left behind", init);
        assert_eq!(ran.out.contains("CLEANED"), ours, "{init:?}: {ran:?}");
    }
    let ran = names.run(Init::Ours, Place::Below, &[], &["sh", "-c", &script]);
    assert_eq!((ran.code, &*ran.out), (3, "CLEANED\n"), "{ran:?}");
    // Without the grace it is as below tini.
    let ran = names.run(Init::Ours, Place::Pid1, &["--grace", "0"], &["sh", "-c", &script]);
    assert_eq!((ran.code, &*ran.out), (3, ""), "{ran:?}");
}

/// C6: nobody is waited for who is not there, and nobody for ever.
#[test]
fn without_orphans_the_end_is_at_once_and_with_deaf_ones_after_the_grace() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let time = |options: &[&str], script: &str| {
        let began = std::time::Instant::now();
        let ran = names.run(Init::Ours, Place::Pid1, options, &["sh", "-c", script]);
        assert_eq!(ran.code, 4, "{ran:?}");
        began.elapsed().as_secs()
    };
    assert!(time(&["--grace", "30s"], "exit 4") < 20);
    let gate = names.path("gate");
    nix::unistd::mkfifo(&*gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let deaf =
        format!("(trap '' TERM; echo up > {gate}; exec sleep 1000) & read x < {gate}; exit 4");
    assert!(time(&["--grace", "200ms"], &deaf) < 20);
}

/// Reparented to the init, and no zombie of theirs stays.
#[test]
fn orphans_are_reaped_while_the_command_runs() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let script = "i=0; while test $i -lt 30; do (setsid true &); i=$((i+1)); done; echo ready; exec sleep 1000";
    for place in PLACES {
        for init in ALL {
            // Below others these two adopt only when asked to.
            let unasked = matches!(init, Init::Tini | Init::AsTini | Init::Dumb);
            if place == Place::Below && unasked {
                continue;
            }
            let running = names.start(init, place, &[], &["sh", "-c", script]);
            crate::sys_world::until("only the command is left", || {
                let children = crate::outside::children_of(running.init.cast_unsigned());
                matches!(children[..], [one] if crate::outside::name_of(one) == "sleep")
            });
        }
    }
}
