//! The thread that waits for conditions of the world.
use crate::{model::Awaited, plan::ProgramId};
/// A condition that is true.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// p
    pub program: ProgramId,
    /// a
    pub attempt: u64,
    /// i
    pub index: usize,
}
/// Handle.
#[derive(Debug)]
pub struct ConditionHandle;
impl ConditionHandle {
    /// a
    pub fn await_condition(&self, _: ProgramId, _: u64, _: usize, _: Awaited) {}
    /// f
    pub fn forget(&self, _: ProgramId) {}
}
/// s
pub fn start(_d: impl Fn(Met) + Send + 'static) -> std::io::Result<ConditionHandle> {
    Ok(ConditionHandle)
}
