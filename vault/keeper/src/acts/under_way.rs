//! What acts do to calls under way: each that may not go on is stopped, and no other.

use std::rc::Rc;
use std::time::Duration;

use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::destination::Destination;
use strongroom_policy::id::{CallId, CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::provider::{Origin, builtin};
use strongroom_policy::route::{BodyKind, PathClass};
use strongroom_policy::rules::{CallFacts, Choice, CredentialRules, Home, TokenScope};
use strongroom_policy::tenant_rules::{
    Days, Effect, Hours, Minute, Rule, RuleName, RuleSet, What, When, Who,
};
use strongroom_protocol::operator::keys::Deletion;
use strongroom_protocol::operator::rules::{MAX_RULES_BYTES, RulesAnswer, RulesRequest};
use strongroom_protocol::operator::{Answer, Pick, Request, TokenWish};
use strongroom_sys::Secret;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::tests::keeper;
use super::{Act, Keeper, perform};
use crate::clock;
use crate::keeper::{After, make_id};
use crate::keyring::ShredId;
use crate::pipeline;
use crate::records::CredentialRecord;
use crate::slots::scratch::Scratch;
use crate::tables::{HeldRules, Tenant};
use crate::tickets::Party;

/// Ann with a key of her own, Bob, who is a member of a team, the team's key, and a token of each of both.
struct Scene {
    keeper: Rc<Keeper>,
    ann: UserId,
    bob: UserId,
    team: WorkspaceId,
    anns: TokenId,
    bobs: TokenId,
    key: CredentialId,
    team_key: CredentialId,
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn pick(text: &str) -> Pick {
    Pick(label(text))
}

impl Scene {
    async fn make(scratch: &Scratch) -> Self {
        let keeper = keeper(scratch).await;
        let ask = async |request| perform(&keeper, 0, request).await;
        let Answer::User(ann) = ask(Request::UserCreate(label("ann"))).await else { panic!() };
        let Answer::User(bob) = ask(Request::UserCreate(label("bob"))).await else { panic!() };
        let Answer::Workspace(team) = ask(Request::WorkspaceCreate(label("team"))).await else {
            panic!()
        };
        let joined = ask(Request::WorkspaceJoin(pick("team"), pick("bob"))).await;
        assert!(matches!(joined, Answer::Done));
        for owner in ["ann", "bob"] {
            let made = ask(Request::TokenCreate(Box::new(token_of(owner)))).await;
            assert!(matches!(made, Answer::Token { .. }), "{made:?}");
        }
        let [anns, bobs] = ["ann", "bob"]
            .map(|name| seen(&keeper, |tables| tables.pick_token(&pick(name))).unwrap());
        let key = hold(&keeper, Home::Personal(ann), "anns").await;
        let team_key = hold(&keeper, Home::Workspace(team), "teams").await;
        Self { keeper, ann, bob, team, anns, bobs, key, team_key }
    }

    async fn ask(&self, request: Request) -> Answer {
        perform(&self.keeper, 0, request).await
    }

    /// A set of rules in force in place of all others.
    async fn rule(&self, rules: Vec<Rule>) {
        let version = seen(&self.keeper, |tables| tables.rules.version);
        let answer = self.ask(Request::Rules(RulesRequest::Replace { version, rules })).await;
        assert!(matches!(answer, Answer::Rules(RulesAnswer::Replaced(_))), "{answer:?}");
    }

    /// A call that was permitted and is being made.
    fn begin(&self, token: TokenId, credential: CredentialId, facts: &CallFacts) -> CallId {
        let call = make_id().unwrap();
        let user = if token == self.anns { self.ann } else { self.bob };
        let party = Party {
            tenant: seen(&self.keeper, |tables| tables.id),
            user,
            token,
            credential,
            origin: Origin::BuiltIn,
            expires: None,
            facts: facts.clone(),
        };
        let stands = self.keeper.with_vault(|vault| {
            let stands = vault.tables.stands(&party, clock::now());
            vault.tickets.begin(call, party);
            stands
        });
        assert_eq!(
            stands,
            Ok(true),
            "a call that may not be made is no test of one that is stopped"
        );
        call
    }

    fn runs(&self, call: CallId) -> bool {
        self.keeper.with_vault(|vault| vault.tickets.holds(call)).unwrap()
    }

    async fn end(self) {
        self.keeper.close("the test ends", After::Sealed).await;
    }
}

fn seen<T>(keeper: &Keeper, see: impl FnOnce(&Tenant) -> T) -> T {
    keeper.with_vault(|vault| see(vault.tables.of_first())).unwrap()
}

fn token_of(owner: &str) -> TokenWish {
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 60,
    };
    TokenWish { user: Some(pick(owner)), label: label(owner), scope, credential: None }
}

/// A key for OpenAI, as far as calls under way ask for it: it lies in memory alone.
async fn hold(keeper: &Rc<Keeper>, home: Home, name: &str) -> CredentialId {
    let id = make_id().unwrap();
    Act::of(keeper, 0).make_shred_key(ShredId::of(id)).await.unwrap();
    let provider = ProviderName::parse("openai").unwrap();
    let definition = builtin::definitions().unwrap().into_iter().find(|one| one.name == provider);
    let destination: Destination = definition.unwrap().destination;
    let record = CredentialRecord {
        label: label(name),
        provider,
        home,
        destination,
        rules: CredentialRules::default(),
        version: 1,
        created: clock::now(),
        rotated: clock::now(),
    };
    let held = keeper.with_vault(|vault| {
        let sealed = vault.memory_seal.seal(id, &Secret::copy_from(b"sk-test")).unwrap();
        let first = vault.tables.first();
        vault.tables.tenant_mut(first).unwrap().insert_credential(id, record, sealed);
    });
    held.unwrap();
    id
}

fn chat() -> CallFacts {
    let (class, body) = (PathClass::Stateless, BodyKind::Json);
    let model = Some(ModelName::parse("gpt-4o").unwrap());
    CallFacts { class, body, model, features: Features::NONE }
}

fn rule(name: &str, effect: Effect, who: Who, what: What, when: When) -> Rule {
    Rule { name: RuleName::parse(name).unwrap(), effect, who, what, when }
}

fn share(who: Who, key: CredentialId, when: When) -> Rule {
    rule("share", Effect::Allow, who, What::Credential(key), when)
}

fn models(names: &[&str]) -> When {
    let names = names.iter().map(|name| ModelName::parse(name).unwrap()).collect();
    When { models: Choice::Only(names), ..When::default() }
}

async fn within<F: Future<Output = ()>>(test: impl FnOnce(Scratch) -> F) {
    LocalSet::new().run_until(test(Scratch::make())).await;
}

// Red when calls are not judged again after an act.
#[tokio::test]
async fn what_rules_do_not_allow_any_more_is_stopped_and_nothing_else_is() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let bob = Who::User(scene.bob);
        let shared = |when| vec![share(bob, scene.key, when)];
        let over = When { until: Some(Moment::from_unix_millis(1)), ..When::default() };
        let no_chat = |who| rule("no", Effect::Deny, who, What::Anything, models(&["gpt-4*"]));
        for (what, rules, goes_on) in [
            ("the same", shared(When::default()), true),
            ("narrowed, and it still counts", shared(models(&["gpt-4o", "o3"])), true),
            ("taken back", vec![], false),
            ("narrowed", shared(models(&["o3"])), false),
            ("over", shared(over), false),
            ("another's", vec![share(Who::User(scene.ann), scene.key, When::default())], false),
            ("denied", [shared(When::default()), vec![no_chat(bob)]].concat(), false),
            (
                "denied to others",
                [shared(When::default()), vec![no_chat(Who::User(scene.ann))]].concat(),
                true,
            ),
        ] {
            scene.rule(shared(When::default())).await;
            let call = scene.begin(scene.bobs, scene.key, &chat());
            let teams =
                scene.begin(scene.bobs, scene.team_key, &CallFacts { model: None, ..chat() });
            scene.rule(rules).await;
            assert_eq!(scene.runs(call), goes_on, "{what}");
            let hit = what == "denied";
            assert_eq!(scene.runs(teams), !hit, "{what}: a call with another key");
            scene.keeper.with_vault(|vault| vault.tickets.take_all()).unwrap();
        }
        scene.end().await;
    })
    .await;
}

