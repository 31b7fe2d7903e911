use super::*;
use crate::fake::Fake;

fn full(value: u32) -> Cell<u32> {
    Cell::new(Some(value))
}

/// Sends as `id`, which sleeps if it must.
fn send<const N: usize>(c: &Channel<u32, N>, table: &Fake, id: Id, cell: &Cell<u32>) -> Try<()> {
    // SAFETY: the tests' cells outlive the sleeps.
    let result = unsafe { c.send(table, id, cell) };
    if result == Try::Sleep {
        // SAFETY: follows a Sleep.
        unsafe { c.asleep() };
    }
    result
}

fn receive<const N: usize>(c: &Channel<u32, N>, table: &Fake, id: Id, cell: &Cell<u32>) -> Try<u32> {
    // SAFETY: as above.
    let result = unsafe { c.receive(table, id, cell) };
    if result == Try::Sleep {
        // SAFETY: follows a Sleep.
        unsafe { c.asleep() };
    }
    result
}

fn content(cell: &Cell<u32>) -> Option<u32> {
    // SAFETY: the tests look at cells of those that were woken.
    unsafe { cell.take() }
}

fn close<const N: usize>(c: &Channel<u32, N>, table: &Fake) -> Vec<Id> {
    let mut woken = Waiters::new();
    while !c.close(table, &mut woken) {}
    core::iter::from_fn(|| woken.pop(table)).collect()
}

#[test]
fn values_come_out_in_order_and_senders_wait_for_room() {
    let (c, table) = (Channel::<u32, 2>::new(), Fake::new());
    for value in [10, 11] {
        assert_eq!(c.try_send(&table, &full(value)), Try::Done((), None));
    }
    let (a, b) = (full(12), full(13));
    assert_eq!(c.try_send(&table, &a), Try::Would);
    assert_eq!(send(&c, &table, 1, &a), Try::Sleep);
    assert_eq!(send(&c, &table, 2, &b), Try::Sleep);
    assert_eq!(c.try_receive(&table), Try::Done(10, Some(1)));
    assert_eq!(content(&a), None, "it was sent");
    assert_eq!(c.try_receive(&table), Try::Done(11, Some(2)));
    assert_eq!(c.len(), 2);
    assert_eq!(c.try_receive(&table), Try::Done(12, None));
    assert_eq!(c.try_receive(&table), Try::Done(13, None));
    assert_eq!(c.try_receive(&table), Try::Would);
}

#[test]
fn a_rendezvous_passes_from_hand_to_hand() {
    let (c, table) = (Channel::<u32, 0>::new(), Fake::new());
    let (sent, got) = (full(5), Cell::new(None));
    assert_eq!(c.try_send(&table, &sent), Try::Would);
    assert_eq!(send(&c, &table, 1, &sent), Try::Sleep);
    assert_eq!(receive(&c, &table, 2, &got), Try::Done(5, Some(1)));
    assert_eq!(receive(&c, &table, 2, &got), Try::Sleep);
    assert_eq!(c.try_send(&table, &full(6)), Try::Done((), Some(2)));
    assert_eq!(content(&got), Some(6));
}

#[test]
fn who_ran_out_of_time_has_neither_sent_nor_received() {
    let (c, table) = (Channel::<u32, 0>::new(), Fake::new());
    let (a, b) = (full(1), full(2));
    table.open(1);
    assert_eq!(send(&c, &table, 1, &a), Try::Sleep);
    assert_eq!(send(&c, &table, 2, &b), Try::Sleep);
    table.expire(1);
    assert_eq!(c.try_receive(&table), Try::Done(2, Some(2)));
    c.leave(&table, 1, true);
    assert_eq!(content(&a), Some(1), "it is the sender's again");

    let got = Cell::new(None);
    table.open(3);
    assert_eq!(receive(&c, &table, 3, &got), Try::Sleep);
    table.expire(3);
    c.leave(&table, 3, false);
    assert_eq!(c.try_send(&table, &full(9)), Try::Would, "nobody waits for it");
    assert_eq!(content(&got), None);
}

#[test]
fn what_was_sent_before_the_end_is_received() {
    let (c, table) = (Channel::<u32, 1>::new(), Fake::new());
    let (a, b) = (full(1), full(2));
    assert_eq!(send(&c, &table, 1, &a), Try::Done((), None));
    assert_eq!(send(&c, &table, 2, &b), Try::Sleep);
    assert_eq!(close(&c, &table), [2]);
    assert_eq!(content(&b), Some(2), "it was not sent");
    assert_eq!(c.try_send(&table, &b), Try::Closed);
    assert_eq!(c.try_receive(&table), Try::Done(1, None));
    assert_eq!(c.try_receive(&table), Try::Closed);
    assert_eq!(close(&c, &table), []);

    let (c, got) = (Channel::<u32, 1>::new(), Cell::new(None));
    assert_eq!(receive(&c, &table, 3, &got), Try::Sleep);
    assert_eq!(close(&c, &table), [3]);
    assert_eq!(content(&got), None);
}

#[test]
fn what_nobody_received_is_dropped() {
    let (value, table) = (std::rc::Rc::new(()), Fake::new());
    let c = Channel::<_, 4>::new();
    for _ in 0..3 {
        c.try_send(&table, &Cell::new(Some(value.clone())));
    }
    assert_eq!(std::rc::Rc::strong_count(&value), 4);
    assert!(matches!(c.try_receive(&table), Try::Done(..)));
    drop(c);
    assert_eq!(std::rc::Rc::strong_count(&value), 1);
}
