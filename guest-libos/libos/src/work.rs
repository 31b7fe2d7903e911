//! Work that comes from outside.

/// A request, small enough to be copied.
pub type Work = [u32; 8];

/// Where idle vCPUs find work that is no uThread yet.
pub trait Source: Sync {
    /// Whether there may be something. Cheap: idle vCPUs ask all the time.
    fn pending(&self) -> bool;
    /// Takes one, in FluxOS's code. It is then run.
    fn take(&self) -> Option<Work>;
    /// Serves it, as a uThread of its own.
    fn run(&self, work: Work);
}
