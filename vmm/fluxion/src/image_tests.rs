use super::*;
use proptest::prelude::*;

const LIMIT: u64 = 64 << 20;
const ABI: (u32, u32) = (1, 2);

fn note(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [NOTE_NAME.len() as u32, data.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(NOTE_NAME);
    bytes.extend([0; 2]);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn abi_note(major: u32, minor: u32) -> Vec<u8> {
    note(NOTE_ABI, &[major.to_le_bytes(), minor.to_le_bytes()].concat())
}

/// A program header: kind, flags, offset, address, file size, memory size.
type Ph = (u32, u32, u64, u64, u64, u64);

fn elf(entry: u64, headers: &[Ph], notes: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
    file[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&(headers.len() as u16 + 1).to_le_bytes());
    let notes_at = 64 + 56 * (headers.len() as u64 + 1);
    let note_header = (PT_NOTE, 4, notes_at, 0, notes.len() as u64, 0);
    for (kind, flags, offset, address, file_size, size) in headers.iter().copied().chain([note_header]) {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [offset, address, address, file_size, size, 4096] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(notes);
    file.resize(4096 * 2, 0x90);
    file
}

const CODE: Ph = (PT_LOAD, 5, 4096, IMAGE_BASE, 100, 100);
const DATA: Ph = (PT_LOAD, 6, 4200, IMAGE_BASE + 0x1000, 16, 0x2001);

fn notes() -> Vec<u8> {
    [
        abi_note(1, 0),
        note(9, b"foreign"),
        note(NOTE_REENTRY, &(IMAGE_BASE + 99).to_le_bytes()),
    ]
    .concat()
}

fn good() -> Vec<u8> {
    elf(IMAGE_BASE, &[DATA, CODE], &notes())
}

fn error(file: &[u8]) -> ImageError {
    parse(file, LIMIT, ABI).expect_err("must be refused")
}

#[test]
fn a_good_image_is_understood() {
    let image = parse(&good(), LIMIT, ABI).expect("good");
    assert_eq!((image.entry, image.reentry), (IMAGE_BASE, IMAGE_BASE + 99));
    assert_eq!(image.segments.len(), 2);
    assert_eq!(image.segments[0].file, 4096..4196);
    assert_eq!(image.end, IMAGE_BASE + 0x4000);
    assert_eq!(image.upcall, None, "it need not have one");
    let with = [notes(), note(NOTE_UPCALL, &(IMAGE_BASE + 10).to_le_bytes())].concat();
    let image = parse(&elf(IMAGE_BASE, &[DATA, CODE], &with), LIMIT, ABI).expect("good");
    assert_eq!(image.upcall, Some(IMAGE_BASE + 10));
}

#[test]
fn each_kind_of_bad_image_has_its_error() {
    assert_eq!(error(b""), ImageError::NotElf);
    assert_eq!(error(b"#!/bin/sh\necho not an image\n"), ImageError::NotElf);
    assert!(matches!(
        error(&good()[..40]),
        ImageError::Truncated("the ELF header", 40)
    ));
    assert!(matches!(
        error(&good()[..100]),
        ImageError::Truncated("a program header", 100)
    ));
    assert!(matches!(
        error(&good()[..4150]),
        ImageError::Truncated("a segment", 4150)
    ));
    let mut arm = good();
    arm[18] = 183;
    assert!(matches!(error(&arm), ImageError::Machine { machine: 183, .. }));
    let mut pie = good();
    pie[16] = 3;
    assert!(matches!(error(&pie), ImageError::NotStatic(_)));
    assert!(matches!(
        error(&elf(IMAGE_BASE, &[CODE, (PT_INTERP, 4, 0, 0, 1, 1)], &notes())),
        ImageError::NotStatic(_)
    ));
    assert_eq!(error(&elf(IMAGE_BASE, &[], &notes())), ImageError::Empty);
    assert!(matches!(
        error(&elf(IMAGE_BASE, &[CODE; 64], &notes())),
        ImageError::Headers(65, 56)
    ));
}

#[test]
fn segments_must_lie_in_their_room() {
    let with = |ph: Ph| error(&elf(IMAGE_BASE, &[CODE, ph], &notes()));
    assert!(matches!(
        with((PT_LOAD, 6, 0, 0x1000, 0, 1)),
        ImageError::Outside { start: 0x1000, .. }
    ));
    assert!(matches!(
        with((PT_LOAD, 6, 0, LIMIT - 1, 0, 2)),
        ImageError::Outside { .. }
    ));
    assert!(matches!(
        with((PT_LOAD, 6, 0, u64::MAX, 0, 2)),
        ImageError::Outside { .. }
    ));
    assert!(matches!(
        with((PT_LOAD, 6, 0, IMAGE_BASE + 0x1000, 2, 1)),
        ImageError::FileSize(_)
    ));
    assert!(matches!(
        with((PT_LOAD, 6, u64::MAX, IMAGE_BASE + 0x1000, 2, 2)),
        ImageError::Truncated(..)
    ));
    assert_eq!(
        with((PT_LOAD, 7, 0, IMAGE_BASE + 0x1000, 1, 1)),
        ImageError::WriteExecute(IMAGE_BASE + 0x1000)
    );
    assert_eq!(
        with((PT_LOAD, 6, 0, IMAGE_BASE + 0xfff, 1, 1)),
        ImageError::SharedPage(IMAGE_BASE)
    );
}

#[test]
fn entries_must_be_code() {
    assert!(matches!(
        error(&elf(IMAGE_BASE + 100, &[CODE], &notes())),
        ImageError::Entry("entry point", _)
    ));
    assert!(matches!(
        error(&elf(IMAGE_BASE + 0x1000, &[CODE, DATA], &notes())),
        ImageError::Entry(..)
    ));
    let reentry = [abi_note(1, 0), note(NOTE_REENTRY, &[0; 8])].concat();
    assert_eq!(
        error(&elf(IMAGE_BASE, &[CODE], &reentry)),
        ImageError::Entry("re-entry point", 0)
    );
    let upcall = [notes(), note(NOTE_UPCALL, &[0; 8])].concat();
    assert_eq!(
        error(&elf(IMAGE_BASE, &[CODE], &upcall)),
        ImageError::Entry("upcall", 0)
    );
}

#[test]
fn versions_are_compared_and_both_named() {
    let with = |notes: Vec<u8>| parse(&elf(IMAGE_BASE, &[CODE], &notes), LIMIT, ABI);
    let reentry = note(NOTE_REENTRY, &IMAGE_BASE.to_le_bytes());
    assert!(with([abi_note(1, 2), reentry.clone()].concat()).is_ok());
    for (major, minor) in [(0, 0), (2, 0), (1, 3)] {
        let e = with([abi_note(major, minor), reentry.clone()].concat()).expect_err("foreign");
        let text = e.to_string();
        assert!(
            text.contains(&format!("ABI {major}.{minor}")) && text.contains("1.2"),
            "{text}"
        );
    }
    assert!(matches!(with(reentry), Err(ImageError::NoNote(NOTE_ABI, _))));
    assert!(matches!(
        with(abi_note(1, 0)),
        Err(ImageError::NoNote(NOTE_REENTRY, _))
    ));
    assert!(matches!(
        with(note(NOTE_ABI, &[1, 0, 0])),
        Err(ImageError::Truncated(..))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes, LIMIT, ABI);
    }

    #[test]
    fn damage_never_panics(
        hits in proptest::collection::vec((0usize..420, any::<u8>()), 1..12),
        words in proptest::collection::vec((0usize..52, prop_oneof![Just(u64::MAX), Just(1 << 63), any::<u64>()]), 0..3),
        cut in 0usize..8193,
    ) {
        let mut file = good();
        for (at, value) in hits {
            file[at] = value;
        }
        for (at, value) in words {
            file[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        file.truncate(cut);
        if let Ok(image) = parse(&file, LIMIT, ABI) {
            for s in &image.segments {
                prop_assert!(s.address >= IMAGE_BASE && s.address + s.size <= LIMIT);
                prop_assert!(s.file.end <= file.len() && s.file.len() as u64 <= s.size);
            }
        }
    }
}
