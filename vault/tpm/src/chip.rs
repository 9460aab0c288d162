//! The TPM behind its device: one command at a time, salted sessions, and nothing left behind.
//!
//! Invariant: whatever a question loaded or opened is flushed before it is answered, on every way out.
//! Invariant: secrets are sent and received in sessions only, and sessions are made with the pinned storage key only.

use std::io;
use std::time::Duration;

use strongroom_protocol::tpm::Name;
use zeroize::Zeroizing;

use crate::derivation::{Point, Unusable, make_salt};
use crate::device::Device;
use crate::session::{Duty, NONCE_BYTES, Session, SessionError, Work};
use crate::wire::{
    AES_128_CFB, Code, ECC, HEADER_BYTES, Malformed, NO_ALGORITHM, NULL, OWNER, P256, PASSWORD,
    Reader, ResponseCode, SHA256, TAG_PLAIN, TAG_SESSIONS, Writer, full_name, name_of,
};

/// Why a command gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChipError {
    /// The device: the TPM is of no more use.
    #[error("the TPM does not answer: {0}")]
    Device(#[from] io::Error),
    /// The TPM's own code.
    #[error("the TPM answers {:#x}", .0.0)]
    Code(ResponseCode),
    /// The answer's bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A primitive.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The storage key is not the one that was pinned.
    #[error("the TPM has another storage key")]
    AnotherTpm,
}

/// A TPM.
#[derive(Debug)]
pub struct Chip {
    device: Device,
    open: Vec<u32>,
}

/// The storage key, loaded.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    /// Its handle.
    pub handle: u32,
    /// Its name.
    pub name: Name,
    point: Point,
}

/// What kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Authorizes by secrets.
    Hmac,
    /// Authorizes by a policy.
    Policy,
}

/// A command before it is sent.
#[derive(Debug)]
pub struct Command<'a> {
    /// Which one.
    pub code: Code,
    /// The handles of things, each with the name that enters the parameters' hash.
    pub handles: &'a [(u32, &'a [u8])],
    /// What follows.
    pub parameters: Writer,
}

/// An answer: its handle, when it has one, and its parameters in clear.
#[derive(Debug)]
pub struct Reply {
    /// Of what was made or loaded.
    pub handle: Option<u32>,
    /// What follows.
    pub parameters: Zeroizing<Vec<u8>>,
}

