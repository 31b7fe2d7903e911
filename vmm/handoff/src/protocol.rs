//! The transitions of `abi/handoff.h`, each a function, for both sides of a hand-over.
//!
//! Everything here works on a [`World`]: the shared table in the product, loom's
//! atomics in the models. All word accesses are sequentially consistent; the pairs
//! that need it are named where they are. None of the functions blocks.

use crate::Handle;
use flux_abi as abi;
pub use flux_abi::{vcpu_core, vcpu_state, vcpu_word};

/// The words of a table and the two things that are done to a thread.
pub trait World {
    fn core(&self, core: u32) -> u64;
    /// `Err` carries what stood there instead.
    fn core_cas(&self, core: u32, old: u64, new: u64) -> Result<(), u64>;
    fn heir(&self, core: u32) -> u32;
    fn vcpu(&self, vcpu: Handle) -> u32;
    fn vcpu_cas(&self, vcpu: Handle, old: u32, new: u32) -> Result<(), u32>;
    fn park_req(&self, vcpu: Handle) -> u32;
    fn bump_park_req(&self, vcpu: Handle) -> u32;
    /// Makes sure that the thread's affinity is `core` before it is woken.
    fn place(&self, vcpu: Handle, core: u32);
    /// Wakes the thread that waits on the vCPU's word.
    fn wake(&self, vcpu: Handle);
    /// Bookkeeping of a core that `vcpu` is about to get; the caller owns the claim on it.
    fn granted(&self, _vcpu: Handle, _core: u32) {}
}

/// A core word taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreWord {
    pub owner: u32,
    pub successor: u32,
    pub generation: u32,
}

impl CoreWord {
    pub fn of(word: u64) -> CoreWord {
        CoreWord {
            owner: (word & 0xffff) as u32,
            successor: (word >> 16 & 0xffff) as u32,
            generation: (word >> 32) as u32,
        }
    }

    pub fn word(self) -> u64 {
        self.owner as u64 | (self.successor as u64) << 16 | (self.generation as u64) << 32
    }

    /// The next word: a new owner and successor, the generation one up.
    fn then(self, owner: u32, successor: u32) -> u64 {
        CoreWord {
            owner,
            successor,
            generation: self.generation.wrapping_add(1),
        }
        .word()
    }
}

/// Why a command was not carried out; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The vCPU that should get the core is not parked.
    NotParked,
    /// The core's owner is not the one that the command named, or it has one where none was expected.
    OwnerChanged,
    /// The core's owner has been asked to park already.
    InFlight,
}

/// What a move or park came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The owner has been asked to park; its latest request has this number.
    Asked { park_req: u32 },
    /// The owner had left already, so the successor got the core at once.
    Granted,
}

/// Claims a parked vCPU for a core. Exactly one claimer wins; it must then either
/// make the vCPU the core's owner and [`deliver`] it, or [`unclaim`] it.
fn claim<W: World>(w: &W, vcpu: Handle, core: u32) -> bool {
    let word = w.vcpu(vcpu);
    vcpu_state(word) == abi::VCPU_PARKED
        && w.vcpu_cas(vcpu, word, vcpu_word(abi::VCPU_GRANTING, core))
            .is_ok()
}

/// Takes a claim back. Fails silently if the lease ended meanwhile: then the vCPU
/// is UNMANAGED and no longer anybody's to claim.
fn unclaim<W: World>(w: &W, vcpu: Handle, core: u32) {
    let _ = w.vcpu_cas(
        vcpu,
        vcpu_word(abi::VCPU_GRANTING, core),
        vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE),
    );
}

/// Wakes a vCPU that owns `core` and was claimed for it. Idempotent: whoever finds
/// an owner that is still GRANTING (because the leaver died) may call it again.
pub fn deliver<W: World>(w: &W, vcpu: Handle, core: u32) -> bool {
    let claimed = vcpu_word(abi::VCPU_GRANTING, core);
    if w.vcpu(vcpu) != claimed {
        return false;
    }
    w.place(vcpu, core);
    w.granted(vcpu, core);
    if w.vcpu_cas(vcpu, claimed, vcpu_word(abi::VCPU_RUNNING, core))
        .is_err()
    {
        return false;
    }
    w.wake(vcpu);
    true
}

/// Delivers to a core's new owner, or passes the core on if it died after the claim:
/// the reaper may have looked at this core before the owner stood there.
pub fn hand_to<W: World>(w: &W, vcpu: Handle, core: u32) {
    if !deliver(w, vcpu, core) && vcpu_state(w.vcpu(vcpu)) == abi::VCPU_DEAD {
        evict(w, core, vcpu);
    }
}

