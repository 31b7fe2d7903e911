use super::*;

/// An ELF file with nothing but a symbol table: (name, value, size, type).
fn elf(symbols: &[(&str, u64, u64, u8)]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut table = vec![0u8; SYMBOL];
    for (name, value, size, kind) in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend([*kind, 0, 1, 0]);
        table.extend(value.to_le_bytes());
        table.extend(size.to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
    }
    let mut file = vec![0u8; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let (symbols_at, names_at) = (64u64, 64 + table.len() as u64);
    let sections_at = names_at + names.len() as u64;
    file[40..48].copy_from_slice(&sections_at.to_le_bytes());
    file[58..60].copy_from_slice(&64u16.to_le_bytes());
    file[60..62].copy_from_slice(&3u16.to_le_bytes());
    for (kind, at, len, link) in [
        (0u32, 0, 0, 0u32),
        (SHT_SYMTAB, symbols_at, table.len() as u64, 2),
        (3, names_at, names.len() as u64, 0),
    ] {
        let mut header = [0u8; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&at.to_le_bytes());
        header[32..40].copy_from_slice(&len.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        names.extend(header);
    }
    [file, table, names].concat()
}

fn names(file: &[u8], addresses: &[u64]) -> Vec<String> {
    let places = Symbols::of(file).places(addresses);
    places
        .into_iter()
        .map(|place| place.map_or("?".to_owned(), |place| place.to_string()))
        .collect()
}

#[test]
fn addresses_get_names() {
    let file = elf(&[
        (
            "_ZN5libos5rogue4dive17h0123456789abcdefE",
            0x1000,
            0x100,
            STT_FUNC,
        ),
        ("flux_trap_common", 0x1100, 0, STT_NOTYPE),
        ("inside", 0x1080, 0, STT_NOTYPE),
        ("an_object", 0x3000, 0x100, 1),
    ]);
    let at = [0xfff, 0x1000, 0x10ff, 0x1104, 0x1100 + LABEL_REACH, 0x3001];
    let dive = "libos::rogue::dive";
    assert_eq!(
        names(&file, &at),
        [
            "?",
            &format!("{dive}+0x0"),
            &format!("{dive}+0xff"),
            "flux_trap_common+0x4",
            "?",
            "?"
        ]
    );
}

#[test]
fn names_are_made_harmless() {
    let long = "x".repeat(1000);
    let file = elf(&[("esc\x1b[2J", 0x10, 1, STT_FUNC), (&long, 0x20, 1, STT_FUNC)]);
    let names = names(&file, &[0x10, 0x20]);
    assert_eq!(names[0], "esc\u{fffd}[2J+0x0");
    assert_eq!(names[1].len(), MAX_NAME + "...+0x0".len());
}

#[test]
fn no_file_is_too_bad() {
    let good = elf(&[("f", 0x10, 16, STT_FUNC)]);
    assert_eq!(names(&good, &[0x14]), ["f+0x4"]);
    for cut in 0..good.len() {
        names(&good[..cut], &[0x14]);
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            names(&bad, &[0x14, u64::MAX]);
        }
    }
    assert_eq!(names(b"", &[0]), ["?"]);
}

#[test]
fn this_program_has_names() {
    let here = this_program_has_names as fn() as usize as u64;
    let places = Symbols::of_this_program().places(&[here, 1]);
    let place = places[0].as_ref().expect("tests are built with symbols");
    assert!(place.function.contains("this_program_has_names"), "{place}");
    assert_eq!((place.offset, &places[1]), (0, &None));
}
