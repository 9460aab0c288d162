//! The sealed upload: what is bound, and a blob that every version must open.

use strongroom_policy::destination::Destination;
use strongroom_policy::rules::Home;
use strongroom_protocol::upload::{
    UploadAct, UploadBinding, derive_vault_key, digest_destination, open_upload, seal_upload,
};

use crate::things::{destination, id};
use crate::{Vector, directory};

/// The vault's 32 secret bytes in the vectors.
const SECRET: [u8; 32] = [7; 32];
const KEY: &[u8] = b"sk-test-0123456789abcdef";

pub(crate) fn destination_of_upload() -> Destination {
    destination()
}

pub(crate) fn binding_of_new() -> UploadBinding {
    UploadBinding {
        vault: [1; 16],
        upload: id(6),
        tenant: id(4),
        home: Home::Personal(id(1)),
        act: UploadAct::Add,
        destination_digest: digest_destination(&destination_of_upload()),
    }
}

fn binding_of_rotation() -> UploadBinding {
    UploadBinding {
        home: Home::Workspace(id(2)),
        act: UploadAct::Rotate(id(8)),
        ..binding_of_new()
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let binding = postcard::to_stdvec(&binding_of_new()).unwrap();
    let rotation = postcard::to_stdvec(&binding_of_rotation()).unwrap();
    let destination = postcard::to_stdvec(&destination_of_upload()).unwrap();
    assert_eq!(postcard::from_bytes::<UploadBinding>(&binding).unwrap(), binding_of_new());
    assert_eq!(postcard::from_bytes::<Destination>(&destination).unwrap(), destination_of_upload());
    vec![
        ("upload.binding".to_owned(), binding),
        ("upload.binding-rotate".to_owned(), rotation),
        ("upload.destination".to_owned(), destination),
        ("upload.vault-key".to_owned(), derive_vault_key(&SECRET).0.to_vec()),
        ("upload.blob".to_owned(), blob()),
    ]
}

/// Sealing draws randomness, so the blob is kept as it was first made; a new one is made when there is none.
fn blob() -> Vec<u8> {
    let text = std::fs::read_to_string(directory().join("upload.blob.hex")).unwrap_or_default();
    let kept = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    if kept.is_empty() {
        return seal_upload(&derive_vault_key(&SECRET), &binding_of_new(), KEY).unwrap();
    }
    let opened = open_upload(&SECRET, &binding_of_new(), &kept).unwrap();
    assert!(opened.expose(|key| key == KEY));
    kept
}
