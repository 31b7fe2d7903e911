//! Error numbers: Linux's, as in `include/errno.h`.

use core::ffi::c_int;

use crate::block::Block;

pub const EPERM: c_int = 1;
pub const ESRCH: c_int = 3;
pub const EAGAIN: c_int = 11;
pub const EPIPE: c_int = 32;
pub const EBUSY: c_int = 16;
pub const EINVAL: c_int = 22;
pub const EDEADLK: c_int = 35;
pub const EOVERFLOW: c_int = 75;
pub const ENOTSUP: c_int = 95;
pub const ETIMEDOUT: c_int = 110;

/// Where the calling uThread's `errno` is.
#[unsafe(no_mangle)]
pub extern "C" fn flux_errno() -> *mut c_int {
    Block::mine().errno.as_ptr()
}

/// As functions outside pthreads return: 0, or -1 with `errno` set.
pub fn by_errno(result: Result<(), c_int>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            Block::mine().errno.set(error);
            -1
        }
    }
}

/// As pthread functions return.
pub fn number(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(0)
}
