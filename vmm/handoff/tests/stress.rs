//! Real threads, real futexes, random commands: whoever runs on a core is the only one
//! there, and nobody is lost. `FLUX_STRESS_SECONDS` sets how long (default 5).
#![cfg(not(feature = "loom"))]

use flux_abi as abi;
use handoff::bridge::{Bridge, COMMAND_WORDS, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK};
use handoff::protocol::{vcpu_state, CoreWord, World};
use handoff::{vcpu, Asked, Enter, Handle, How, Left, Table, Woken};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VMS: u32 = 4;
const VCPUS: u32 = 2;

/// Small, seeded and good enough to choose with (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32 % bound
    }
}

struct Lab {
    table: Arc<Table>,
    /// Who is on each core, by handle; 0 for nobody. The test's own truth.
    on_core: [AtomicU32; 2],
    tenures: AtomicU64,
    clashes: AtomicU32,
}

fn all() -> impl Iterator<Item = Handle> {
    (0..VMS).flat_map(|slot| (0..VCPUS).filter_map(move |vcpu| Handle::new(slot, vcpu)))
}

fn live(lab: &Lab, me: Handle) {
    let mut random = Random(0x9e37_79b9 + me.raw() as u64);
    loop {
        let core = match vcpu::wait_for_grant(&lab.table, me) {
            Woken::Granted { core } => core,
            Woken::Unmanaged => panic!("nobody ended the lease"),
            Woken::Dead => return,
        };
        let how = match vcpu::enter(&lab.table, me) {
            Enter::Leave => How::Entry,
            Enter::Go { .. } => {
                if lab.on_core[core as usize].swap(me.raw() as u32, SeqCst) != 0 {
                    lab.clashes.fetch_add(1, SeqCst);
                }
                let how = hold(lab, me, random.below(2000));
                lab.on_core[core as usize].store(0, SeqCst);
                lab.tenures.fetch_add(1, SeqCst);
                how
            }
            other => panic!("{other:?}"),
        };
        match vcpu::leave(&lab.table, me, how) {
            Left::Parked => {}
            Left::Dead => return,
            Left::Unmanaged => panic!("nobody ended the lease"),
        }
    }
}

/// Yields after a while, or leaves when asked; whichever the race decides.
fn hold(lab: &Lab, me: Handle, patience: u32) -> How {
    for _ in 0..patience {
        if vcpu::asked(&lab.table, me) != Asked::No {
            return How::Asked;
        }
        std::hint::spin_loop();
    }
    How::Yield
}

fn command(bridge: &mut Bridge, op: i32, core: u32, from: u32, to: u32) -> i32 {
    let mut batch = [op, core as i32, from as i32, to as i32, 0, 0, 0, 0];
    bridge.submit(&mut batch);
    batch[COMMAND_WORDS - 1]
}

#[test]
fn random_commands_never_put_two_on_a_core_or_lose_one() {
    let seconds = std::env::var("FLUX_STRESS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let (_fd, table) = Table::create(1_000_000, 6).unwrap();
    let table = Arc::new(table);
    for slot in 0..VMS {
        let vm = table.vm(slot).unwrap();
        vm.vcpus.store(VCPUS, SeqCst);
        vm.state.store(abi::VM_LIVE, SeqCst);
    }
    // Both counters start just below their wrap.
    for core in 0..2 {
        let near_wrap = CoreWord {
            owner: 0,
            successor: 0,
            generation: u32::MAX - 100,
        };
        table
            .core_line(core)
            .unwrap()
            .word
            .store(near_wrap.word(), SeqCst);
    }
    let mut bridge = Bridge::new(table.clone());
    let epoch = bridge.claim(1, 0, &[0b11, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(epoch, 1);
    let lab = Arc::new(Lab {
        table: table.clone(),
        on_core: Default::default(),
        tenures: AtomicU64::new(0),
        clashes: AtomicU32::new(0),
    });
    let threads: Vec<_> = all()
        .map(|me| {
            table.vcpu_line(me).park_req.store(u32::MAX - 50, SeqCst);
            // Thread ids are left out, so affinity fails harmlessly and no kick is sent:
            // both "cores" may then share one CPU of a small machine.
            vcpu::ready(&table, me, 0, false);
            let lab = lab.clone();
            std::thread::spawn(move || live(&lab, me))
        })
        .collect();

    let mut random = Random(42);
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(5));
    let mut results = [0u64; 2];
    while Instant::now() < end {
        let core = random.below(2);
        let pick =
            |random: &mut Random| Handle::new(random.below(VMS), random.below(VCPUS)).unwrap().raw() as u32;
        let owner = CoreWord::of(table.core(core)).owner;
        let other = pick(&mut random);
        let result = match random.below(8) {
            0 => command(&mut bridge, OP_PARK, core, owner, 0),
            1 => command(&mut bridge, OP_HEIR, core, 0, other),
            2 => command(&mut bridge, OP_HEIR, core, 0, 0),
            3 | 4 => command(&mut bridge, OP_GRANT, core, 0, other),
            _ => command(&mut bridge, OP_MOVE, core, owner, other),
        };
        results[(result < 0) as usize] += 1;
        bridge.poll();
        for _ in 0..random.below(200) {
            std::hint::spin_loop();
        }
    }

    // Nobody is lost: with the heirs gone everyone parks, and everyone can be granted again.
    let settle = Instant::now() + Duration::from_secs(20);
    for core in 0..2 {
        command(&mut bridge, OP_HEIR, core, 0, 0);
    }
    loop {
        let parked = all()
            .filter(|me| vcpu_state(table.vcpu(*me)) == abi::VCPU_PARKED)
            .count();
        if parked == all().count() {
            break;
        }
        assert!(Instant::now() < settle, "only {parked} vCPUs parked in the end");
        std::thread::yield_now();
    }
    for me in all() {
        assert_eq!(command(&mut bridge, OP_GRANT, 0, 0, me.raw() as u32), 0);
        while vcpu_state(table.vcpu(me)) != abi::VCPU_PARKED {
            assert!(Instant::now() < settle, "{me:?} did not come back");
            std::thread::yield_now();
        }
    }
    for me in all() {
        vcpu::poison(&table, me);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let tenures = lab.tenures.load(SeqCst);
    println!(
        "{tenures} tenures, {} commands done, {} refused",
        results[0], results[1]
    );
    assert_eq!(lab.clashes.load(SeqCst), 0);
    assert!(tenures > 100 && results[0] > 100, "the stress did not stress");
}
