use super::*;

fn run(line: &str) -> Result<Config, ArgsError> {
    match parse(line.split_whitespace().map(OsString::from), true)? {
        Command::Run(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_are_understood() {
    let c = run(
        "--name web-1 --image a.elf --vcpus 4 --mem=128 --class lc --min-cores 1 --cpus 0-1 --table-fd 3",
    )
    .expect("good");
    assert_eq!(
        (c.name.as_str(), c.vcpus, c.memory_mib, c.class),
        ("web-1", 4, 128, abi::CLASS_LC)
    );
    assert_eq!(
        (c.min_cores, c.max_cores, c.table_fd, c.confine),
        (1, 4, Some(3), true)
    );
    let c = run("--name a --image b --table-fd 3 --kflux-fd 4").expect("good");
    assert_eq!((c.table_fd, c.kflux_fd), (Some(3), Some(4)));
    let c = parse(
        ["--name", "x", "--cmdline", "serve fanout=4"].map(OsString::from),
        false,
    )
    .expect("good");
    assert!(matches!(c, Command::Run(c) if c.cmdline == "serve fanout=4" && c.image.is_none()));
    assert_eq!(parse(["--help".into()], true), Ok(Command::Help));
}

#[test]
fn errors_name_option_and_remedy() {
    let error = |line: &str| run(line).expect_err(line).to_string();
    assert!(error("--name a --image b --vcpus 17").contains("--vcpus \"17\": give a number from 1 to 16"));
    assert!(error("--name a --image b --mem 4").contains("from 16 to 1008"));
    assert!(error("--name ../a --image b").contains("--name"));
    assert!(error("--name a-name-that-is-longer-than-31-bytes --image b").contains("1 to 31"));
    assert!(error("--image b").contains("--name is missing"));
    assert!(error("--name a").contains("--image is missing"));
    assert!(error("--name a --image b --wings").contains("unknown option --wings"));
    assert!(error("--name a --image b what").contains("unexpected argument"));
    assert!(error("--name a --image b --slot").contains("--slot needs a value"));
    assert!(error("--name a --image b --stats=1").contains("takes no value"));
    assert!(error("--name a --image b --cpus 1-0").contains("0-1,3"));
    assert!(error("--name a --image b --class rt").contains("lc (latency-critical)"));
    assert!(
        error("--name a --image b --min-cores 2 --max-cores 1 --vcpus 2").contains("--min-cores 2 is more")
    );
    assert!(error("--name a --image b --max-cores 2").contains("more than --vcpus 1"));
    assert!(error("--name a --image b --kflux-fd 4").contains("--kflux-fd needs --table-fd"));
    assert!(error("--name a --image b --table-fd 3 --kflux-fd x").contains("--kflux-fd \"x\": give a number"));
}

#[test]
fn help_mentions_every_option() {
    let text = help("fluxion", true);
    for option in [
        "--name",
        "--image",
        "--slot",
        "--kflux-fd",
        "--stacks",
        "--idle-spin-ns",
        "--no-confine",
        "--table-fd",
    ] {
        assert!(text.contains(option), "{option}");
    }
    assert!(!help("fluxos-hosted", false).contains("--image"));
}
