//! Hosted guests under a sanitizer; nothing of this is there in others.
//!
//! A sanitizer's runtime has locks of its own, and data of the kernel thread's, which it looks for in
//! several steps. A uThread that was held in there could not go on elsewhere, and Fluxion's side of its
//! thread would wait for its locks. So a kick that finds the guest in the runtime, or in a library, is
//! taken at the first instruction after: the thread is single-stepped until then. And the sanitizers do not see to
//! these signals: ThreadSanitizer would keep a kick for the next call of the C library.
//!
//! Handlers are fibres of their own (see [`arch::fibre`]): the interrupted one may go on elsewhere
//! while its handler still stands here.

pub(crate) use imp::{sigaction, Fibres};

#[cfg(not(flux_sanitizer))]
mod imp {
    use arch::fibre::Fibre;

    /// Those of a vCPU's thread.
    #[derive(Debug)]
    pub struct Fibres {
        pub fluxion: Fibre,
        pub guest: Fibre,
    }

    impl Fibres {
        pub fn new(_boot_stack_top: u64) -> Fibres {
            let (fluxion, guest) = (Fibre::new(), Fibre::new());
            Fibres { fluxion, guest }
        }

        pub fn attach(&self, _base: u64, _len: u64) {}

        pub fn enter_again(&self, _boot_stack_top: u64) {}

        pub fn hand_to(&self, _thief: u32) {}
    }

    /// # Safety
    /// As the C library's.
    pub unsafe fn sigaction(signal: libc::c_int, action: &libc::sigaction) -> libc::c_int {
        // SAFETY: by the caller's promise.
        unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) }
    }
}

#[cfg(flux_sanitizer)]
#[path = "sanitizer/kicks.rs"]
mod imp;

#[cfg(flux_sanitizer)]
#[path = "sanitizer/runtime.rs"]
mod runtime;

#[cfg(flux_sanitizer)]
#[path = "sanitizer/options.rs"]
mod options;
