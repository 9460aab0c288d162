//! `operator.sock`, for what would take a thousand runs of the operator's tool.
//!
//! Invariant: every wait ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::CredentialRules;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, PREFIX_BYTES, announced, decode, encode};
use strongroom_protocol::operator::{Answer, CredentialWish, HomePick, Request, UnsealWith};
use strongroom_protocol::upload::{VaultKey, seal_upload};

const PATIENCE: Duration = Duration::from_mins(1);

/// A conversation with the keeper.
pub(crate) struct Operator(UnixStream);

impl Operator {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Stores so many credentials of a provider, all of the first person.
    pub(crate) fn populate(&mut self, provider: &str, count: u32, pin: &VaultKey) -> Result<()> {
        for number in 0..count {
            let wish = CredentialWish {
                provider: ProviderName::parse(provider)?,
                home: HomePick::Personal(None),
                label: Label::parse(&format!("bench-{number}"))?,
                fixed_headers: Vec::new(),
                rules: CredentialRules::default(),
            };
            let binding = match self.ask(&Request::CredentialAdd(Box::new(wish)))? {
                Answer::Upload { binding, .. } => binding,
                other => bail!("instead of an upload: {other:?}"),
            };
            let key = format!("sk-proj-bench-filler-{number:0>40}");
            let blob = seal_upload(pin, &binding, key.as_bytes())?;
            match self.ask(&Request::CredentialUpload { upload: binding.upload, blob })? {
                Answer::Credential(_) => {}
                other => bail!("instead of a credential: {other:?}"),
            }
        }
        Ok(())
    }

    /// Takes the keys out of memory.
    pub(crate) fn seal(&mut self) -> Result<()> {
        match self.ask(&Request::Seal)? {
            Answer::Done => Ok(()),
            other => bail!("sealing: {other:?}"),
        }
    }

    /// Tries a passphrase; yields whether it was the right one.
    pub(crate) fn unseal(&mut self, passphrase: &str) -> Result<bool> {
        let with = UnsealWith::Passphrase(SecretBytes::copy_from(passphrase.as_bytes()));
        match self.exchange(&Request::Unseal(with))? {
            Answer::Unsealed => Ok(true),
            Answer::Failed(fault) if fault.code == WRONG => Ok(false),
            other => bail!("unsealing: {other:?}"),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        match self.exchange(request)? {
            Answer::Failed(fault) => bail!("{}: {}", fault.code, fault.message),
            other => Ok(other),
        }
    }

    fn exchange(&mut self, request: &Request) -> Result<Answer> {
        self.0.write_all(&encode(request, MAX_OPERATOR_BYTES)?)?;
        let mut prefix = [0; PREFIX_BYTES];
        self.0.read_exact(&mut prefix).context("the keeper ended the conversation")?;
        let mut body = vec![0; announced(prefix, MAX_OPERATOR_BYTES)?];
        self.0.read_exact(&mut body)?;
        Ok(decode(&body)?)
    }
}

/// The pinned key of `vault.pub`: a heading, then hexadecimal.
pub(crate) fn pinned(path: &Path) -> Result<VaultKey> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut key = [0; 32];
    hex::decode_to_slice(text.lines().nth(1).context("no key in it")?.trim(), &mut key)?;
    Ok(VaultKey(key))
}

const WRONG: &str = "SR-SEALED-007";
