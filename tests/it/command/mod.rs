//! Command mode: what it decides, and what the binary does.

mod alone;
mod beside;
mod decides;
mod terminal;
