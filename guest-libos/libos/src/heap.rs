//! Boot memory: taken once, never given back.

/// What is left of the guest's free RAM.
#[derive(Debug)]
pub struct Heap {
    at: u64,
    end: u64,
}

/// The VM has too little memory for its tables.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMemory;

impl Heap {
    /// # Safety
    /// `[base, base + bytes)` is mapped, writable and used by nobody else.
    pub unsafe fn new(base: u64, bytes: u64) -> Heap {
        Heap {
            at: base,
            end: base.saturating_add(bytes),
        }
    }

    /// Room for `count` values, each made by `make` from its index.
    pub fn slice<T>(
        &mut self,
        count: usize,
        mut make: impl FnMut(usize) -> T,
    ) -> Result<&'static mut [T], NoMemory> {
        // Whole lines: what one vCPU writes is not on a line with what another one does.
        let align = align_of::<T>().max(flux_abi::LINE) as u64;
        let start = self.at.checked_next_multiple_of(align).ok_or(NoMemory)?;
        let bytes = (size_of::<T>() as u64)
            .checked_mul(count as u64)
            .ok_or(NoMemory)?;
        let end = start
            .checked_add(bytes)
            .filter(|end| *end <= self.end)
            .ok_or(NoMemory)?;
        self.at = end;
        let base = start as *mut T;
        for i in 0..count {
            // SAFETY: inside the range that was just taken off the heap, and aligned.
            unsafe { base.add(i).write(make(i)) };
        }
        // SAFETY: all `count` values were written above, and nobody else gets this memory.
        Ok(unsafe { core::slice::from_raw_parts_mut(base, count) })
    }

    /// Room for one value.
    pub fn value<T>(&mut self, value: T) -> Result<&'static T, NoMemory> {
        let mut value = Some(value);
        // `make` is called once, for index 0.
        let room = self.slice(1, |_| value.take())?;
        match &room[0] {
            Some(value) => Ok(value),
            None => Err(NoMemory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_runs_out_without_harm() {
        let mut room = vec![0u8; 1024];
        // SAFETY: the vector outlives the heap and is not used otherwise.
        let mut heap = unsafe { Heap::new(room.as_mut_ptr() as u64, 1024) };
        let some = heap.slice(64, |i| i as u32).map(|s| s.to_vec());
        assert_eq!(some, Ok((0..64).collect::<Vec<u32>>()));
        assert_eq!(heap.value(7u64), Ok(&7));
        assert_eq!(heap.slice(1024, |_| 0u8), Err(NoMemory));
        assert_eq!(heap.slice(usize::MAX, |_| 0u64), Err(NoMemory));
    }
}