#[tokio::test]
async fn an_owners_calls_that_a_shared_key_may_not_make_end_when_it_is_shared() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let features = Features::NONE.with(Feature::HostedTools);
        let plain = scene.begin(scene.anns, scene.key, &chat());
        let tools = scene.begin(scene.anns, scene.key, &CallFacts { features, ..chat() });
        let files = CallFacts { class: PathClass::Stateful, ..chat() };
        let files = scene.begin(scene.anns, scene.key, &files);
        scene.rule(vec![share(Who::Anyone, scene.key, When::default())]).await;
        let run = [plain, tools, files].map(|call| scene.runs(call));
        assert_eq!(run, [true, false, false]);
        scene.end().await;
    })
    .await;
}

// Red when the owner's standing is not asked.
#[tokio::test]
async fn whoever_is_disabled_or_deleted_gives_nobody_the_use_of_their_key_any_more() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        scene.rule(vec![share(Who::User(scene.bob), scene.key, When::default())]).await;
        let openai = ProviderName::parse("openai").unwrap();
        let usable = || {
            seen(&scene.keeper, |tables| {
                let bob = tables.subject(scene.bobs).unwrap();
                tables.usable(&bob, &openai).map(|(id, _)| id).collect::<Vec<_>>()
            })
        };
        assert_eq!(usable(), [scene.team_key, scene.key]);
        let call = scene.begin(scene.bobs, scene.key, &chat());
        assert!(matches!(scene.ask(Request::UserDisable(pick("ann"))).await, Answer::Done));
        assert!(!scene.runs(call));
        assert_eq!(usable(), [scene.team_key], "what is not usable is not chosen");

        assert!(matches!(scene.ask(Request::UserEnable(pick("ann"))).await, Answer::Done));
        let call = scene.begin(scene.bobs, scene.key, &chat());
        let counted = scene.ask(Request::UserDelete(pick("ann"), Deletion::Count)).await;
        let Answer::Counted(counted) = counted else { panic!("{counted:?}") };
        let perform = Deletion::Perform(counted.dependents);
        let deleted = scene.ask(Request::UserDelete(pick("ann"), perform)).await;
        let Answer::Deleted(receipt) = deleted else { panic!("{deleted:?}") };
        assert_eq!((receipt.stopped_calls, scene.runs(call)), (1, false));
        scene.end().await;
    })
    .await;
}

