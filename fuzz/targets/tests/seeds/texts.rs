//! Tokens, uploads, paths, names, definitions, settings, and the journal's public forms.

use strongroom_fuzz::sockets::{UPLOAD_SECRET, upload_binding};
use strongroom_fuzz::tlog::{log, witness};
use strongroom_policy::id::{CredentialId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, ModelName, ProviderName};
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::rules::{Choice, CredentialRules, TokenScope};
use strongroom_protocol::token::write_token;
use strongroom_protocol::upload::{derive_vault_key, seal_upload};
use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::cosignature::Timestamp;
use strongroom_tlog::tile::{FULL, encode_hashes};
use strongroom_tlog::{
    Checkpoint, Edge, Hash, Inclusion, Index, Origin, Size, leaf_hash, node_hash,
};

use crate::Seed;

pub(crate) fn all() -> Vec<Seed> {
    [tokens(), uploads(), paths(), names(), logs(), proofs(), settings()].concat()
}

fn tokens() -> Vec<Seed> {
    let token = |byte: u8| write_token(&[byte; 32]).expose(|text| ("token", text.to_vec()));
    vec![token(0), token(1), token(255)]
}

fn uploads() -> Vec<Seed> {
    let key = derive_vault_key(&UPLOAD_SECRET);
    let blob = |secret: &[u8]| ("upload", seal_upload(&key, &upload_binding(), secret).unwrap());
    vec![blob(b"sk-fuzz-0123456789abcdef"), blob(&[b'k'; 200])]
}

fn paths() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for definition in definitions().unwrap() {
        seeds.push(("definition", postcard::to_stdvec(&definition).unwrap()));
        let mut small = definition.clone();
        small.paths.truncate(3);
        "/base/v1".clone_into(&mut small.destination.base_path);
        small.destination.fixed_headers = vec![("openai-project".to_owned(), "p 1".to_owned())];
        seeds.push(("definition", postcard::to_stdvec(&small).unwrap()));
        for rule in definition.paths.iter().step_by(6) {
            let path = rule.pattern.as_str().replace("{model}", "gemini-2").replace(['{', '}'], "");
            seeds.push(("path", path.clone().into_bytes()));
            seeds.push((
                "path",
                format!("{}?alt=sse&a[]=%20x&$b", path.replace('-', "%2d")).into_bytes(),
            ));
        }
    }
    seeds
}

fn names() -> Vec<Seed> {
    let provider = |text| ProviderName::parse(text).unwrap();
    let model = |text| ModelName::parse(text).unwrap();
    let scopes = [
        TokenScope {
            providers: Choice::Any,
            models: Choice::Only(vec![model("gpt-4o*"), model("o3")]),
            credential: Some(CredentialId::from_random([4; 16])),
            expires: Some(Moment::from_unix_millis(1_700_000_000_000)),
            calls_per_minute: 60,
        },
        TokenScope {
            providers: Choice::Only(vec![provider("openai"), provider("demo-openai")]),
            models: Choice::Any,
            credential: None,
            expires: None,
            calls_per_minute: 1,
        },
    ];
    let rules = [
        CredentialRules::default(),
        CredentialRules {
            betas: Choice::Only(vec![BetaName::parse("files-api-2025-04-14").unwrap()]),
            ..CredentialRules::default()
        },
    ];
    let texts = [
        "openai",
        "API.OpenAI.com",
        "::1",
        "team key",
        "/v1/models/{model}:verb",
        "POST",
        "ft:gpt-4o:org::id",
    ];
    let id = UserId::from_random([0xab; 16]).to_string();
    let scope = scopes.iter().map(|scope| [vec![0], postcard::to_stdvec(scope).unwrap()].concat());
    let rule = rules.iter().map(|rules| [vec![1], postcard::to_stdvec(rules).unwrap()].concat());
    let text = texts.into_iter().chain([id.as_str()]);
    let text = text.map(|text| [&[2], text.as_bytes()].concat());
    scope.chain(rule).chain(text).map(|input| ("rules", input)).collect()
}

