//! `strongroom witness relay`: the forced command of a witness that comes over SSH.
//!
//! Invariant: of all that operators may ask only what a witness says passes; anything else ends the conversation unasked.
//! Distrusts: standard input.

use std::io::{self, ErrorKind, Read, Write};

use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, PREFIX_BYTES, announced, decode, encode};
use strongroom_protocol::operator::{Answer, Exit, Fault, Request};

use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};

/// Longest frame of a witness: a note and its proof.
const MAX_ASKED_BYTES: usize = 256 * 1024;

/// Passes on until standard input ends.
pub(super) fn run(desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    pass((&mut input, &mut output), |request| link.pass(request))
}

fn pass(
    (input, output): (&mut impl Read, &mut impl Write),
    mut ask: impl FnMut(&Request) -> Outcome<Answer>,
) -> Outcome {
    while let Some(request) = next(input)? {
        if !matches!(request, Request::Witness(_)) {
            let refused = Failure::new(Code::WitnessRelay, "only a witness's messages pass here")
                .next("use the operator's tool on the vault's machine");
            let fault = Fault {
                code: refused.code.to_string(),
                message: refused.message.clone(),
                next: refused.next.clone(),
                exit: Exit::Error,
            };
            answer(output, &Answer::Failed(fault))?;
            return Err(refused);
        }
        answer(output, &ask(&request)?)?;
    }
    Ok(())
}

fn next(input: &mut impl Read) -> Outcome<Option<Request>> {
    let mut prefix = [0_u8; PREFIX_BYTES];
    match input.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(broken(error)),
    }
    let length = announced(prefix, MAX_ASKED_BYTES).map_err(broken)?;
    let mut body = vec![0_u8; length];
    input.read_exact(&mut body).map_err(broken)?;
    decode(&body).map(Some).map_err(broken)
}

fn answer(output: &mut impl Write, answer: &Answer) -> Outcome {
    let frame = encode(answer, MAX_OPERATOR_BYTES).map_err(broken)?;
    output.write_all(&frame).and_then(|()| output.flush()).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Link, format!("the conversation with the witness failed: {error}"))
        .next("check that the witness runs a Strongroom of the same version")
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::witness::{FromWitness, ToWitness};

    use super::*;

    #[test]
    fn a_witness_is_passed_on_and_nobody_else_is() {
        let witness =
            encode(&Request::Witness(FromWitness::Ask { size: 3 }), MAX_ASKED_BYTES).unwrap();
        for forbidden in [
            Request::Seal,
            Request::Status,
            Request::TokenList,
            Request::WitnessList,
            Request::AuditKey,
        ] {
            let mut input = witness.to_vec();
            input.extend_from_slice(&encode(&forbidden, MAX_ASKED_BYTES).unwrap());
            let (mut output, mut asked) = (Vec::new(), 0);
            let ended = pass((&mut input.as_slice(), &mut output), |request| {
                assert!(matches!(request, Request::Witness(_)));
                asked += 1;
                Ok(Answer::Witness(ToWitness::Taken))
            });
            assert_eq!(ended.unwrap_err().code, "SR-WITNESS-002");
            assert_eq!(asked, 1);
            let taken = encode(&Answer::Witness(ToWitness::Taken), MAX_OPERATOR_BYTES).unwrap();
            assert!(output.starts_with(&taken) && output.len() > taken.len());
        }
    }

    #[test]
    fn what_is_no_frame_ends_it() {
        for bad in [vec![0xff; 4], vec![2, 0, 0, 0, 0xee, 0xee], vec![9, 0, 0, 0, 1]] {
            let mut output = Vec::new();
            let ended = pass((&mut bad.as_slice(), &mut output), |_| panic!("passed on"));
            assert_eq!(ended.unwrap_err().code, "SR-CLI-002");
            assert!(output.is_empty());
        }
        let ended = pass((&mut [].as_slice(), &mut Vec::new()), |_| panic!("passed on"));
        assert_eq!(ended, Ok(()));
    }
}
