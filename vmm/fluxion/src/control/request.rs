//! Requests and answers as MessagePack maps.

use std::io::Cursor;

use flux_abi::{self as abi, protocol};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// A request, with the fields of every operation: which are needed, the operation says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Request {
    pub id: u32,
    pub op: String,
    pub protocol: Option<u32>,
    pub abi_major: Option<u32>,
    pub abi_minor: Option<u32>,
    pub epoch: Option<u32>,
}

/// An answer that says no. `close`: the stream cannot be trusted any more.
#[derive(Debug)]
pub struct Refusal {
    pub id: u32,
    pub error: protocol::Error,
    pub close: bool,
}

/// Builds the error message of the protocol.
pub fn error(code: &str, message: impl Into<String>, hint: impl Into<String>) -> protocol::Error {
    protocol::Error {
        code: code.into(),
        message: message.into(),
        hint: hint.into(),
    }
}

/// An answer to a stream that is not one of frames.
pub fn bad_frame(what: impl std::fmt::Display) -> Refusal {
    let hint = "send a u32 length, little endian, then one MessagePack map of that length";
    Refusal {
        id: 0,
        error: error(abi::E_FRAME, format!("bad frame: {what}"), hint),
        close: true,
    }
}

/// Reads one frame's contents.
pub fn parse(contents: &[u8]) -> Result<Request, Refusal> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: u32,
    }
    if !is_one_value(contents) {
        return Err(bad_frame("its contents are not MessagePack"));
    }
    rmp_serde::from_slice::<Request>(contents).map_err(|e| {
        let id = rmp_serde::from_slice::<OnlyId>(contents).map_or(0, |only| only.id);
        let hint = "send a map with id (number), op (string) and the fields of the operation";
        Refusal {
            id,
            error: error(abi::E_REQUEST, format!("bad request: {e}"), hint),
            close: false,
        }
    })
}

fn is_one_value(contents: &[u8]) -> bool {
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(contents));
    // A request has one level; what nests deeper than this is an attack on the stack.
    reader.set_max_depth(16);
    IgnoredAny::deserialize(&mut reader).is_ok() && reader.position() == contents.len() as u64
}

/// The contents of an answer's frame: id, ok, and the fields of the body.
pub fn answer<T: Serialize>(id: u32, body: Result<T, protocol::Error>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<T> {
        id: u32,
        ok: bool,
        #[serde(flatten)]
        body: T,
    }
    let bytes = match body {
        Ok(body) => rmp_serde::to_vec_named(&Answer { id, ok: true, body }),
        Err(body) => rmp_serde::to_vec_named(&Answer { id, ok: false, body }),
    };
    // Writing numbers and strings to memory does not fail; an empty map would be the honest rest.
    bytes.unwrap_or_else(|_| vec![0x80])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize)]
    struct Hello<'a> {
        id: u32,
        op: &'a str,
        protocol: u32,
        abi_major: u32,
        abi_minor: u32,
    }

    #[test]
    fn requests_are_read() {
        let hello = Hello {
            id: 7,
            op: "hello",
            protocol: 1,
            abi_major: 1,
            abi_minor: 0,
        };
        let request = parse(&rmp_serde::to_vec_named(&hello).expect("bytes")).expect("good");
        assert_eq!(
            (request.id, request.op.as_str(), request.protocol, request.epoch),
            (7, "hello", Some(1), None)
        );
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        for noise in [&b""[..], b"\xc1", b"GET / HTTP/1.1\r\n", b"\x81\xa2id\x01\x01"] {
            let refusal = parse(noise).expect_err("not MessagePack");
            assert!(refusal.close && refusal.error.code == abi::E_FRAME, "{noise:?}");
        }
        // Maps that are no requests: no op; an op of the wrong type; and not a map at all.
        for (map, id) in [
            (&b"\x81\xa2id\x05"[..], 5),
            (b"\x82\xa2id\x06\xa2op\x07", 6),
            (b"\x07", 0),
        ] {
            let refusal = parse(map).expect_err("no request");
            assert!(
                !refusal.close && refusal.error.code == abi::E_REQUEST && refusal.id == id,
                "{map:?}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut deep = vec![0x91; 100_000];
        deep.push(0xc0);
        assert!(parse(&deep).expect_err("deep").close);
    }

    #[test]
    fn answers_are_flat_maps() {
        #[derive(Deserialize)]
        struct Flat {
            id: u32,
            ok: bool,
            slot: u32,
        }
        let flat: Flat =
            rmp_serde::from_slice(&answer(3, Ok(protocol::ManageReply { slot: 9 }))).expect("map");
        assert_eq!((flat.id, flat.ok, flat.slot), (3, true, 9));
        #[derive(Deserialize)]
        struct No {
            ok: bool,
            code: String,
        }
        let no: No = rmp_serde::from_slice(&answer::<()>(3, Err(error("state", "m", "h")))).expect("map");
        assert_eq!((no.ok, no.code.as_str()), (false, "state"));
        // Unit and empty bodies are maps too.
        assert!(
            rmp_serde::from_slice::<std::collections::BTreeMap<String, IgnoredAny>>(&answer(1, Ok(())))
                .is_ok()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
