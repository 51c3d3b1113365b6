//! Words of the supervisor: plain data with its invariants. Imports nothing else of ours.

mod exit;
mod host;
mod info;
mod name;
mod notice;
mod policy;
mod probe;
mod program;
mod semaphore;
mod shm;
mod signal;
mod single;
mod site;
mod size;
mod time;
mod window;

pub use exit::*;
pub use host::*;
pub use info::*;
pub use name::*;
pub use notice::*;
pub use policy::*;
pub use probe::*;
pub use program::*;
pub use semaphore::*;
pub use shm::*;
pub use signal::*;
pub use single::*;
pub use site::*;
pub use size::*;
pub use time::*;
pub use window::*;
