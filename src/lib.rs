//! A declarative mini-supervisor for Linux: one YAML file describes programs; one process keeps
//! them up.
//!
//! ```text
//!   site.yaml ─► config ─► plan ─► engine ◄─ events ─ daemon ─► sys
//!                                     └─ actions ──►
//! ```
//!
//! | layer | may use | is |
//! |---|---|---|
//! | [`model`] | – | words: plain data with its invariants |
//! | [`control`] | model | requests and replies as data |
//! | [`config`] | model | text to [`model::Site`], all mistakes at once |
//! | [`plan`] | model, config | names become ids; orders; what a reload changes |
//! | [`engine`] | model, control, plan | the pure machine that decides |
//! | [`sys`] | model | every system call, the only `unsafe` |
//! | [`command`] | model, sys | one command, as a container's init |
//! | [`daemon`] | all of the above | the shell: threads, queue, `execute` |
//! | [`cli`] | all | argv to commands, rendering |

pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod engine;
pub mod model;
pub mod plan;
pub mod sys;
