//! The bridge of either kind, chosen once and then the same functions.

use crate::bridge::Bridge;
use crate::kflux::{KfluxBridge, KfluxError};
use crate::Table;
use std::sync::Arc;

/// An enum and not a trait object: the loop's calls stay direct, behind one branch that always goes the same way.
pub enum AnyBridge {
    Affinity(Bridge),
    Kflux(KfluxBridge),
}

impl AnyBridge {
    /// Starts over the table alone.
    pub fn new(table: Arc<Table>) -> AnyBridge {
        AnyBridge::Affinity(Bridge::new(table))
    }

    /// Goes over to kFlux, for good, with the control pages that were set so far. The lease is to be claimed
    /// anew. On an error nothing has changed. `false`: it was over kFlux already.
    pub fn use_kflux(&mut self) -> Result<bool, KfluxError> {
        let AnyBridge::Affinity(affinity) = self else {
            return Ok(false);
        };
        let table = affinity.table().clone();
        let kflux = KfluxBridge::new(table.clone())?;
        let affinity = std::mem::replace(affinity, Bridge::new(table));
        *self = AnyBridge::Kflux(kflux.with_pages(affinity.into_pages()));
        Ok(true)
    }

    /// The affinity bridge, if that is what it is.
    pub fn affinity(&self) -> Option<&Bridge> {
        match self {
            AnyBridge::Affinity(bridge) => Some(bridge),
            AnyBridge::Kflux(_) => None,
        }
    }

    /// The bridge over kFlux, if that is what it is.
    pub fn kflux(&self) -> Option<&KfluxBridge> {
        match self {
            AnyBridge::Affinity(_) => None,
            AnyBridge::Kflux(bridge) => Some(bridge),
        }
    }

    pub fn table(&self) -> &Arc<Table> {
        match self {
            AnyBridge::Affinity(bridge) => bridge.table(),
            AnyBridge::Kflux(bridge) => bridge.table(),
        }
    }

    /// Takes the lease. Returns the table's new epoch; only kFlux can refuse.
    pub fn claim(&mut self, pid: u32, arbiter_core: u32, managed: &[u32; 8]) -> Result<u32, KfluxError> {
        match self {
            AnyBridge::Affinity(bridge) => Ok(bridge.claim(pid, arbiter_core, managed)),
            AnyBridge::Kflux(bridge) => bridge.claim(pid, arbiter_core, managed),
        }
    }

    /// Gives the lease up. `Err`: a negative errno, ESTALE if it was not ours.
    pub fn release(&mut self) -> Result<(), i32> {
        match self {
            AnyBridge::Affinity(bridge) => match bridge.release() {
                true => Ok(()),
                false => Err(-libc::ESTALE),
            },
            AnyBridge::Kflux(bridge) => bridge.release().map_err(|error| error.errno()),
        }
    }

    pub fn set_page(&self, slot: u32, hot: *mut u8) -> bool {
        match self {
            AnyBridge::Affinity(bridge) => bridge.set_page(slot, hot),
            AnyBridge::Kflux(bridge) => bridge.set_page(slot, hot),
        }
    }

    #[inline]
    pub fn submit(&mut self, batch: &mut [i32]) -> i32 {
        match self {
            AnyBridge::Affinity(bridge) => bridge.submit(batch),
            AnyBridge::Kflux(bridge) => bridge.submit(batch),
        }
    }

    #[inline]
    pub fn poll(&mut self) -> i32 {
        match self {
            AnyBridge::Affinity(bridge) => bridge.poll(),
            AnyBridge::Kflux(bridge) => bridge.poll(),
        }
    }

    #[inline]
    pub fn beat(&self) {
        match self {
            AnyBridge::Affinity(bridge) => bridge.beat(),
            AnyBridge::Kflux(bridge) => bridge.beat(),
        }
    }

    pub fn reap(&mut self, slot: u32) -> i32 {
        match self {
            AnyBridge::Affinity(bridge) => bridge.reap(slot),
            AnyBridge::Kflux(bridge) => bridge.reap(slot),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::kflux;

    #[test]
    fn a_switch_that_fails_leaves_the_bridge_as_it_was() {
        if kflux::hello().1.is_ok() {
            eprintln!("SKIPPED: kFlux is here, so the switch does not fail");
            return;
        }
        let (_fd, table) = Table::create(1_000_000, 6).expect("table");
        let table = Arc::new(table);
        let mut bridge = AnyBridge::new(table.clone());
        let epoch = bridge.claim(1, 0, &[1; 8]).expect("the table's");
        let error = bridge.use_kflux().expect_err("no device");
        assert!(error.errno() < 0);
        assert!(bridge.affinity().is_some() && bridge.kflux().is_none());
        assert_eq!(
            table
                .header()
                .kflux_domain
                .load(std::sync::atomic::Ordering::SeqCst),
            0
        );
        assert_eq!(epoch, 1);
        assert!(bridge.release().is_ok());
        assert_eq!(bridge.release(), Err(-libc::ESTALE));
    }
}
