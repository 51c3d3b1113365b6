//! Words of the supervisor: plain data with its invariants. Imports nothing else of ours.

mod address_family;
mod capability;
mod exit;
mod hardening;
mod host;
mod info;
mod name;
mod policy;
mod program;
mod semaphore;
mod shm;
mod signal;
mod single;
mod site;
mod size;
mod system_call;
mod time;
mod window;

pub use address_family::*;
pub use capability::*;
pub use exit::*;
pub use hardening::*;
pub use host::*;
pub use info::*;
pub use name::*;
pub use policy::*;
pub use program::*;
pub use semaphore::*;
pub use shm::*;
pub use signal::*;
pub use single::*;
pub use site::*;
pub use size::*;
pub use system_call::*;
pub use time::*;
pub use window::*;
