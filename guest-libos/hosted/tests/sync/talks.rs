//! uThreads that tell each other something.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use libos::sync::{Channel, Condvar, Group, Lapse, Mutex, ReceiveError, SendError, Until};
use libos::time::deadline_in;

use super::{each, expect, linger, result, soon, start, Random};

const TURNS: u64 = 40;

/// A queue with little room, by hand.
pub fn condvar(round: u64) {
    const ROOM: u64 = 3;
    let queue = Mutex::new((0u64, 0u64));
    let (filled, emptied) = (Condvar::new(), Condvar::new());
    each::<6>(|i| {
        let mut random = Random(round * 61 + i as u64 + 1);
        for _ in 0..TURNS {
            let mut guard = queue.lock();
            if i % 2 == 0 {
                while guard.0 - guard.1 >= ROOM {
                    emptied.wait(&mut guard);
                }
                guard.0 += 1;
                linger(&mut random);
                if random.below(2) == 0 {
                    drop(guard);
                }
                filled.notify_one();
            } else {
                while guard.0 == guard.1 {
                    filled.wait(&mut guard);
                }
                guard.1 += 1;
                expect("there is no more than room", guard.0 - guard.1 < ROOM);
                drop(guard);
                emptied.notify_one();
            }
        }
    });
    expect("all came through", *queue.lock() == (3 * TURNS, 3 * TURNS));
}

/// One says go, turn after turn; the others answer.
pub fn broadcast(round: u64) {
    const OTHERS: u64 = 5;
    let state = Mutex::new((0u64, 0u64));
    let (go, answered) = (Condvar::new(), Condvar::new());
    each::<6>(|i| {
        let mut random = Random(round * 67 + i as u64 + 1);
        for turn in 1..=TURNS {
            let mut guard = state.lock();
            if i == 0 {
                guard.0 = turn;
                go.notify_all();
                while guard.1 < turn * OTHERS {
                    answered.wait(&mut guard);
                }
            } else {
                while guard.0 < turn {
                    go.wait(&mut guard);
                }
                expect("one turn at a time", guard.0 == turn);
                linger(&mut random);
                guard.1 += 1;
                if guard.1 == turn * OTHERS {
                    answered.notify_one();
                }
            }
        }
    });
    expect("all have answered", *state.lock() == (TURNS, TURNS * OTHERS));
}

/// As many are notified as there are things to take, and some wait with deadlines: whoever runs out
/// of time takes no notification along, or somebody would wait for ever.
pub fn condvar_with_deadlines(round: u64) {
    let things = Mutex::new(0u64);
    let there = Condvar::new();
    let taken = AtomicU64::new(0);
    each::<6>(|i| {
        let mut random = Random(round * 71 + i as u64 + 1);
        let mut got = 0;
        while got < TURNS {
            if i < 3 {
                *things.lock() += 1;
                there.notify_one();
                got += 1;
                linger(&mut random);
                continue;
            }
            let until = if random.below(2) == 0 {
                Until::EVER
            } else {
                soon(&mut random)
            };
            let mut guard = things.lock();
            match there.wait_while(&mut guard, until, |things| *things == 0) {
                Ok(()) => {
                    *guard -= 1;
                    taken.fetch_add(1, SeqCst);
                    got += 1;
                }
                Err(lapse) => {
                    expect("only time runs out", lapse == Lapse::TimedOut && *guard == 0);
                }
            }
        }
    });
    expect(
        "everything was taken",
        taken.load(SeqCst) == 3 * TURNS && *things.lock() == 0,
    );
    let mut guard = things.lock();
    let late = there.wait_until(&mut guard, Until::at(deadline_in(1000)));
    expect("nobody notifies", late == Err(Lapse::TimedOut));
    expect("the mutex is had again", things.try_lock().is_none());
}

/// Three send, three receive; each value arrives once.
fn pass_on<const N: usize>(round: u64, channel: &Channel<u64, N>) {
    let (sum, sent) = (AtomicU64::new(0), AtomicU64::new(0));
    let open = AtomicU64::new(3);
    each::<6>(|i| {
        let mut random = Random(round * 73 + i as u64 + 1);
        if i < 3 {
            for turn in 1..=TURNS {
                let value = i as u64 * 1000 + turn;
                let mut unsent = value;
                loop {
                    let result = match random.below(3) {
                        0 => channel.send(unsent),
                        1 => channel.send_until(unsent, soon(&mut random)),
                        _ => channel.try_send(unsent),
                    };
                    match result {
                        Ok(()) => break,
                        Err(SendError::Lapsed(back, Lapse::TimedOut) | SendError::Full(back)) => {
                            expect("what was not sent comes back", back == value);
                            unsent = back;
                            libos::uthread::yield_now();
                        }
                        Err(_) => expect("nobody closes it", false),
                    }
                }
                sent.fetch_add(value, SeqCst);
            }
            if open.fetch_sub(1, SeqCst) == 1 {
                channel.close();
            }
            return;
        }
        loop {
            let result = match random.below(3) {
                0 => channel.receive(),
                1 => channel.receive_until(soon(&mut random)),
                _ => channel.try_receive(),
            };
            match result {
                Ok(value) => {
                    sum.fetch_add(value, SeqCst);
                    linger(&mut random);
                }
                Err(ReceiveError::Closed) => break,
                Err(_) => libos::uthread::yield_now(),
            }
        }
    });
    expect("each value arrives once", sum.load(SeqCst) == sent.load(SeqCst));
    expect("nothing is left", channel.is_empty());
    expect("it is closed", channel.send(1) == Err(SendError::Closed(1)));
    expect(
        "to receivers, too",
        channel.receive() == Err(ReceiveError::Closed),
    );
}

pub fn channel(round: u64) {
    pass_on(round, &Channel::<u64, 2>::new());
}

pub fn rendezvous(round: u64) {
    pass_on(round, &Channel::<u64, 0>::new());
}

/// Parts that make more parts; several wait. The group is gone as soon as they go on.
pub fn group(round: u64) {
    static DONE: AtomicU64 = AtomicU64::new(0);
    DONE.store(0, SeqCst);
    let group = Group::new(1);
    let at = &raw const group as usize;
    // SAFETY: this uThread waits for the group, and for all that use it.
    let group_at = move || unsafe { &*(at as *const Group) };
    let waiters: [_; 3] = core::array::from_fn(|_| {
        start(move || {
            group_at().wait();
            DONE.load(SeqCst)
        })
    });
    for i in 0..4 {
        group.add(1);
        start(move || {
            let mut random = Random(round * 79 + i + 1);
            group_at().add(1);
            start(move || {
                DONE.fetch_add(1, SeqCst);
                group_at().done();
            });
            linger(&mut random);
            DONE.fetch_add(1, SeqCst);
            group_at().done();
        });
    }
    group.done();
    group.wait();
    expect("all parts are done", DONE.load(SeqCst) == 8);
    for waiter in waiters {
        expect("to others, too", result(waiter) == 8);
    }
}
