//! Naming things: picks, homes, lists of models, as arguments.
//!
//! Invariant: a pick that fits several things is refused, never resolved by order.

use std::time::Duration;

use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, NotAName};
use strongroom_policy::rules::Choice;
use strongroom_protocol::operator::{HomePick, Pick};

use crate::failure::{Failure, Outcome};
use crate::render;

/// Reads a pick: an id or a label.
pub(crate) fn pick(text: &str) -> Result<Pick, NotAName> {
    Label::parse(text).map(Pick)
}

/// Reads `alice`, `user:alice` or `workspace:research`.
pub(crate) fn home(text: &str) -> Result<HomePick, NotAName> {
    match text.split_once(':') {
        Some(("workspace", name)) => pick(name).map(HomePick::Workspace),
        Some(("user", name)) => pick(name).map(|user| HomePick::Personal(Some(user))),
        Some(_) | None => pick(text).map(|user| HomePick::Personal(Some(user))),
    }
}

/// Reads a duration argument.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    render::duration(text).map_err(|failure| failure.message)
}

/// Reads a feature's name.
pub(crate) fn feature(text: &str) -> Result<Feature, String> {
    let known = || Feature::ALL.map(Feature::name).join(", ");
    Feature::by_name(text).ok_or_else(|| format!("known are {}", known()))
}

/// The listed values, or any when none is listed.
pub(crate) fn choice<T>(listed: Vec<T>) -> Choice<T> {
    if listed.is_empty() { Choice::Any } else { Choice::Only(listed) }
}

/// The listed features, or the ready-made set when none is listed.
pub(crate) fn features(listed: &[Feature]) -> Option<Features> {
    let sum = |all: Features, feature: &Feature| all.with(*feature);
    (!listed.is_empty()).then(|| listed.iter().fold(Features::NONE, sum))
}

/// A moment that far from now.
pub(crate) fn expiry(after: Option<Duration>) -> Option<Moment> {
    after.map(|duration| render::now().after(duration))
}

/// A choice for people.
pub(crate) fn chosen<T: ToString>(choice: &Choice<T>) -> String {
    match choice {
        Choice::Any => "any".to_owned(),
        Choice::Only(list) => list.iter().map(T::to_string).collect::<Vec<_>>().join(","),
    }
}

/// The one row that a pick names.
pub(crate) fn the_one<'r, R>(
    rows: &'r [R],
    pick: &Pick,
    what: &str,
    names: impl Fn(&R) -> (String, Label),
) -> Outcome<&'r R> {
    let fits = |row: &&R| {
        let (id, label) = names(row);
        label == pick.0 || id == pick.0.as_ref()
    };
    let mut found = rows.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(Failure::argument(format!("there is no {what} `{}`", pick.0.as_ref()))
            .next(format!("strongroom {what} list"))),
        (Some(_), Some(_)) => {
            let ids: Vec<_> = rows.iter().filter(fits).map(|row| names(row).0).collect();
            let which = format!("several {what}s are called `{}`", pick.0.as_ref());
            Err(Failure::argument(which).next(format!("name one by its id: {}", ids.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::name::Label;
    use strongroom_protocol::operator::HomePick;

    use super::{home, pick, the_one};

    #[test]
    fn a_home_is_a_person_or_a_workspace() {
        assert_eq!(home("alice"), home("user:alice"));
        assert!(matches!(home("workspace:research"), Ok(HomePick::Workspace(_))));
        assert!(home("group:research").is_err());
    }

    #[test]
    fn an_ambiguous_label_names_the_ids() {
        let label = |text| Label::parse(text).unwrap();
        let rows = [("1", label("a")), ("2", label("a")), ("3", label("b"))];
        let names = |row: &(&str, Label)| (row.0.to_owned(), row.1.clone());
        assert_eq!(the_one(&rows, &pick("b").unwrap(), "token", names).unwrap().0, "3");
        assert_eq!(the_one(&rows, &pick("2").unwrap(), "token", names).unwrap().0, "2");
        let failure = the_one(&rows, &pick("a").unwrap(), "token", names).unwrap_err();
        assert!(failure.next.unwrap().contains("1, 2"));
        assert!(the_one(&rows, &pick("c").unwrap(), "token", names).is_err());
    }
}
