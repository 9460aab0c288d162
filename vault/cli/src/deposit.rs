//! Bringing a provider's key into the vault: shown where it will go, then sealed to the pinned vault key.
//!
//! Invariant: the digest in the upload's binding is that of the destination that was shown, so the vault
//! cannot bind the key to another.
//! Distrusts: whoever answers on the operator's socket, until the pinned key opens the upload.

use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CredentialId;
use strongroom_protocol::operator::{Answer, Request};
use strongroom_protocol::upload::{
    UploadAct, UploadBinding, VaultKey, digest_destination, seal_upload,
};

use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out;
use crate::prompt::Typed;

/// An upload that was opened and whose destination is what it is bound to.
pub(crate) struct Slot {
    binding: UploadBinding,
    /// Where the key will go.
    pub(crate) destination: Destination,
}

/// What a request for an upload is expected to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new credential.
    New,
    /// A new key for this one.
    Rotation(CredentialId),
}

impl Slot {
    /// Opens an upload.
    pub(crate) fn open(link: &mut Link, request: &Request, wanted: Wanted) -> Outcome<Self> {
        let Answer::Upload { binding, destination } = link.ask(request)? else {
            return Err(Failure::unexpected());
        };
        Self::check(*binding, *destination, wanted)
    }

    fn check(binding: UploadBinding, destination: Destination, wanted: Wanted) -> Outcome<Self> {
        let act_fits = match (binding.act, wanted) {
            (UploadAct::Add, Wanted::New) => true,
            (UploadAct::Rotate(given), Wanted::Rotation(asked)) => given == asked,
            (UploadAct::Add, Wanted::Rotation(_)) | (UploadAct::Rotate(_), Wanted::New) => false,
        };
        if !act_fits || binding.destination_digest != digest_destination(&destination) {
            let what = "the upload is bound to something else than was shown; nothing was sent";
            return Err(Failure::new(Code::Destination, what)
                .next("find out who answers on the operator's socket"));
        }
        Ok(Self { binding, destination })
    }

    /// Seals the key and sends it.
    pub(crate) fn fill(
        self,
        link: &mut Link,
        pin: &VaultKey,
        key: &Typed,
    ) -> Outcome<CredentialId> {
        let sealed = key.lend(|key| seal_upload(pin, &self.binding, key));
        let blob = sealed.map_err(|error| {
            Failure::new(Code::NoSecret, error.to_string())
                .next("check what was typed or piped in, then the same command again")
        })?;
        let request = Request::CredentialUpload { upload: self.binding.upload, blob };
        match link.ask(&request)? {
            Answer::Credential(id) => Ok(id),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Tells where the key will go.
    pub(crate) fn show(&self) {
        out::say(&format!("the key will go to {}", describe(&self.destination)));
    }
}

/// Everything of a destination that a person can judge.
pub(crate) fn describe(destination: &Destination) -> String {
    let Destination { host, port, tls_name, extra_authorities, reach, base_path, .. } = destination;
    let mut parts = vec![format!("{host}:{port}{base_path}")];
    if tls_name != host {
        parts.push(format!("which shows a certificate for {tls_name}"));
    }
    parts.push(match &destination.injection {
        Injection::Bearer => "as a bearer token".to_owned(),
        Injection::Header(name) => format!("in the header {name}"),
    });
    if !extra_authorities.is_empty() {
        parts.push(format!("trusting {} authorities of your own", extra_authorities.len()));
    }
    if *reach == Reach::Private {
        parts.push("also at private addresses".to_owned());
    }
    let fixed = destination.fixed_headers.iter();
    parts.extend(fixed.map(|(name, value)| format!("with {name}: {}", out::plain(value))));
    parts.join(", ")
}

/// Whose key this looks like, by the shapes that secret scanners know.
pub(crate) fn guess(key: &[u8]) -> Option<Dialect> {
    let shapes: [(&[u8], Dialect); 4] = [
        (b"sk-ant-", Dialect::Anthropic),
        (b"sk-", Dialect::OpenAi),
        (b"AIza", Dialect::Gemini),
        (b"xai-", Dialect::Xai),
    ];
    shapes.into_iter().find(|(prefix, _)| key.starts_with(prefix)).map(|(_, dialect)| dialect)
}

/// Warns when a key looks like another provider's, or like one of our own tokens.
pub(crate) fn warn_of_foreign_key(key: &Typed, dialect: Dialect, provider: &str) {
    if key.lend(|key| key.starts_with(b"sr_")) {
        out::warn("this looks like a Strongroom token, not like a provider's key");
    }
    if let Some(looks) = key.lend(guess).filter(|looks| *looks != dialect) {
        let name = looks.name();
        out::warn(&format!("this looks like a key of {name}; it is being added for {provider}"));
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::dialect::Dialect;
    use strongroom_policy::id::{CredentialId, TenantId, UploadId, UserId};
    use strongroom_policy::provider::builtin::definitions;
    use strongroom_policy::rules::Home;
    use strongroom_protocol::upload::{UploadAct, UploadBinding, digest_destination};

    use super::{Slot, Wanted, describe, guess};

    fn binding(act: UploadAct) -> UploadBinding {
        UploadBinding {
            vault: [1; 16],
            upload: UploadId::from_random([2; 16]),
            tenant: TenantId::from_random([3; 16]),
            home: Home::Personal(UserId::from_random([4; 16])),
            act,
            destination_digest: digest_destination(&definitions().unwrap()[0].destination),
        }
    }

    #[test]
    fn an_upload_for_another_destination_than_shown_is_refused() {
        let shown = definitions().unwrap()[0].destination.clone();
        assert!(Slot::check(binding(UploadAct::Add), shown.clone(), Wanted::New).is_ok());
        let mut other = shown;
        other.port = 8443;
        let failure = Slot::check(binding(UploadAct::Add), other, Wanted::New).err().unwrap();
        assert_eq!(failure.code, "SR-CLI-008");
    }

    #[test]
    fn an_upload_for_another_act_than_asked_is_refused() {
        let shown = || definitions().unwrap()[0].destination.clone();
        let id = |byte| CredentialId::from_random([byte; 16]);
        let refused = |act, wanted| Slot::check(binding(act), shown(), wanted).is_err();
        assert!(!refused(UploadAct::Rotate(id(1)), Wanted::Rotation(id(1))));
        assert!(refused(UploadAct::Rotate(id(2)), Wanted::Rotation(id(1))));
        assert!(refused(UploadAct::Add, Wanted::Rotation(id(1))));
        assert!(refused(UploadAct::Rotate(id(1)), Wanted::New));
    }

    #[test]
    fn a_key_is_known_by_its_shape() {
        assert_eq!(guess(b"sk-proj-abc"), Some(Dialect::OpenAi));
        assert_eq!(guess(b"sk-ant-api03-abc"), Some(Dialect::Anthropic));
        assert_eq!(guess(b"AIzaSy"), Some(Dialect::Gemini));
        assert_eq!(guess(b"xai-abc"), Some(Dialect::Xai));
        assert_eq!(guess(b"abc"), None);
    }

    #[test]
    fn a_destination_is_described_with_host_port_and_header() {
        let anthropic = &definitions().unwrap()[1].destination;
        assert_eq!(describe(anthropic), "api.anthropic.com:443, in the header x-api-key");
    }
}