// Red when leaving looks at the keys of the workspace alone.
#[tokio::test]
async fn who_leaves_a_workspace_stops_using_what_a_rule_gave_its_members() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        scene.rule(vec![share(Who::Workspace(scene.team), scene.key, When::default())]).await;
        let [by_rule, at_home] =
            [scene.key, scene.team_key].map(|key| scene.begin(scene.bobs, key, &chat()));
        let owner = scene.begin(scene.anns, scene.key, &chat());
        let left = scene.ask(Request::WorkspaceLeave(pick("team"), pick("bob"))).await;
        assert!(matches!(left, Answer::Done));
        assert_eq!([by_rule, at_home, owner].map(|call| scene.runs(call)), [false, false, true]);
        scene.end().await;
    })
    .await;
}

// Red when calls are not stopped again after the keys are gone.
#[tokio::test]
async fn a_call_that_begins_while_a_workspace_is_deleted_is_stopped_and_counted() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let guests =
            rule("g", Effect::Allow, Who::Anyone, What::Workspace(scene.team), When::default());
        scene.rule(vec![guests]).await;
        let counted = scene.ask(Request::WorkspaceDelete(pick("team"), Deletion::Count)).await;
        let Answer::Counted(counted) = counted else { panic!("{counted:?}") };
        let keeper = Rc::clone(&scene.keeper);
        let request = Request::WorkspaceDelete(pick("team"), Deletion::Perform(counted.dependents));
        let deleting = spawn_local(async move { perform(&keeper, 0, request).await });
        let emptied =
            || seen(&scene.keeper, |tables| tables.workspaces[&scene.team].members.is_empty());
        while !emptied() {
            yield_now().await;
        }
        let call = scene.begin(scene.anns, scene.team_key, &chat());
        let deleted = deleting.await.unwrap();
        let Answer::Deleted(receipt) = deleted else { panic!("{deleted:?}") };
        assert_eq!((receipt.stopped_calls, scene.runs(call)), (1, false));
        scene.end().await;
    })
    .await;
}