fn logs() -> Vec<Seed> {
    let mut bundle = vec![0];
    for entry in [&b"{\"n\":1}"[..], b"", &[7; 300]] {
        push_entry(&mut bundle, entry).unwrap();
    }
    let hashes: Vec<Hash> = (0..3).map(|byte| Hash([byte; 32])).collect();
    let full: Vec<Hash> = (0..FULL).map(|_| Hash([1; 32])).collect();
    let mut seeds = vec![
        ("tile", bundle),
        ("tile", [vec![1], encode_hashes(&hashes)].concat()),
        ("tile", [vec![1], encode_hashes(&full)].concat()),
    ];
    for path in [
        "tile/0/000",
        "tile/1/x001/234.p/7",
        "tile/entries/005",
        "tile/entries/x001/x234/567.p/255",
    ] {
        seeds.push(("tile", [&[2], path.as_bytes()].concat()));
    }
    let head = Checkpoint {
        origin: Origin::parse("strongroom/fuzz").unwrap(),
        size: Size(3),
        root: Hash([5; 32]),
    };
    let mut note = head.sign(&log()).unwrap();
    note.push(witness().cosign(&head, Timestamp::new(1_700_000_000).unwrap()));
    let line = note.lines()[0].encode();
    for text in
        [note.encode(), line.trim_end().to_owned(), log().verifier().vkey(), witness().key().vkey()]
    {
        seeds.push(("note", text.into_bytes()));
    }
    seeds
}

/// A tree of three entries: the second is proved, and that it continues the tree of two.
fn proofs() -> Vec<Seed> {
    let entries = [&b"one"[..], b"two", b"three"];
    let [one, two, three] = entries.map(leaf_hash);
    let (old, root) = (node_hash(one, two), node_hash(node_hash(one, two), three));
    let mut edge = Edge::default();
    for leaf in [one, two, three] {
        edge.push(leaf).unwrap();
    }
    let origin = Origin::parse("strongroom/fuzz").unwrap();
    let note = Checkpoint { origin, size: Size(3), root }.sign(&log()).unwrap();
    let inclusion = |index: u64, hashes: Vec<Hash>| {
        let entry = Some(entries[usize::try_from(index).unwrap()].to_vec());
        let proof = Inclusion { entry, index: Index(index), hashes, note: note.clone() };
        ("proof", [&[0], proof.encode().as_bytes()].concat())
    };
    let sizes = |old: u64, new: u64| [old.to_be_bytes(), new.to_be_bytes()].concat();
    let grown = [vec![1], sizes(2, 3), [old.0, root.0, three.0].concat()].concat();
    let same = [vec![1], sizes(3, 3), [root.0, root.0].concat()].concat();
    vec![inclusion(1, vec![one, three]), inclusion(2, vec![old]), ("proof", grown), ("proof", same)]
}

fn settings() -> Vec<Seed> {
    let template = include_str!("../../../../vault/cli/src/templates/strongroom.toml");
    let written = template
        .replace("{listen}", "127.0.0.1:8443")
        .replace("{port}", "8443")
        .replace("{metrics}", "127.0.0.1:9443")
        .replace("{names}", "[\"localhost\"]")
        .replace("{accept_missing}", "[\"uids\", \"netns\"]");
    let backup = "[backup]\ndirectory = \"/backup\"\nevery = \"1h\"\nkeep = 3\n";
    let whole = format!("public_url = \"https://keys.example.org:8443\"\n{written}\n{backup}");
    let tpm = "accept_missing = [\"landlock\"]\n[tpm]\ntcti = \"device:/dev/tpmrm0\"\npcrs = [7]\nunattended = true\n";
    [written.as_str(), whole.as_str(), tpm, ""]
        .into_iter()
        .filter(|text| {
            strongroom_fuzz::settings::settings(text.as_bytes())
                == strongroom_fuzz::Verdict::Accepted
        })
        .map(|text| ("settings", text.as_bytes().to_vec()))
        .collect()
}
