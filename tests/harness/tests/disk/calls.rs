//! A gateway and a courier that make calls, to learn what was released.

use strongroom_policy::claims::{Claims, Features, Length, Stream};
use strongroom_policy::id::CallId;
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::route::Method;
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, CallAsk, FromGateway, Ticket, ToGateway};
use strongroom_protocol::errand::{Ending, FromCourier, Outcome, ToCourier};
use strongroom_protocol::usage::Usage;
use strongroom_tests::until;

use crate::keeper::{Door, Gone, Keeper, copy};

/// Both peers of a keeper.
pub(crate) struct Peers {
    gateway: Door,
    courier: Door,
}

impl Peers {
    /// Connects both and waits until the keeper knows of them.
    #[track_caller]
    pub(crate) fn connect(keeper: &Keeper) -> Self {
        let courier = keeper.door("errand").expect("the courier's door");
        let mut operator = keeper.operator();
        until("the keeper knows its courier", || operator.status().courier.then_some(()));
        Self { gateway: keeper.door("ask").expect("the gateway's door"), courier }
    }

    /// Makes one call: `None` when it was refused, else which call had its key released.
    pub(crate) fn call(&mut self, token: &SecretBytes) -> Result<Option<CallId>, Gone> {
        let ask = Ask::Call(Box::new(chat(token)));
        self.gateway.send(&FromGateway { number: 7, ask })?;
        let ticket = loop {
            match self.gateway.receive()? {
                ToGateway::Answer { answer: Answer::Admitted { ticket, .. }, .. } => break ticket,
                ToGateway::Answer { .. } => return Ok(None),
                ToGateway::Snapshot(_) => {}
            }
        };
        self.redeem(ticket)
    }

    fn redeem(&mut self, ticket: Ticket) -> Result<Option<CallId>, Gone> {
        self.courier.send(&FromCourier::Redeem(ticket))?;
        let call = loop {
            match self.courier.receive()? {
                ToCourier::Errand { errand, .. } => break errand.call,
                ToCourier::Refused { .. } => return Ok(None),
                ToCourier::Probe(_) | ToCourier::Recall(_) => {}
            }
        };
        self.courier.send(&FromCourier::Outcome(Box::new(Outcome {
            call,
            status: Some(200),
            ending: Ending::Complete,
            usage: Usage::default(),
            sent_bytes: 100,
            received_bytes: 1000,
            scrubbed: 0,
            first_byte: None,
            total: std::time::Duration::from_millis(2),
        })))?;
        Ok(Some(call))
    }
}

fn chat(token: &SecretBytes) -> CallAsk {
    CallAsk {
        proof: copy(token),
        provider: ProviderName::parse("openai").expect("a name"),
        choice: Some(Label::parse("main").expect("a name")),
        method: Method::Post,
        target: Target::parse("/v1/chat/completions").expect("a path"),
        betas: Vec::new(),
        claims: Claims {
            model: Some(ModelName::parse("gpt-4o").expect("a name")),
            max_output: Some(10),
            answers: 1,
            stream: Stream::Whole,
            features: Features::NONE,
            extent: strongroom_policy::claims::Extent::Text,
        },
        length: Length::Known(100),
    }
}
