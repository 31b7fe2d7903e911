use super::*;
use crate::image::Segment;
use crate::layout::{BOOT_STACK, EXCEPTION_STACK, UTHREAD_STACK};

fn segment(address: u64, size: u64, write: bool, execute: bool) -> Segment {
    Segment {
        address,
        size,
        file: 0..0,
        write,
        execute,
    }
}

fn guest() -> (Image, Layout) {
    let segments = vec![
        segment(0x40_0000, 0x1800, false, true),
        segment(0x40_2000, 0x800, false, false),
        segment(0x40_3010, 0x30_0000, true, false),
    ];
    let end = segments[2].pages().end;
    let image = Image {
        entry: 0x40_0000,
        reentry: 0x40_0000,
        upcall: None,
        segments,
        end,
    };
    let layout = Layout::new(&image, 256 << 20, 4, None).expect("fits");
    (image, layout)
}

#[test]
fn every_region_is_found_with_its_access() {
    let (image, layout) = guest();
    let tables = PageTables::of(&image, &layout).expect("tables");
    let data = |at| assert_eq!(tables.walk(at), Some((at, DATA)), "{at:#x}");
    let none = |at| assert_eq!(tables.walk(at), None, "{at:#x}");

    none(0);
    none(0xfff);
    assert_eq!(tables.walk(layout::GDT_BASE), Some((layout::GDT_BASE, READ)));
    assert_eq!(
        tables.walk(layout::TSS_BASE + 255),
        Some((layout::TSS_BASE + 255, READ))
    );
    data(layout::IDT_BASE);
    none(layout::TABLES_BASE);
    none(layout::TABLES_END - 1);
    none(0x20_0000);

    assert_eq!(
        tables.walk(0x40_1fff),
        Some((
            0x40_1fff,
            Access {
                write: false,
                execute: true
            }
        ))
    );
    assert_eq!(tables.walk(0x40_2000), Some((0x40_2000, READ)));
    data(0x40_3000);
    data(image.end - 1);

    for v in 0..4 {
        none(layout.boot_stack_top(v) - BOOT_STACK);
        data(layout.boot_stack_top(v) - BOOT_STACK + PAGE);
        data(layout.boot_stack_top(v) - 1);
        none(layout.exception_stack_top(v) - EXCEPTION_STACK);
        data(layout.exception_stack_top(v) - 1);
    }
    data(layout.heap);
    data(layout.heap + layout.heap_bytes / 2);
    data(layout.heap + layout.heap_bytes - 1);
    for s in [0, 1, layout.stack_count - 1] {
        none(layout.stacks + s * UTHREAD_STACK);
        none(layout.stacks + s * UTHREAD_STACK + PAGE - 1);
        data(layout.stacks + s * UTHREAD_STACK + PAGE);
        data(layout.stacks + (s + 1) * UTHREAD_STACK - 1);
    }
    none(256 << 20);
    let control = u64::from(abi::CONTROL_GPA);
    data(control);
    data(control + abi::CONTROL_BYTES as u64 - 1);
    none(control + abi::CONTROL_BYTES as u64);
}

#[test]
fn the_largest_guest_fits() {
    let (image, _) = guest();
    let layout = Layout::new(&image, 1008 << 20, 16, None).expect("fits");
    assert_eq!(
        layout.stack_count,
        layout::DEFAULT_STACKS_MAX.min((1008 << 20) / 4 / UTHREAD_STACK)
    );
    let tables = PageTables::of(&image, &layout).expect("tables");
    assert!(tables.bytes().len() as u64 <= layout::TABLES_END - layout::TABLES_BASE);
}

#[test]
fn all_of_ram_may_be_stacks() {
    let (image, _) = guest();
    let layout = Layout::new(&image, 1008 << 20, 1, Some(15_900)).expect("room in RAM");
    let tables = PageTables::of(&image, &layout).expect("tables");
    assert!(tables.bytes().len() as u64 <= layout::TABLES_END - layout::TABLES_BASE);
    for stack in [0, 1, 15_899] {
        let bottom = layout.stacks + stack * UTHREAD_STACK;
        assert_eq!(tables.walk(bottom), None, "the guard of stack {stack}");
        assert_eq!(tables.walk(bottom + PAGE), Some((bottom + PAGE, DATA)));
    }
}

#[test]
fn overlaps_are_refused() {
    let (mut image, layout) = guest();
    image.segments.push(segment(layout.heap, PAGE, true, false));
    assert_eq!(
        PageTables::of(&image, &layout).map(|_| ()),
        Err(TablesError::Twice(layout.heap))
    );
    let (mut image, layout) = guest();
    let inside = (layout.heap + (16 << 20)) & !(LARGE_PAGE - 1);
    image.segments = vec![segment(inside, PAGE, true, false)];
    assert!(PageTables::of(&image, &layout).is_err());
}

#[test]
fn descriptors_say_what_they_should() {
    let bytes = gdt(3);
    let entry = |selector: usize| {
        let at = selector & !7;
        u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]))
    };
    assert_eq!(entry(USER_CODE.into()) >> 45 & 3, 3, "ring 3");
    assert_eq!(entry(USER_CODE.into()) >> 53 & 1, 1, "long mode");
    assert_eq!(entry(USER_DATA.into()) >> 41 & 1, 1, "writable");
    assert_eq!(entry(TASK.into()) & 0xffff, TSS_BYTES as u64 - 1);
    assert_eq!(entry(TASK.into()) >> 16 & 0xff_ffff, Layout::tss(3));

    let (_, layout) = guest();
    let state = tss(&layout, 1);
    assert_eq!(&state[36..44], &layout.exception_stack_top(1).to_le_bytes());
    assert_eq!(state[102], 104);
    let port = usize::from(abi::PORT_DOORBELL);
    assert_eq!(
        state[104 + port / 8] >> (port % 8) & 1,
        0,
        "the doorbell is allowed"
    );
    assert_eq!(state[TSS_BYTES - 1], 0xff);
}