// Red when the sweep looks at expiry alone.
#[tokio::test]
async fn a_call_ends_within_a_second_when_the_time_of_what_allows_it_is_over() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let now = clock::now();
        let (past, soon) = (Moment::from_unix_millis(1), now.after(Duration::from_hours(1)));
        let until = |until| When { until: Some(until), ..When::default() };
        let minute = |minute: u64| Minute::try_from(u16::try_from(minute % 1440).unwrap()).unwrap();
        let this = now.unix_millis() / 60_000;
        let hours = |from, to| When {
            hours: Some(Hours { days: Days::ALL, from: minute(from), to: minute(to) }),
            ..When::default()
        };
        for (what, when, goes_on) in [
            ("not yet", until(soon), true),
            ("over", until(past), false),
            ("within its hours", hours(this - 60, this + 60), true),
            ("after its hours", hours(this - 120, this - 60), false),
        ] {
            let bob = Who::User(scene.bob);
            scene.rule(vec![share(bob, scene.key, When::default())]).await;
            let call = scene.begin(scene.bobs, scene.key, &chat());
            // As it is when that time has come: no act puts it in force.
            let set = RuleSet::new(vec![share(bob, scene.key, when)]).unwrap();
            let put = |rules: &mut HeldRules| rules.set = set;
            let put = scene.keeper.with_vault(|vault| {
                let first = vault.tables.first();
                put(&mut vault.tables.tenant_mut(first).unwrap().rules);
            });
            put.unwrap();
            pipeline::sweep(&scene.keeper, Duration::ZERO);
            assert_eq!(scene.runs(call), goes_on, "{what}");
        }
        scene.end().await;
    })
    .await;
}

// Red when the length is found out while the record is written: its act is in the journal by then.
#[tokio::test]
async fn rules_that_no_record_can_keep_are_refused_before_anything_is_written() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let name = |number: usize| format!("{number:03}{}", "m".repeat(61));
        let list: Vec<String> = (0..64).map(name).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let long = |count: usize| -> Vec<Rule> {
            let rule = |number| {
                rule(
                    &format!("r{number}"),
                    Effect::Deny,
                    Who::Anyone,
                    What::Anything,
                    models(&list),
                )
            };
            (0..count).map(rule).collect()
        };
        let length = |count| postcard::to_stdvec(&long(count)).unwrap().len();
        let fits = (1..64).rfind(|count| length(*count) <= MAX_RULES_BYTES).unwrap();
        scene.rule(long(fits)).await;
        let version = seen(&scene.keeper, |tables| tables.rules.version);
        let entries = || scene.keeper.with_vault(|vault| vault.journal.entries()).unwrap();
        let before = entries();
        let rules = long(fits + 1);
        let answer = scene.ask(Request::Rules(RulesRequest::Replace { version, rules })).await;
        let Answer::Failed(fault) = answer else { panic!("{answer:?}") };
        assert_eq!((fault.code.as_str(), entries()), ("SR-RULES-001", before));
        assert_eq!(seen(&scene.keeper, |tables| tables.rules.version), version);
        scene.end().await;
    })
    .await;
}

// Red when a version is the one before and one more: a vault that was restored would give it to other rules.
#[tokio::test]
async fn the_same_change_of_the_same_rules_has_another_version_each_time() {
    within(async |scratch| {
        let scene = Box::pin(Scene::make(&scratch)).await;
        let mut versions = vec![0];
        for _ in 0..4 {
            scene.rule(vec![share(Who::User(scene.bob), scene.key, When::default())]).await;
            let version = seen(&scene.keeper, |tables| tables.rules.version);
            assert!(!versions.iter().any(|one| version.abs_diff(*one) < 2) && version < 1 << 52);
            versions.push(version);
        }
        scene.end().await;
    })
    .await;
}
