//! Small values that the samples are made of.

use std::time::Duration;

use strongroom_policy::claims::{Claims, Feature, Features, Stream};
use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::id::{Id, Kind};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, HostName, Label, ModelName, ProviderName};
use strongroom_policy::rules::{Choice, CredentialRules, TokenScope};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::errand::{Ending, Outcome};
use strongroom_protocol::operator::{Exit, Fault, Pick};
use strongroom_protocol::usage::{Told, Usage};

pub(crate) fn id<K: Kind>(byte: u8) -> Id<K> {
    Id::from_random([byte; 16])
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) fn pick(text: &str) -> Pick {
    Pick(label(text))
}

pub(crate) fn provider() -> ProviderName {
    ProviderName::parse("openai").unwrap()
}

pub(crate) fn betas() -> Vec<BetaName> {
    vec![BetaName::parse("files-api-2025-04-14").unwrap()]
}

pub(crate) fn target() -> Target {
    Target::parse("/v1/responses?include=usage").unwrap()
}

pub(crate) fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

pub(crate) const fn moment(millis: u64) -> Moment {
    Moment::from_unix_millis(millis)
}

pub(crate) fn model() -> ModelName {
    ModelName::parse("gpt-4o-mini").unwrap()
}

pub(crate) fn claims() -> Claims {
    Claims {
        model: Some(model()),
        max_output: Some(1000),
        answers: 2,
        stream: Stream::Streamed,
        features: Features::NONE.with(Feature::HostedTools).with(Feature::ManyAnswers),
        extent: strongroom_policy::claims::Extent::Text,
    }
}

pub(crate) fn destination() -> Destination {
    let host = HostName::parse("api.example.org").unwrap();
    Destination {
        tls_name: host.clone(),
        host,
        port: 8443,
        extra_authorities: vec![vec![0x30, 0x03, 0x02, 0x01, 0x01]],
        reach: Reach::Private,
        base_path: "/v2".to_owned(),
        injection: Injection::Header("x-api-key".to_owned()),
        fixed_headers: vec![("openai-project".to_owned(), "proj_1".to_owned())],
    }
}

pub(crate) fn rules() -> CredentialRules {
    CredentialRules {
        models: Choice::Only(vec![ModelName::parse("gpt-4o*").unwrap()]),
        features: Some(Features::NONE.with(Feature::StoredState)),
        betas: Choice::Any,
        expires: Some(moment(1_800_000_000_000)),
    }
}

pub(crate) fn scope() -> TokenScope {
    TokenScope {
        providers: Choice::Only(vec![provider()]),
        models: Choice::Any,
        credential: Some(id(8)),
        expires: None,
        calls_per_minute: 60,
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        call: id(9),
        status: Some(200),
        ending: Ending::Complete,
        usage: Usage {
            input: Some(12),
            output: Some(345),
            cached_input: Some(0),
            cache_write: None,
            reasoning: Some(300),
            cost_ticks: None,
            told: Told::Exact,
        },
        sent_bytes: 128,
        received_bytes: 4096,
        scrubbed: 1,
        first_byte: Some(Duration::from_micros(250_001)),
        total: Duration::from_millis(1500),
    }
}

pub(crate) fn fault() -> Fault {
    Fault {
        code: "SR-SEALED-001".to_owned(),
        message: "the vault is sealed".to_owned(),
        next: Some("run 'strongroom unseal'".to_owned()),
        exit: Exit::Sealed,
    }
}