/// Gives an idle core to a parked vCPU.
pub fn grant<W: World>(w: &W, core: u32, to: Handle) -> Result<(), Refused> {
    if !claim(w, to, core) {
        return Err(Refused::NotParked);
    }
    let was = CoreWord::of(w.core(core));
    let free = was.owner == abi::HANDLE_NONE && was.successor == abi::HANDLE_NONE;
    if !free
        || w.core_cas(core, was.word(), was.then(to.raw() as u32, 0))
            .is_err()
    {
        unclaim(w, to, core);
        return Err(Refused::OwnerChanged);
    }
    hand_to(w, to, core);
    Ok(())
}

/// Asks `from` to leave `core` in favour of `to`, or of nobody (`None`: the core idles).
pub fn request<W: World>(w: &W, core: u32, from: Handle, to: Option<Handle>) -> Result<Moved, Refused> {
    if let Some(to) = to {
        if !claim(w, to, core) {
            return Err(Refused::NotParked);
        }
    }
    let refuse = |why| {
        if let Some(to) = to {
            unclaim(w, to, core);
        }
        Err(why)
    };
    let successor = to.map_or(abi::HANDLE_IDLE, |to| to.raw() as u32);
    loop {
        let was = CoreWord::of(w.core(core));
        if was.owner == from.raw() as u32 {
            if was.successor != abi::HANDLE_NONE {
                return refuse(Refused::InFlight);
            }
            if w.core_cas(core, was.word(), was.then(was.owner, successor))
                .is_err()
            {
                continue;
            }
            // After the core word, so that enter() can tell a request that it has
            // not seen there by its number. Pairs with the order of loads in enter().
            let park_req = w.bump_park_req(from);
            let word = w.vcpu(from);
            if word == vcpu_word(abi::VCPU_RUNNING, core) {
                // For onlookers only; the leaver accepts either state.
                let _ = w.vcpu_cas(from, word, vcpu_word(abi::VCPU_CEDING, core));
            }
            return Ok(Moved::Asked { park_req });
        }
        // The owner's yield crossed the command: what was wanted has half happened.
        if was.owner != abi::HANDLE_NONE || was.successor != abi::HANDLE_NONE {
            return refuse(Refused::OwnerChanged);
        }
        let Some(to) = to else {
            return Ok(Moved::Granted);
        };
        if w.core_cas(core, was.word(), was.then(successor, 0)).is_ok() {
            hand_to(w, to, core);
            return Ok(Moved::Granted);
        }
    }
}

/// Whether the owner of a core has been asked to leave it: the core word is the truth.
pub fn requested<W: World>(w: &W, me: Handle, core: u32) -> bool {
    let word = CoreWord::of(w.core(core));
    word.owner == me.raw() as u32 && word.successor != abi::HANDLE_NONE
}

/// Hands `core` over from `owner`: to its successor, else its heir, else to nobody.
/// Returns who owns it now, claimed but not delivered yet; `None` if `owner` did not
/// own it. The caller delivers, after it has made `owner` PARKED.
pub fn pass_on<W: World>(w: &W, core: u32, owner: Handle) -> Option<Option<Handle>> {
    loop {
        let was = CoreWord::of(w.core(core));
        if was.owner != owner.raw() as u32 {
            return None;
        }
        let mut heir = None;
        let next = match was.successor {
            abi::HANDLE_IDLE => None,
            abi::HANDLE_NONE => {
                heir = Handle::from_raw(w.heir(core)).filter(|heir| *heir != owner && claim(w, *heir, core));
                heir
            }
            successor => Handle::from_raw(successor),
        };
        let next_raw = next.map_or(abi::HANDLE_NONE, |next| next.raw() as u32);
        if w.core_cas(core, was.word(), was.then(next_raw, 0)).is_ok() {
            return Some(next);
        }
        // A request slipped in: its successor goes first, so the heir is let go.
        if let Some(heir) = heir {
            unclaim(w, heir, core);
        }
    }
}

/// Takes a dead vCPU off a core, as owner or as successor. Returns whether it was there.
pub fn evict<W: World>(w: &W, core: u32, dead: Handle) -> bool {
    let raw = dead.raw() as u32;
    loop {
        let was = CoreWord::of(w.core(core));
        if was.owner == raw {
            if let Some(Some(next)) = pass_on(w, core, dead) {
                hand_to(w, next, core);
            }
            return true;
        }
        if was.successor != raw {
            return false;
        }
        // The owner still leaves, as it was asked to, and the core falls idle.
        if w.core_cas(core, was.word(), was.then(was.owner, abi::HANDLE_IDLE))
            .is_ok()
        {
            return true;
        }
    }
}

/// Delivers to an owner that nobody delivered to because the leaver died between
/// its compare-and-swap and its wake. Harmless if the delivery is merely under way.
pub fn repair<W: World>(w: &W, core: u32) -> bool {
    let owner = CoreWord::of(w.core(core)).owner;
    match Handle::from_raw(owner) {
        Some(owner) => deliver(w, owner, core),
        None => false,
    }
}