/// How often a TPM may ask to be asked again, and how long it is left alone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl Chip {
    /// A TPM behind an open device.
    pub const fn new(device: Device) -> Self {
        Self { device, open: Vec::new() }
    }

    /// Runs one question's commands, and flushes what they left.
    ///
    /// # Errors
    /// The work's; else the flushing's.
    pub fn scope<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ChipError>,
    ) -> Result<T, ChipError> {
        let done = work(self);
        let flushed = self.flush_all();
        let done = done?;
        flushed.map(|()| done)
    }

    /// Makes the storage key, the same one each time, and checks that it is the one that was pinned.
    ///
    /// # Errors
    /// `AnotherTpm`, or the TPM's.
    pub fn storage(&mut self, pinned: Option<Name>) -> Result<Storage, ChipError> {
        let public = Writer::new()
            .u16s(&[ECC, SHA256])
            .u32s(&[STORAGE_ATTRIBUTES])
            .sized(&[])
            .u16s(&AES_128_CFB)
            .u16s(&[NO_ALGORITHM, P256, NO_ALGORITHM])
            .sized(&[])
            .sized(&[]);
        let no_secret = [0; 4];
        let parameters =
            Writer::new().sized(&no_secret).sized(public.bytes()).sized(&[]).u32s(&[0]);
        let owner = OWNER.to_be_bytes();
        let command =
            Command { code: Code::CreatePrimary, handles: &[(OWNER, &owner)], parameters };
        let reply = self.with_password(&command)?;
        let handle = reply.handle.ok_or(Malformed)?;
        let public = Reader(&reply.parameters).sized()?;
        let storage = Storage { handle, name: name_of(public), point: point_of(public)? };
        if pinned.is_some_and(|pinned| pinned != storage.name) {
            return Err(ChipError::AnotherTpm);
        }
        Ok(storage)
    }

    /// Opens a session salted to the storage key.
    ///
    /// # Errors
    /// The TPM's.
    pub fn session(&mut self, storage: &Storage, kind: Kind) -> Result<Session, ChipError> {
        let (salt, point) = make_salt(&storage.point)?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SessionError::Random)?;
        let secret = Writer::new().sized(&point.x).sized(&point.y);
        let kind = match kind {
            Kind::Hmac => 0,
            Kind::Policy => 1,
        };
        let parameters = Writer::new()
            .sized(&nonce)
            .sized(secret.bytes())
            .raw(&[kind])
            .u16s(&AES_128_CFB)
            .u16s(&[SHA256]);
        let handles = &[(storage.handle, [].as_slice()), (NULL, &[])];
        let reply = self.plain(&Command { code: Code::StartAuthSession, handles, parameters })?;
        let handle = reply.handle.ok_or(Malformed)?;
        Ok(Session::new(handle, &salt, nonce, Reader(&reply.parameters).sized()?)?)
    }

    /// A command without a session: nothing in it is secret, and nothing in its answer is believed further.
    ///
    /// # Errors
    /// The TPM's.
    pub fn plain(&mut self, command: &Command<'_>) -> Result<Reply, ChipError> {
        let answer = self.send(command, None)?;
        let mut reader = Reader(&answer);
        let handle = self.note_handle(command.code, &mut reader)?;
        Ok(Reply { handle, parameters: Zeroizing::new(reader.0.to_vec()) })
    }

    /// A command that a session authorizes.
    ///
    /// # Errors
    /// The TPM's, and when its answer is not authentic.
    pub fn with_session(
        &mut self,
        session: &mut Session,
        mut command: Command<'_>,
        work: Work<'_>,
    ) -> Result<Reply, ChipError> {
        let code = command.code;
        let names: Vec<&[u8]> = command.handles.iter().map(|(_, name)| *name).collect();
        let area = session.authorize((code, &names), &mut command.parameters, work)?;
        let answer = self.send(&command, Some(&area))?;
        let mut reader = Reader(&answer);
        let handle = self.note_handle(code, &mut reader)?;
        let length = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
        let parameters = reader.raw(length)?;
        let parameters = session.believe(code, parameters, &mut reader, work)?;
        reader.end()?;
        Ok(Reply { handle, parameters })
    }

    /// The owner's empty password: only for what is public, since such an answer is not authentic.
    fn with_password(&mut self, command: &Command<'_>) -> Result<Reply, ChipError> {
        let area = Writer::new().u32s(&[PASSWORD]).sized(&[]).raw(&[0]).sized(&[]);
        let answer = self.send(command, Some(&area))?;
        let mut reader = Reader(&answer);
        let handle = self.note_handle(command.code, &mut reader)?;
        let length = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
        let parameters = Zeroizing::new(reader.raw(length)?.to_vec());
        Ok(Reply { handle, parameters })
    }

    /// What the TPM holds from now on until it is flushed.
    fn note_handle(
        &mut self,
        code: Code,
        reader: &mut Reader<'_>,
    ) -> Result<Option<u32>, Malformed> {
        match code {
            Code::CreatePrimary | Code::Load | Code::StartAuthSession => {
                let handle = reader.u32()?;
                self.open.push(handle);
                Ok(Some(handle))
            }
            Code::NvUndefineSpace
            | Code::NvDefineSpace
            | Code::NvIncrement
            | Code::PolicyNv
            | Code::NvRead
            | Code::Create
            | Code::Unseal
            | Code::FlushContext
            | Code::NvReadPublic
            | Code::PolicyAuthValue
            | Code::GetCapability
            | Code::PcrRead
            | Code::PolicyPcr => Ok(None),
        }
    }

    fn flush_all(&mut self) -> Result<(), ChipError> {
        let mut outcome = Ok(());
        while let Some(handle) = self.open.pop() {
            let parameters = Writer::new().u32s(&[handle]);
            let flushed =
                self.plain(&Command { code: Code::FlushContext, handles: &[], parameters });
            outcome = outcome.and(flushed.map(drop));
        }
        outcome
    }

    /// Sends a command, again if the TPM asks for it, and answers what follows the header.
    fn send(
        &mut self,
        command: &Command<'_>,
        area: Option<&Writer>,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let bytes = encode(command, area)?;
        let mut tries = 0_u32;
        loop {
            let answer = self.device.transact(bytes.bytes())?;
            let mut reader = Reader(&answer);
            let (_tag, size, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
            if usize::try_from(size) != Ok(answer.len()) {
                return Err(Malformed.into());
            }
            if code == 0 {
                return Ok(Zeroizing::new(reader.0.to_vec()));
            }
            let code = ResponseCode::of(code);
            tries = tries.saturating_add(1);
            if !code.is_passing() || tries >= TRIES {
                return Err(ChipError::Code(code));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn encode(command: &Command<'_>, area: Option<&Writer>) -> Result<Writer, Malformed> {
    let mut body = Writer::new();
    for (handle, _) in command.handles {
        body = body.u32s(&[*handle]);
    }
    if let Some(area) = area {
        let length = u32::try_from(area.bytes().len()).map_err(|_| Malformed)?;
        body = body.u32s(&[length]).raw(area.bytes());
    }
    body = body.raw(command.parameters.bytes());
    let tag = if area.is_some() { TAG_SESSIONS } else { TAG_PLAIN };
    let size = body.bytes().len().saturating_add(HEADER_BYTES);
    let size = u32::try_from(size).map_err(|_| Malformed)?;
    Ok(Writer::new().u16s(&[tag]).u32s(&[size]).raw(&command.code.bytes()).raw(body.bytes()))
}

/// Reads the point of a storage key's public area.
fn point_of(public: &[u8]) -> Result<Point, Malformed> {
    let mut reader = Reader(public);
    let (kind, hash, attributes) = (reader.u16()?, reader.u16()?, reader.u32()?);
    if (kind, hash, attributes) != (ECC, SHA256, STORAGE_ATTRIBUTES) {
        return Err(Malformed);
    }
    let _no_policy = reader.sized()?;
    // Symmetric algorithm, its bits and its mode; scheme, curve and derivation.
    let _parameters = reader.raw(12)?;
    let point = Point::of(reader.sized()?, reader.sized()?).ok_or(Malformed)?;
    reader.end()?;
    Ok(point)
}

/// Fixed to the TPM and its parent, made there, used by its (empty) secret, without lock-out, restricted, for decryption: the
/// usual storage root key.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0472;

/// A duty with the empty secret.
pub const fn without_secret(duty: Duty) -> Work<'static> {
    Work { secret: &[], shows_secret: true, duty }
}

/// A handle's own bytes, the name of what is no object and no index.
pub const fn handle_name(handle: u32) -> [u8; 4] {
    handle.to_be_bytes()
}

/// The storage key's name as it enters hashes.
pub fn storage_name(storage: &Storage) -> [u8; 34] {
    full_name(storage.name)
}
