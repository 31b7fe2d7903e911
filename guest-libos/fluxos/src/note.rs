//! The ELF notes by which Fluxion knows the image: which ABI it was built for, where a vCPU enters
//! again whose context was taken, and where it is resumed when its uThread is to give way.

use core::mem::size_of;

/// One note as it lies in the file, and how its parts are counted.
#[repr(C)]
struct Note<T> {
    name_bytes: u32,
    data_bytes: u32,
    kind: u32,
    name: [u8; 12],
    data: T,
}

/// 10 bytes with the NUL; the two behind it fill up.
const NAME: [u8; 12] = *b"HyperFlux\0\0\0";

const fn note<T>(kind: u32, data: T) -> Note<T> {
    Note {
        name_bytes: 10,
        data_bytes: size_of::<T>() as u32,
        kind,
        name: NAME,
        data,
    }
}

#[used]
#[unsafe(link_section = ".note.hyperflux")]
static ABI: Note<[u32; 2]> = note(1, [flux_abi::ABI_MAJOR, flux_abi::ABI_MINOR]);

#[used]
#[unsafe(link_section = ".note.hyperflux")]
static REENTRY: Note<unsafe extern "C" fn() -> !> = note(2, crate::_start);

#[used]
#[unsafe(link_section = ".note.hyperflux")]
static UPCALL: Note<unsafe extern "C" fn()> = note(3, arch::upcall::upcall);

/// A note's data follows its name without a gap, also where it is 8 bytes wide.
const _: () = assert!(core::mem::offset_of!(Note<u64>, data) == 24);
