//! `strongroom user invite` and `user import`: how somebody gets a first password.
//!
//! Invariant: an invitation's text is printed once; no password is ever typed here.
//! Distrusts: the file of an import, in every line.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::people::{ImportedVerifier, PeopleAnswer, PeopleRequest};
use strongroom_protocol::operator::{Answer, Pick, Request};
use strongroom_protocol::person::{PBKDF2_ITERATIONS, TAG_BYTES};

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::out::{self, Form};
use crate::{pick, render};

/// Where an invitation is redeemed.
const REDEEM: &str = "/api/v1/invitations/redeem";

/// Makes an invitation and prints it.
pub(crate) fn invite(user: Pick, desk: &Desk) -> Outcome {
    let request = Request::People(PeopleRequest::Invite(user));
    let Answer::People(PeopleAnswer::Invitation(made)) = desk.link()?.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    let (url, ends) = (format!("{}{REDEEM}", made.public_url), render::moment(made.expires));
    match desk.form {
        Form::Json => {
            let text = made.text.expose(|text| String::from_utf8_lossy(text).into_owned());
            out::object(json!({
                "user": made.user.to_string(),
                "invitation": text,
                "url": url,
                "expires": ends,
            }));
        }
        Form::Text => {
            out::say(&format!(
                "hand this to {} alone; good once, until {ends}, and not kept; it is redeemed at {url}:",
                made.label
            ));
            made.text.expose(out::raw);
            out::raw(b"\n");
        }
    }
    Ok(())
}

/// Takes in passwords that another system hashed. Every line is read before the first one is sent.
pub(crate) fn import(file: &Path, desk: &Desk) -> Outcome {
    let text = files::read(file)?.ok_or_else(|| Failure::file(file, "is not there"))?;
    let lines = text.lines().zip(1_usize..).filter(|(line, _)| !line.trim().is_empty());
    let read = |(line, number)| {
        parse(line).ok_or_else(|| {
            let (least, most) = PBKDF2_ITERATIONS.into_inner();
            Failure::file(file, format!("line {number} is none of ours; nothing was imported"))
                .next(format!("write NAME, a space and $pbkdf2-sha256$i={least}$SALT$HASH: {least} to {most} iterations, 16 and 32 bytes in base64 without padding"))
        })
    };
    let all = lines.map(read).collect::<Outcome<Vec<_>>>()?;
    let (mut link, count) = (desk.link()?, all.len());
    for (verifier, done) in all.into_iter().zip(0_usize..) {
        link.tell(&Request::People(PeopleRequest::Import(Box::new(verifier)))).map_err(
            |failure| {
                let before = render::count(done, "password");
                Failure {
                    message: format!("{} ({before} imported before)", failure.message),
                    ..failure
                }
            },
        )?;
        if desk.form == Form::Text && done % SAID_EVERY == SAID_EVERY - 1 {
            out::say(&format!("{} of {count}", done + 1));
        }
    }
    match desk.form {
        Form::Json => out::object(json!({"imported": count})),
        Form::Text => out::say(&format!("{} imported", render::count(count, "password"))),
    }
    Ok(())
}

/// How often a long import says how far it is.
const SAID_EVERY: usize = 500;

/// `NAME $pbkdf2-sha256$i=100000[,l=32]$SALT$HASH`: the PHC string format.
fn parse(line: &str) -> Option<ImportedVerifier> {
    let (name, phc) = line.trim().rsplit_once(char::is_whitespace)?;
    let mut parts = phc.strip_prefix("$pbkdf2-sha256$")?.split('$');
    let (parameters, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let iterations = parameters.strip_prefix("i=")?;
    let iterations = iterations.strip_suffix(",l=32").unwrap_or(iterations).parse().ok()?;
    let good = PBKDF2_ITERATIONS.contains(&iterations) && parts.next().is_none();
    let hash = zeroize::Zeroizing::new(STANDARD_NO_PAD.decode(hash).ok()?);
    let salt = STANDARD_NO_PAD.decode(salt).ok()?.try_into().ok()?;
    (good && hash.len() == TAG_BYTES).then_some(())?;
    let (user, hash) = (pick::pick(name).ok()?, SecretBytes::take(hash));
    Some(ImportedVerifier { user, salt, iterations, hash })
}

#[cfg(test)]
mod tests {
    use super::parse;

    const SALT: &str = "AAECAwQFBgcICQoLDA0ODw";
    const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    // Red when the bounds of iterations are not asked.
    #[test]
    fn a_line_is_a_name_and_a_verifier_within_bounds() {
        for (parameters, iterations) in [("i=100000", 100_000), ("i=2000000,l=32", 2_000_000)] {
            let line = format!("Ann Smith $pbkdf2-sha256${parameters}${SALT}${HASH}");
            let read = parse(&line).unwrap();
            assert_eq!((read.user.0.as_ref(), read.iterations), ("Ann Smith", iterations));
            assert_eq!(read.salt[15], 15);
        }
        for bad in [
            format!("$pbkdf2-sha256$i=100000${SALT}${HASH}"),
            format!("ann $pbkdf2-sha256$i=99999${SALT}${HASH}"),
            format!("ann $pbkdf2-sha256$i=2000001${SALT}${HASH}"),
            format!("ann $pbkdf2-sha256$i=100000${SALT}${HASH}$"),
            format!("ann $pbkdf2-sha256$i=100000${HASH}${HASH}"),
            format!("ann $pbkdf2-sha256$i=100000${SALT}${SALT}"),
            format!("ann $pbkdf2-sha512$i=100000${SALT}${HASH}"),
            format!("ann $pbkdf2-sha256$r=100000${SALT}${HASH}"),
            String::new(),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
    }
}
