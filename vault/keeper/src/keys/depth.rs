//! How deep a stack what works with keys uses, against how much is wiped after it: what lies deeper stays.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::thread;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use chacha20poly1305::ChaCha20Poly1305;
use strongroom_policy::id::UploadId;
use strongroom_policy::rules::Home;
use strongroom_protocol::upload::{
    UploadAct, UploadBinding, derive_vault_key, open_upload, seal_upload,
};

use super::*;

const BYTES: [u8; 32] = [7; 32];
/// As much of a thread's stack is looked at.
const SEEN: usize = 256 * 1024;

/// How far below its caller `work` writes anything.
fn depth(work: impl FnOnce() + Send + 'static) -> usize {
    // Opened before: nothing but a system call comes between the work and the look.
    let memory = File::open("/proc/self/mem").unwrap();
    let mut below = vec![0_u8; SEEN];
    let look = move || {
        let here = 0_u8;
        let top = u64::try_from(black_box(&raw const here).addr()).unwrap();
        // The stack of a thread that has ended is used again, as it was left.
        stack::wiping::<SEEN, _>(|| ());
        apart(work);
        memory.read_exact_at(&mut below, top - u64::try_from(SEEN).unwrap()).unwrap();
        SEEN - below.iter().position(|byte| *byte != 0).unwrap()
    };
    thread::Builder::new().stack_size(4 * SEEN).spawn(look).unwrap().join().unwrap()
}

#[inline(never)]
fn apart(work: impl FnOnce()) {
    work();
}

// Red when less is wiped than the work used.
#[test]
fn nothing_that_works_with_a_key_uses_more_stack_than_is_wiped_after_it() {
    let derivation = depth(|| {
        let mut out = [0; 64];
        Hkdf::<Sha256>::new(Some(&[1; 64]), &BYTES).expand(&[2; 200], &mut out).unwrap();
        black_box(out);
    });
    let mac = depth(|| {
        let mut mac = HkdfExtract::<Sha256>::new(Some(&BYTES));
        mac.input_ikm(&[1; 200]);
        black_box(mac.finalize());
    });
    let aes = depth(|| {
        let cipher = Aes256Gcm::new_from_slice(&BYTES).unwrap();
        let mut text = vec![1; 4096];
        let sealed = cipher.encrypt_inout_detached(&[0; 12].into(), b"", (&mut text[..]).into());
        black_box(sealed.unwrap());
    });
    let chacha = depth(|| {
        let cipher = ChaCha20Poly1305::new_from_slice(&BYTES).unwrap();
        let mut text = vec![1; 4096];
        let sealed = cipher.encrypt_inout_detached(&[0; 12].into(), b"", (&mut text[..]).into());
        black_box(sealed.unwrap());
    });
    for used in [derivation, mac, aes, chacha] {
        assert!(used < STACK_BYTES, "{:?}", [derivation, mac, aes, chacha]);
    }
}

#[test]
fn a_mac_over_hashed_pads_uses_less_stack_than_is_wiped_after_it() {
    let keyed = Hmac::<Sha256>::new_from_slice(&BYTES).unwrap();
    let used = depth(move || {
        let mut hmac = keyed.clone();
        hmac.update(&[1; 200]);
        black_box(hmac.finalize());
    });
    assert!(used < MAC_STACK_BYTES, "{used}");
}

#[test]
fn an_upload_is_opened_with_less_stack_than_is_wiped_after_it() {
    let binding = UploadBinding {
        vault: [1; 16],
        upload: UploadId::from_random([2; 16]),
        tenant: TenantId::from_random([3; 16]),
        home: Home::Personal(UserId::from_random([4; 16])),
        act: UploadAct::Add,
        destination_digest: [5; 32],
    };
    let vault = derive_vault_key(&BYTES);
    let blob = seal_upload(&vault, &binding, b"sk-test-0123456789abcdef").unwrap();
    let derived = depth(|| {
        black_box(derive_vault_key(&BYTES));
    });
    let opened = depth(move || drop(black_box(open_upload(&BYTES, &binding, &blob).unwrap())));
    assert!(derived < HPKE_STACK_BYTES && opened < HPKE_STACK_BYTES, "{derived} {opened}");
}
