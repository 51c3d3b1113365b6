//! Names become ids; orders; what a reload changes.

pub mod reload;
