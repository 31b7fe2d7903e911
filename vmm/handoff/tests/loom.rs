//! Model checking of the protocol: the same functions as in the product, over loom's
//! atomics. Run with `cargo test --release -p handoff --features loom --test loom`.
#![cfg(feature = "loom")]

use flux_abi as abi;
use handoff::protocol::{self, deliver, vcpu_state, vcpu_word, CoreWord, Moved, World};
use handoff::Handle;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use loom::sync::Arc;
use loom::thread;

const VCPUS: usize = 3;
const CORE: u32 = 0;

/// One core and three vCPUs of three VMs. `delivered` counts wakes: a vCPU that is
/// woken twice for one grant, or never, shows there.
struct Model {
    core: AtomicU64,
    heir: AtomicU32,
    vcpu: [AtomicU32; VCPUS],
    park_req: [AtomicU32; VCPUS],
    delivered: [AtomicU32; VCPUS],
}

fn handle(vm: usize) -> Handle {
    Handle::new(vm as u32, 0).unwrap()
}

impl Model {
    /// vCPU 0 runs on the core, the others are parked. The generation is about to wrap.
    fn new(heir: Option<Handle>) -> Arc<Model> {
        let owner = CoreWord {
            owner: handle(0).raw() as u32,
            successor: 0,
            generation: u32::MAX,
        };
        let state = |vm| match vm {
            0 => vcpu_word(abi::VCPU_RUNNING, CORE),
            _ => vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE),
        };
        Arc::new(Model {
            core: AtomicU64::new(owner.word()),
            heir: AtomicU32::new(heir.map_or(0, |heir| heir.raw() as u32)),
            vcpu: std::array::from_fn(|vm| AtomicU32::new(state(vm))),
            park_req: std::array::from_fn(|_| AtomicU32::new(u32::MAX)),
            delivered: std::array::from_fn(|_| AtomicU32::new(0)),
        })
    }

    /// What a leaving thread does; the product's `vcpu::leave` without its bookkeeping.
    fn leave(&self, me: Handle) -> bool {
        let Some(next) = protocol::pass_on(self, CORE, me) else {
            return false;
        };
        loop {
            let word = self.vcpu(me);
            if vcpu_state(word) == abi::VCPU_DEAD {
                break;
            }
            if self
                .vcpu_cas(me, word, vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE))
                .is_ok()
            {
                break;
            }
        }
        if let Some(next) = next {
            protocol::hand_to(self, next, CORE);
        }
        true
    }

    /// The invariant: the core's owner runs (or was told to), nobody else does.
    fn check(&self) {
        let word = CoreWord::of(self.core(CORE));
        let owner = Handle::from_raw(word.owner);
        for vm in 0..VCPUS {
            let state = vcpu_state(self.vcpu(handle(vm)));
            let runs = matches!(state, abi::VCPU_RUNNING | abi::VCPU_CEDING);
            assert_eq!(
                runs,
                owner == Some(handle(vm)),
                "vCPU {vm} is {state}, core {word:?}"
            );
            assert_ne!(state, abi::VCPU_GRANTING, "vCPU {vm} was claimed and forgotten");
        }
    }
}

impl World for Model {
    fn core(&self, _core: u32) -> u64 {
        self.core.load(SeqCst)
    }
    fn core_cas(&self, _core: u32, old: u64, new: u64) -> Result<(), u64> {
        self.core.compare_exchange(old, new, SeqCst, SeqCst).map(|_| ())
    }
    fn heir(&self, _core: u32) -> u32 {
        self.heir.load(SeqCst)
    }
    fn vcpu(&self, vcpu: Handle) -> u32 {
        self.vcpu[vcpu.slot() as usize].load(SeqCst)
    }
    fn vcpu_cas(&self, vcpu: Handle, old: u32, new: u32) -> Result<(), u32> {
        let word = &self.vcpu[vcpu.slot() as usize];
        word.compare_exchange(old, new, SeqCst, SeqCst).map(|_| ())
    }
    fn park_req(&self, vcpu: Handle) -> u32 {
        self.park_req[vcpu.slot() as usize].load(SeqCst)
    }
    fn bump_park_req(&self, vcpu: Handle) -> u32 {
        self.park_req[vcpu.slot() as usize]
            .fetch_add(1, SeqCst)
            .wrapping_add(1)
    }
    fn place(&self, _vcpu: Handle, _core: u32) {}
    fn wake(&self, vcpu: Handle) {
        self.delivered[vcpu.slot() as usize].fetch_add(1, SeqCst);
    }
}

