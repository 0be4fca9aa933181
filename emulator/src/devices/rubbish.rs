//! Payloads that nobody expects under their topic.

use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _};

use super::pen::Pen;

/// The most bytes of the binary kind.
const MOST_BINARY: usize = 256;
/// How deep the nested kind goes; a reader that recurses once a level without counting does not survive it.
const DEPTH: usize = 10_000;
/// How many digits the long number has.
const DIGITS: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rubbish {
    Empty,
    NotJson,
    CutOff,
    WrongTypes,
    HugeNumbers,
    Nested,
    Binary,
}

const ALL: [Rubbish; 7] = [
    Rubbish::Empty,
    Rubbish::NotJson,
    Rubbish::CutOff,
    Rubbish::WrongTypes,
    Rubbish::HugeNumbers,
    Rubbish::Nested,
    Rubbish::Binary,
];

/// Writes any of it.
pub(super) fn write(pen: &mut Pen, who: &str, rng: &mut SmallRng) {
    match ALL[rng.random_range(0..ALL.len())] {
        Rubbish::Empty => {}
        Rubbish::NotJson => pen.write(&["<?xml version=\"1.0\"?><hello/>"]),
        Rubbish::CutOff => pen.write(&["{", who, ",\"gmtCreate\":15734890"]),
        Rubbish::WrongTypes => pen.write(&[
            r#"{"iotId":42,"productKey":[],"deviceName":null,"gmtCreate":"yesterday","time":{},"items":"none","status":true,"#,
            r#""action":7,"devices":{},"value":"x","requestId":{},"messageCreateTime":-1,"sentAtUs":"now"}"#,
        ]),
        Rubbish::HugeNumbers => {
            let digits = "9".repeat(DIGITS);
            pen.write(&["{", who, ",\"gmtCreate\":", &digits, ",\"time\":1e999,\"sentAtUs\":-", &digits, "}"]);
        }
        Rubbish::Nested => pen.write(&["[".repeat(DEPTH).as_str(), "]".repeat(DEPTH).as_str()]),
        Rubbish::Binary => {
            let mut bytes = vec![0; rng.random_range(1..=MOST_BINARY)];
            rng.fill_bytes(&mut bytes);
            // No UTF-8 text begins so.
            bytes[0] = 0xff;
            pen.write_bytes(&bytes);
        }
    }
}
