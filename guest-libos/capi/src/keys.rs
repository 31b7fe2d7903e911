//! Thread-specific data: keys, and what each thread keeps for them.
//!
//! A key has a number that changes when it is made and when it is deleted, and each value says for
//! which number it was set. So a key that is made anew finds no old values, and nobody goes through
//! the threads to clear them.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::Mutex;

use crate::block::Block;
use crate::errno::{EAGAIN, EINVAL};

pub const KEYS: usize = 128;
const ITERATIONS: usize = 4;

type Destructor = unsafe extern "C" fn(*mut c_void);

/// The number of each key: odd while the key is there.
static NUMBERS: [AtomicU32; KEYS] = [const { AtomicU32::new(0) }; KEYS];
static DESTRUCTORS: Mutex<[Option<Destructor>; KEYS]> = Mutex::new([None; KEYS]);

/// What a thread keeps for one key.
#[derive(Debug)]
pub struct Value {
    number: Cell<u32>,
    value: Cell<*mut c_void>,
}

impl Value {
    pub const fn none() -> Value {
        Value {
            number: Cell::new(0),
            value: Cell::new(core::ptr::null_mut()),
        }
    }
}

fn number_of(key: usize) -> Option<u32> {
    // Acquire pairs with the release in `create`. A program that uses a key while it is being made
    // or deleted gets one of both, as POSIX has it.
    NUMBERS
        .get(key)
        .map(|number| number.load(Ordering::Acquire))
        .filter(|number| number % 2 == 1)
}

/// # Safety
/// `key` is null or can be written; the destructor is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_key_create(key: *mut u32, destructor: Option<Destructor>) -> c_int {
    if key.is_null() {
        return EINVAL;
    }
    let made = DESTRUCTORS.with(|destructors| {
        let free = NUMBERS
            .iter()
            .position(|number| number.load(Ordering::Relaxed) % 2 == 0)?;
        destructors[free] = destructor;
        NUMBERS[free].fetch_add(1, Ordering::Release);
        Some(free as u32)
    });
    match made {
        Some(made) => {
            // SAFETY: by the caller's promise.
            unsafe { key.write(made) };
            0
        }
        None => EAGAIN,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_key_delete(key: u32) -> c_int {
    DESTRUCTORS.with(|destructors| match number_of(key as usize) {
        Some(_) => {
            NUMBERS[key as usize].fetch_add(1, Ordering::Release);
            destructors[key as usize] = None;
            0
        }
        None => EINVAL,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_setspecific(key: u32, value: *const c_void) -> c_int {
    let Some(number) = number_of(key as usize) else {
        return EINVAL;
    };
    let mine = &Block::mine().values[key as usize];
    mine.number.set(number);
    mine.value.set(value.cast_mut());
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_getspecific(key: u32) -> *mut c_void {
    let Some(number) = number_of(key as usize) else {
        return core::ptr::null_mut();
    };
    let mine = &Block::mine().values[key as usize];
    if mine.number.get() == number {
        mine.value.get()
    } else {
        core::ptr::null_mut()
    }
}

/// Calls the destructors of the calling thread's values, again if they have left new ones, but not
/// for ever.
pub fn destroy(block: &Block) {
    for _ in 0..ITERATIONS {
        let mut again = false;
        for (key, mine) in block.values.iter().enumerate() {
            let value = mine.value.get();
            if value.is_null() || number_of(key) != Some(mine.number.get()) {
                continue;
            }
            mine.value.set(core::ptr::null_mut());
            let number = Some(mine.number.get());
            let destructor =
                DESTRUCTORS.with(|destructors| destructors[key].filter(|_| number_of(key) == number));
            if let Some(destructor) = destructor {
                again = true;
                // SAFETY: the program's, for values of this key, which are not null.
                unsafe { destructor(value) };
            }
        }
        if !again {
            return;
        }
    }
}
