//! `batch`: best-effort work that never ends. Hashes blocks and counts them.
//!
//! Each uThread hashes a chain: the digest of a block is the beginning of the next one. A chain
//! always begins the same, so the digest at its end is always the same: the first time it is
//! remembered, and from then on every register or byte that a park might have damaged shows.

use crate::cmdline::{Args, BadArgs};
use crate::hash::{sha256, DIGEST};

const BLOCK: usize = 4096;

/// Starts the workload's uThreads; the calling one ends.
pub fn start(args: Args<'static>) -> Result<(), BadArgs<'static>> {
    args.only(&["uthreads", "yield_every", "chain"])?;
    let per_vcpu = args.number("uthreads", 1, 1, 1024)?;
    let yield_every = args.number("yield_every", 1, 0, u64::from(u32::MAX))?;
    let chain = args.number("chain", 64, 1, 1 << 20)?;
    let wanted = per_vcpu * u64::from(libos::uthread::kernel().vcpus());
    libos::log::info(format_args!(
        "batch: {wanted} uThreads, a scheduling point every {yield_every} blocks"
    ));
    for seed in 0..wanted {
        libos::uthread::spawn(move || hash_for_ever(seed, yield_every, chain))
            .map_err(|_| BadArgs::Stacks { wanted })?;
    }
    Ok(())
}

fn hash_for_ever(seed: u64, yield_every: u64, chain: u64) {
    let mut block = [0; BLOCK];
    let mut expected = None;
    let mut turns = 0;
    loop {
        let end = hash_chain(&mut block, seed, chain, |_| {
            libos::uthread::count_done();
            turns += 1;
            if turns == yield_every {
                turns = 0;
                libos::uthread::yield_now();
            }
        });
        match expected {
            None => expected = Some(end),
            Some(before) if before == end => {}
            Some(_) => libos::uthread::kernel().count_integrity_error(),
        }
    }
}

/// Hashes one chain of blocks and returns its last digest.
fn hash_chain(block: &mut [u8; BLOCK], seed: u64, length: u64, mut done: impl FnMut(u64)) -> [u8; DIGEST] {
    for (i, byte) in block.iter_mut().enumerate() {
        *byte = (seed as usize).wrapping_add(i * 7) as u8;
    }
    let mut digest = [0; DIGEST];
    for i in 0..length {
        digest = sha256(&block[..]);
        block[..DIGEST].copy_from_slice(&digest);
        done(i);
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_repeat_and_differ() {
        let mut block = [0; BLOCK];
        let mut blocks = 0;
        let first = hash_chain(&mut block, 1, 5, |_| blocks += 1);
        assert_eq!(blocks, 5);
        assert_eq!(hash_chain(&mut block, 1, 5, |_| {}), first);
        assert_ne!(hash_chain(&mut block, 2, 5, |_| {}), first);
        assert_ne!(hash_chain(&mut block, 1, 6, |_| {}), first);
    }
}
