//! What a sanitizer must be told of stacks, in hosted guests that are built with one.
//!
//! AddressSanitizer knows the bounds of a thread's stack, and ThreadSanitizer what each thread has
//! called and what is ordered before it. uThreads change stacks under both, and kernel threads besides, so
//! each of them is a *fibre*: [`switch`] stands before every change of stacks, and [`Fibre::begin`] and
//! [`Fibre::end`] where a context is made and where it is over. An interrupted context goes on, perhaps on
//! another thread, as the fibre that it was; the signal's handler is one of its own.
//!
//! ThreadSanitizer takes one fibre's work on a vCPU to be ordered before the next one's there, as it
//! is. So it sees races between uThreads that were on different vCPUs.
//!
//! Without `--cfg flux_sanitizer`, which `npm run sanitize` gives, all of this is nothing.

use flux_abi::MAX_VCPUS;

pub use imp::{go, released, save, Fibre};

/// The fibre of the interrupted context that a vCPU has taken over last; this vCPU's own.
pub fn taken(vcpu: u32) -> &'static Fibre {
    static TAKEN: [Fibre; MAX_VCPUS] = [const { Fibre::new() }; MAX_VCPUS];
    &TAKEN[vcpu as usize % MAX_VCPUS]
}

/// Before a change of stacks, in the function that makes it: what runs now is to be found in `save`, and
/// what `to` has goes on.
#[inline(always)]
pub fn switch(save: &Fibre, to: &Fibre) {
    let to = imp::save(save, to);
    // SAFETY: `save` has just said that it is a fibre which nobody runs.
    unsafe { imp::go(to) }
}

#[cfg(not(flux_sanitizer))]
mod imp {
    /// A stack that does not run; nothing here.
    #[derive(Debug, Default)]
    pub struct Fibre;

    impl Fibre {
        pub const fn new() -> Fibre {
            Fibre
        }

        /// A context was made on the stack of `bytes` bytes at `low`; whatever was there is over.
        #[inline(always)]
        pub fn begin(&self, _low: u64, _bytes: u64) {}

        /// It is over, and its stack is nobody's.
        #[inline(always)]
        pub fn end(&self) {}

        /// It does not go on, and something else is on its stack by now.
        #[inline(always)]
        pub fn gone(&self) {}

        /// It goes on from `to`.
        #[inline(always)]
        pub fn hand_to(&self, _to: &Fibre) {}
    }

    /// What was written so far is there for whoever sees what assembly stores to `word` next.
    #[inline(always)]
    pub fn released<T>(_word: *const T) {}

    /// What [`go`] is to be given.
    #[inline(always)]
    pub fn save(_save: &Fibre, _to: &Fibre) -> *mut () {
        core::ptr::null_mut()
    }

    /// # Safety
    /// `fibre` is what `save` returned.
    #[inline(always)]
    pub unsafe fn go(_fibre: *mut ()) {}
}

#[cfg(flux_sanitizer = "thread")]
mod imp {
    use core::cell::Cell;
    use core::ptr::null_mut;

    unsafe extern "C" {
        fn __tsan_get_current_fiber() -> *mut ();
        fn __tsan_create_fiber(flags: u32) -> *mut ();
        fn __tsan_destroy_fiber(fibre: *mut ());
        fn __tsan_switch_to_fiber(fibre: *mut (), flags: u32);
        fn __tsan_release(at: *const ());
    }

    #[derive(Debug)]
    pub struct Fibre(Cell<*mut ()>);

    // SAFETY: used by whoever has the stack.
    unsafe impl Sync for Fibre {}
    // SAFETY: fibres belong to no thread.
    unsafe impl Send for Fibre {}

    impl Fibre {
        pub const fn new() -> Fibre {
            Fibre(Cell::new(null_mut()))
        }

        pub fn begin(&self, _low: u64, _bytes: u64) {
            self.gone();
            // SAFETY: no flags.
            self.0.set(unsafe { __tsan_create_fiber(0) });
        }

        pub fn end(&self) {
            self.gone();
        }

        pub fn hand_to(&self, to: &Fibre) {
            to.0.set(self.0.replace(null_mut()));
        }

