//! The C faces of FluxOS: POSIX threads as uThreads, and the native functions of `fluxos.h`.
//!
//! C programs include the headers of `../include`, which give each function a symbol of its own
//! (`flux_pthread_create` and so on): a hosted program has a C library's threads beside it, and
//! they are not to be mixed up. Errors are POSIX's. Nothing that a program hands in may make FluxOS
//! panic; what POSIX leaves undefined is refused where it can be seen.

#![cfg_attr(not(test), no_std)]

pub mod attr;
pub mod barrier;
pub mod block;
pub mod cancel;
pub mod clock;
pub mod cond;
pub mod errno;
pub mod escape;
pub mod keys;
pub mod mutex;
mod native;
pub mod object;
pub mod once;
pub mod program;
pub mod rwlock;
pub mod sem;
pub mod spin;
pub mod thread;
pub mod tls;
