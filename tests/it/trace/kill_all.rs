//! Everything is to end: in order first, then what the shell finds.

use expect_test::expect;

use super::{check, db_and_web};

#[test]
fn the_programs_are_stopped_in_order_and_then_the_rest_is_ended() {
    check(
        db_and_web(),
        "0s boot; 1s kill-all; 2s kill-all --yes; 3s end web 0; 4s end db 0; state",
        expect![[""]],
    );
}

#[test]
fn it_goes_on_without_its_client() {
    check(
        db_and_web(),
        "0s boot; 2s kill-all --yes; client-gone; 3s end web 0; 4s end db 0; state",
        expect![[""]],
    );
}

#[test]
fn what_does_not_go_down_is_not_waited_for_longer_than_a_stop_of_the_site() {
    check(
        db_and_web(),
        "0s boot; 2s kill-all --yes; 3s end web 0; 93s state",
        expect![[""]],
    );
}

#[test]
fn while_the_site_stops_it_is_refused_and_a_stop_meanwhile_answers_by_its_end() {
    check(
        db_and_web(),
        "0s boot; 1s kill-all --yes; term; kill-all --yes; 2s end web 0; 3s end db 0",
        expect![[""]],
    );
}