/// A yield crosses a move: whoever wins, the successor runs and is woken once.
#[test]
fn a_yield_that_crosses_a_move_loses_no_wake() {
    loom::model(|| {
        let model = Model::new(None);
        let arbiter = {
            let model = model.clone();
            thread::spawn(move || protocol::request(&*model, CORE, handle(0), Some(handle(1))))
        };
        model.leave(handle(0));
        let moved = arbiter.join().unwrap();
        // If it was asked before the yield looked, the yield took its successor along.
        assert!(
            matches!(moved, Ok(Moved::Asked { .. } | Moved::Granted)),
            "{moved:?}"
        );
        assert_eq!(CoreWord::of(model.core(CORE)).owner, handle(1).raw() as u32);
        assert_eq!(model.delivered[1].load(SeqCst), 1);
        model.check();
    });
}

/// The same with an heir: heir or successor gets the core, never both, and a refused
/// move leaves its successor parked.
#[test]
fn an_heir_and_a_successor_never_both_run() {
    loom::model(|| {
        let model = Model::new(Some(handle(2)));
        let arbiter = {
            let model = model.clone();
            thread::spawn(move || protocol::request(&*model, CORE, handle(0), Some(handle(1))))
        };
        model.leave(handle(0));
        match arbiter.join().unwrap() {
            Ok(_) => assert_eq!(model.delivered[2].load(SeqCst), 0),
            Err(_) => assert_eq!(model.delivered[1].load(SeqCst), 0),
        }
        model.check();
    });
}

/// Two commands want the same parked vCPU: one wins, the other changes nothing.
#[test]
fn a_vcpu_is_claimed_once() {
    loom::model(|| {
        let model = Model::new(Some(handle(1)));
        let arbiter = {
            let model = model.clone();
            thread::spawn(move || protocol::grant(&*model, CORE, handle(1)))
        };
        model.leave(handle(0));
        let _ = arbiter.join().unwrap();
        assert!(model.delivered[1].load(SeqCst) <= 1);
        model.check();
    });
}

/// A request is never lost between the look before the guest and the guest: either the
/// look sees it in the core word, or its number is above what was settled.
#[test]
fn a_request_is_seen_by_the_look_or_by_the_guest() {
    loom::model(|| {
        let model = Model::new(None);
        let guest_word = Arc::new(AtomicU32::new(u32::MAX));
        let arbiter = {
            let (model, guest_word) = (model.clone(), guest_word.clone());
            thread::spawn(move || {
                let asked = protocol::request(&*model, CORE, handle(0), Some(handle(1)));
                if let Ok(Moved::Asked { park_req }) = asked {
                    guest_word.store(park_req, SeqCst);
                }
            })
        };
        // The order of vcpu::enter.
        let settled = model.park_req(handle(0));
        let seen = protocol::requested(&*model, handle(0), CORE);
        arbiter.join().unwrap();
        let polled = guest_word.load(SeqCst).wrapping_sub(settled) as i32 > 0;
        assert!(seen || polled);
    });
}

/// A VM dies while another leaves in favour of it: the core ends with nobody or with
/// the heir, and is not lost to the dead.
#[test]
fn a_core_is_not_handed_to_the_dead() {
    loom::model(|| {
        let model = Model::new(Some(handle(2)));
        protocol::request(&*model, CORE, handle(0), Some(handle(1))).unwrap();
        let reaper = {
            let model = model.clone();
            thread::spawn(move || {
                let dead = vcpu_word(abi::VCPU_DEAD, abi::CORE_NONE);
                model.vcpu[1].swap(dead, SeqCst);
                protocol::evict(&*model, CORE, handle(1));
            })
        };
        model.leave(handle(0));
        reaper.join().unwrap();
        assert_ne!(CoreWord::of(model.core(CORE)).owner, handle(1).raw() as u32);
        model.check();
    });
}

/// The heir dies between being claimed and becoming the owner, and the reaper has
/// looked at the core in between: the leaver itself must notice.
#[test]
fn a_core_is_not_left_with_an_heir_that_died() {
    loom::model(|| {
        let model = Model::new(Some(handle(2)));
        let reaper = {
            let model = model.clone();
            thread::spawn(move || {
                let dead = vcpu_word(abi::VCPU_DEAD, abi::CORE_NONE);
                model.vcpu[2].swap(dead, SeqCst);
                protocol::evict(&*model, CORE, handle(2));
            })
        };
        model.leave(handle(0));
        reaper.join().unwrap();
        assert_ne!(CoreWord::of(model.core(CORE)).owner, handle(2).raw() as u32);
        model.check();
    });
}

/// The leaver died after its compare-and-swap: two repairs at once wake the owner once.
#[test]
fn a_repair_wakes_once() {
    loom::model(|| {
        let model = Model::new(None);
        protocol::request(&*model, CORE, handle(0), Some(handle(1))).unwrap();
        protocol::pass_on(&*model, CORE, handle(0)).unwrap();
        let parked = vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE);
        model.vcpu[0].store(parked, SeqCst);
        let other = {
            let model = model.clone();
            thread::spawn(move || protocol::repair(&*model, CORE))
        };
        deliver(&*model, handle(1), CORE);
        other.join().unwrap();
        assert_eq!(model.delivered[1].load(SeqCst), 1);
        model.check();
    });
}
