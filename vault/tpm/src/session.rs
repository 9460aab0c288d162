//! One session: its key, its nonces, and what it adds to a command and finds in an answer (part 1, 19 and 21).
//!
//! Invariant: an answer without a right MAC is not looked at.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::derivation::{Direction, Key, Unusable, crypt, derive, mac};
use crate::wire::{Code, Malformed, Reader, Writer, digest};

/// Length of every nonce.
pub const NONCE_BYTES: usize = 32;
type Nonce = [u8; NONCE_BYTES];

/// A salted session that is open in the TPM.
pub struct Session {
    /// Its handle.
    pub handle: u32,
    key: Key,
    ours: Nonce,
    theirs: Nonce,
}

/// What a session does for one command.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The secret of the thing whose handle comes first; empty when it has none.
    pub secret: &'a [u8],
    /// Whether the secret is shown by the MAC. A policy that asks for none shows none.
    pub shows_secret: bool,
    /// What else it does.
    pub duty: Duty,
}

/// What a session does beside authorizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Authorizes.
    Authorize,
    /// Authorizes, and the command's first parameter is encrypted.
    Encrypt,
    /// Authorizes, and the answer's first parameter is encrypted.
    Decrypt,
    /// Authorizes nothing; answers are authentic.
    Audit,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Its bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A primitive.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Its MAC.
    #[error("an answer's MAC is wrong")]
    Forged,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random,
}

impl Duty {
    /// `TPMA_SESSION`: it goes on afterwards, and does this.
    const fn attributes(self) -> u8 {
        match self {
            Self::Authorize => 0x01,
            Self::Encrypt => 0x21,
            Self::Decrypt => 0x41,
            Self::Audit => 0x81,
        }
    }
}

impl Session {
    /// Of what `StartAuthSession` answered.
    ///
    /// # Errors
    /// When the nonce is not of the length that was asked for.
    pub fn new(handle: u32, salt: &Key, ours: Nonce, theirs: &[u8]) -> Result<Self, SessionError> {
        let theirs: Nonce = theirs.try_into().map_err(|_| Malformed)?;
        let key = derive(salt.as_slice(), "ATH", [&theirs, &ours])?;
        Ok(Self { handle, key, ours, theirs })
    }

    /// The authorization area of a command, whose first parameter is encrypted in place if that is the session's duty.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn authorize(
        &mut self,
        (code, names): (Code, &[&[u8]]),
        parameters: &mut Writer,
        work: Work<'_>,
    ) -> Result<Writer, SessionError> {
        getrandom::fill(&mut self.ours).map_err(|_| SessionError::Random)?;
        if work.duty == Duty::Encrypt {
            let first = first_parameter(parameters.bytes_mut())?;
            let key = self.joined(work.secret);
            crypt(Direction::Encrypt, &key, [&self.ours, &self.theirs], first)?;
        }
        let hash = digest(&[&code.bytes(), &names.concat(), parameters.bytes()]);
        let attributes = work.duty.attributes();
        let key = self.mac_key(work);
        let mac = mac(&key, &[&hash, &self.ours, &self.theirs, &[attributes]])?;
        let area =
            Writer::new().u32s(&[self.handle]).sized(&self.ours).raw(&[attributes]).sized(&mac);
        Ok(area)
    }

    /// Checks what follows an answer's parameters, and decrypts the first of them if that is the session's duty.
    ///
    /// # Errors
    /// When the answer is not authentic.
    pub fn believe(
        &mut self,
        code: Code,
        parameters: &[u8],
        area: &mut Reader<'_>,
        work: Work<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        let theirs: Nonce = area.sized()?.try_into().map_err(|_| Malformed)?;
        let attributes = area.u8()?;
        let told = area.sized()?;
        let hash = digest(&[&[0; 4], &code.bytes(), parameters]);
        let expected = mac(&self.mac_key(work), &[&hash, &theirs, &self.ours, &[attributes]])?;
        if !bool::from(expected.as_slice().ct_eq(told)) {
            return Err(SessionError::Forged);
        }
        self.theirs = theirs;
        let mut parameters = Zeroizing::new(parameters.to_vec());
        if work.duty == Duty::Decrypt {
            let key = self.joined(work.secret);
            let first = first_parameter(&mut parameters)?;
            crypt(Direction::Decrypt, &key, [&self.theirs, &self.ours], first)?;
        }
        Ok(parameters)
    }

    fn mac_key(&self, work: Work<'_>) -> Zeroizing<Vec<u8>> {
        self.joined(if work.shows_secret { work.secret } else { &[] })
    }

    fn joined(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Vec::with_capacity(self.key.len().saturating_mul(2)));
        key.extend_from_slice(self.key.as_slice());
        key.extend_from_slice(secret);
        key
    }
}

/// The buffer of a `TPM2B` that stands first: its length stays in clear.
fn first_parameter(parameters: &mut [u8]) -> Result<&mut [u8], Malformed> {
    let length = usize::from(Reader(parameters).u16()?);
    let end = length.checked_add(2).ok_or(Malformed)?;
    parameters.get_mut(2..end).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{Code, Duty, Reader, Session, SessionError, Work, Writer, digest, mac};

    const WORK: Work<'_> = Work { secret: b"pin", shows_secret: true, duty: Duty::Authorize };

    fn session() -> Session {
        Session::new(7, &Zeroizing::new([1; 32]), [2; 32], &[3; 32]).unwrap()
    }

    // Guards against whoever sits between us and the chip. Red when `believe` skips the comparison.
    #[test]
    fn an_answer_that_was_changed_on_its_way_is_not_believed() {
        let answer = |session: &Session, parameters: &[u8]| {
            let hash = digest(&[&[0; 4], &Code::NvRead.bytes(), parameters]);
            let key = session.mac_key(WORK);
            let mac = mac(&key, &[&hash, &[9; 32], &session.ours, &[1]]).unwrap();
            Writer::new().sized(&[9; 32]).raw(&[1]).sized(&mac)
        };
        let mut good = session();
        let area = answer(&good, b"\0\x01v");
        let read = good.believe(Code::NvRead, b"\0\x01v", &mut Reader(area.bytes()), WORK);
        assert_eq!(*read.unwrap(), *b"\0\x01v");
        for index in 0..area.bytes().len() {
            let mut changed = area.bytes().to_vec();
            changed[index] ^= 1;
            let mut session = session();
            let read = session.believe(Code::NvRead, b"\0\x01v", &mut Reader(&changed), WORK);
            assert!(read.is_err(), "byte {index}");
        }
        let mut session = session();
        let read = session.believe(Code::NvRead, b"\0\x01w", &mut Reader(area.bytes()), WORK);
        assert_eq!(read.unwrap_err(), SessionError::Forged);
    }

    #[test]
    fn a_first_parameter_leaves_encrypted_and_its_length_in_clear() {
        let mut parameters = Writer::new().sized(b"the bytes").raw(b"rest");
        let work = Work { duty: Duty::Encrypt, ..WORK };
        session().authorize((Code::Create, &[]), &mut parameters, work).unwrap();
        assert_eq!(parameters.bytes()[..2], [0, 9]);
        assert_ne!(&parameters.bytes()[2..11], b"the bytes");
        assert_eq!(&parameters.bytes()[11..], b"rest");
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let mut session = session();
        let mut areas = Vec::new();
        for _ in 0..8 {
            let area = session.authorize((Code::NvRead, &[]), &mut Writer::new(), WORK).unwrap();
            assert!(!areas.contains(&area.bytes().to_vec()));
            areas.push(area.bytes().to_vec());
        }
    }
}