        pub fn gone(&self) {
            let fibre = self.0.replace(null_mut());
            if !fibre.is_null() {
                // SAFETY: made by `begin`, and nobody runs it: a running one's `Fibre` is null.
                unsafe { __tsan_destroy_fiber(fibre) }
            }
        }
    }

    pub fn released<T>(word: *const T) {
        // SAFETY: an address is all it takes.
        unsafe { __tsan_release(word.cast()) }
    }

    #[inline(always)]
    pub fn save(save: &Fibre, to: &Fibre) -> *mut () {
        // SAFETY: asks only.
        save.0.set(unsafe { __tsan_get_current_fiber() });
        to.0.replace(null_mut())
    }

    /// Always inline: a function that notes its entry on one fibre must not note its end on another.
    ///
    /// # Safety
    /// `fibre` is what `save` returned.
    #[inline(always)]
    pub unsafe fn go(fibre: *mut ()) {
        // SAFETY: by the caller's promise. 0: what was done here is ordered before what comes there.
        unsafe { __tsan_switch_to_fiber(fibre, 0) }
    }
}

#[cfg(flux_sanitizer = "address")]
mod imp {
    use core::arch::global_asm;
    use core::cell::Cell;

    unsafe extern "C" {
        fn __asan_poison_memory_region(low: u64, bytes: u64);
        fn __asan_unpoison_memory_region(low: u64, bytes: u64);
        /// Both calls of a change of stacks; nothing may interrupt it between them, see
        /// `hosted::sanitizer`.
        fn flux_fibre_switch(to_low: u64, to_bytes: u64, from_low: *mut u64, from_bytes: *mut u64);
    }

    global_asm!(
        ".pushsection .text.flux_fibre, \"ax\", @progbits",
        ".globl flux_fibre_switch",
        ".globl flux_fibre_switch_end",
        ".type flux_fibre_switch, @function",
        "flux_fibre_switch:",
        "push rdx",
        "push rcx",
        "sub rsp, 8",
        "mov rdx, rsi",
        "mov rsi, rdi",
        "xor edi, edi", // local variables stay on the stacks, so there are no others to be kept
        "call __sanitizer_start_switch_fiber",
        "add rsp, 8",
        "pop rdx",
        "pop rsi",
        "sub rsp, 8",
        "xor edi, edi",
        "call __sanitizer_finish_switch_fiber",
        "add rsp, 8",
        "ret",
        ".size flux_fibre_switch, . - flux_fibre_switch",
        "flux_fibre_switch_end:",
        ".popsection",
    );

    #[derive(Debug)]
    pub struct Fibre {
        low: Cell<u64>,
        bytes: Cell<u64>,
    }

    // SAFETY: used by whoever has the stack.
    unsafe impl Sync for Fibre {}

    impl Fibre {
        pub const fn new() -> Fibre {
            Fibre {
                low: Cell::new(0),
                bytes: Cell::new(0),
            }
        }

        pub fn begin(&self, low: u64, bytes: u64) {
            self.low.set(low);
            self.bytes.set(bytes);
            // SAFETY: a stack that nobody uses. What left it without returning has left its marks.
            unsafe { __asan_unpoison_memory_region(low, bytes) }
        }

        /// From here on whoever uses an address on this stack is found.
        pub fn end(&self) {
            // SAFETY: as above.
            unsafe { __asan_poison_memory_region(self.low.get(), self.bytes.get()) }
        }

        pub fn gone(&self) {}

        pub fn hand_to(&self, to: &Fibre) {
            to.low.set(self.low.get());
            to.bytes.set(self.bytes.get());
        }
    }

    pub fn released<T>(_word: *const T) {}

    /// Null: all is done here, because AddressSanitizer does not mind who returns where.
    #[inline(always)]
    pub fn save(save: &Fibre, to: &Fibre) -> *mut () {
        let (low, bytes) = (to.low.get(), to.bytes.get());
        // SAFETY: `to` has the bounds of its stack, and `save` is this stack's.
        unsafe { flux_fibre_switch(low, bytes, save.low.as_ptr(), save.bytes.as_ptr()) };
        core::ptr::null_mut()
    }

    /// # Safety
    /// `fibre` is what `save` returned.
    #[inline(always)]
    pub unsafe fn go(_fibre: *mut ()) {}
}
