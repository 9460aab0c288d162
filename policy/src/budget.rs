//! Budgets: who may spend how much of what within which time.
//!
//! Invariant: days and months are those of UTC; a call counts where it was admitted.

use serde::{Deserialize, Serialize};

use crate::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use crate::moment::Moment;

/// Whom a budget is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Payer {
    /// Everybody of a tenant.
    Tenant(TenantId),
    /// Whoever uses the credentials of a workspace.
    Workspace(WorkspaceId),
    /// A person, by all their tokens.
    User(UserId),
    /// A token.
    Token(TokenId),
    /// A credential, by whoever uses it.
    Credential(CredentialId),
}

impl Payer {
    /// The kind in commands, headers and refusals.
    pub const fn kind(&self) -> PayerKind {
        match self {
            Self::Tenant(_) => PayerKind::Tenant,
            Self::Workspace(_) => PayerKind::Workspace,
            Self::User(_) => PayerKind::User,
            Self::Token(_) => PayerKind::Token,
            Self::Credential(_) => PayerKind::Credential,
        }
    }
}

/// A kind of payer: what a caller may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayerKind {
    /// A tenant.
    Tenant,
    /// A workspace.
    Workspace,
    /// A person.
    User,
    /// A token.
    Token,
    /// A credential.
    Credential,
}

impl PayerKind {
    /// The word in commands, headers and refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Workspace => "workspace",
            Self::User => "user",
            Self::Token => "token",
            Self::Credential => "credential",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Millionths of a US dollar.
    Money,
    /// Tokens, input and output together.
    Tokens,
    /// Calls that were sent.
    Requests,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 3] = [Self::Money, Self::Tokens, Self::Requests];

    /// The word in commands, headers and refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Money => "money",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }

    /// The least that is made durable ahead of what is spent: half a dollar, a hundred thousand tokens, sixteen calls.
    pub(crate) const fn least_block(self) -> u64 {
        match self {
            Self::Money => 500_000,
            Self::Tokens => 100_000,
            Self::Requests => 16,
        }
    }
}

/// After which time a budget begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// At midnight UTC.
    Day,
    /// At midnight UTC before the first of a month.
    Month,
}

impl Period {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The word in commands, headers and refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The window that a moment lies in.
    pub fn window(self, at: Moment) -> Window {
        let day = at.unix_millis().checked_div(DAY_MILLIS).unwrap_or(0);
        Window(match self {
            Self::Day => u32::try_from(day).unwrap_or(u32::MAX),
            Self::Month => month_of(day),
        })
    }

    /// When the window is over.
    pub fn end(self, window: Window) -> Moment {
        let next = window.0.saturating_add(1);
        let days = match self {
            Self::Day => u64::from(next),
            Self::Month => first_day_of(next),
        };
        Moment::from_unix_millis(days.saturating_mul(DAY_MILLIS))
    }
}

/// A day or a month, counted from January 1970.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Window(u32);

impl Window {
    /// The one of that number.
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// Whether it is the one right after another.
    pub(crate) const fn follows(self, other: Self) -> bool {
        matches!(other.0.checked_add(1), Some(next) if next == self.0)
    }
}

/// Whether a spent budget refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Force {
    /// A call that could go beyond it is refused.
    Hard,
    /// It only warns.
    Soft,
}

/// One budget of a payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// Within which time.
    pub period: Period,
    /// How much, in the unit.
    pub amount: u64,
    /// Whether it refuses.
    pub force: Force,
    /// From which share on callers are warned, per cent.
    pub warn_percent: u8,
}

/// Most budgets of one payer: each unit in each period once.
pub const MAX_LIMITS: usize = 6;
/// From which share on callers are warned when nobody said it, per cent.
pub const USUAL_WARNING: u8 = 80;

/// That a budget's warning share has been passed: what a caller is told beside the answer. It names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Whose budget.
    pub payer: PayerKind,
    /// Of what.
    pub unit: Unit,
    /// Within which time.
    pub period: Period,
    /// How much of it is spent or reserved, per cent, rounded down.
    pub percent: u32,
    /// When it begins anew.
    pub turns: Moment,
}

const DAY_MILLIS: u64 = 86_400_000;

/// The month of a day, both counted from January 1970 (the days-to-civil algorithm of Howard Hinnant, in years from March).
fn month_of(day: u64) -> u32 {
    let day = day.saturating_add(DAYS_TO_1970);
    let era = day.checked_div(ERA_DAYS).unwrap_or(0);
    let of_era = day.checked_rem(ERA_DAYS).unwrap_or(0);
    let leaps = of_era
        .saturating_sub(of_era.div_euclid(1460))
        .saturating_add(of_era.div_euclid(36_524))
        .saturating_sub(of_era.div_euclid(146_096));
    let year = leaps.div_euclid(365);
    let of_year = of_era.saturating_sub(days_before(year));
    let march = of_year.saturating_mul(5).saturating_add(2).div_euclid(153);
    let months = era.saturating_mul(400).saturating_add(year).saturating_mul(12);
    let months = months.saturating_add(march).saturating_sub(MONTHS_TO_1970);
    u32::try_from(months).unwrap_or(u32::MAX)
}

/// The first day of a month: the other way round.
fn first_day_of(month: u32) -> u64 {
    let months = u64::from(month).saturating_add(MONTHS_TO_1970);
    let (years, march) = (months.div_euclid(12), months.rem_euclid(12));
    let (era, year) = (years.div_euclid(400), years.rem_euclid(400));
    let of_year = march.saturating_mul(153).saturating_add(2).div_euclid(5);
    let days = era.saturating_mul(ERA_DAYS).saturating_add(days_before(year));
    days.saturating_add(of_year).saturating_sub(DAYS_TO_1970)
}

/// Days of an era before a year of it.
fn days_before(year: u64) -> u64 {
    let days = year.saturating_mul(365).saturating_add(year.div_euclid(4));
    days.saturating_sub(year.div_euclid(100))
}

/// Days of four hundred years.
const ERA_DAYS: u64 = 146_097;
/// Days and months from March of the year 0 to January 1970.
const DAYS_TO_1970: u64 = 719_468;
const MONTHS_TO_1970: u64 = 1969 * 12 + 10;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{DAY_MILLIS, Period, Window};
    use crate::moment::Moment;

    fn at(day: u64) -> Moment {
        Moment::from_unix_millis(day * DAY_MILLIS)
    }

    #[test]
    fn months_turn_where_the_calendar_turns() {
        // date -d @… -u: 1970-01-01, 2000-02-29, 2026-11-27, 2026-11-30, 2026-12-01, 2027-01-01, 2100-03-01
        for (day, month) in [
            (0, 0),
            (11_016, 361),
            (20_784, 682),
            (20_787, 682),
            (20_788, 683),
            (20_819, 684),
            (47_541, 1562),
        ] {
            assert_eq!(Period::Month.window(at(day)), Window(month), "{day}");
        }
        assert_eq!(Period::Month.end(Window(682)), at(20_788));
        assert_eq!(Period::Month.end(Window(683)), at(20_819));
        assert_eq!(Period::Day.end(Window(20_784)), at(20_785));
    }

    proptest! {
        /// A moment lies before the end of its window and not before the end of the one before.
        #[test]
        fn windows_follow_one_another_without_a_gap(millis in 0..4_000_000_000_000_u64) {
            let now = Moment::from_unix_millis(millis);
            for period in Period::ALL {
                let window = period.window(now);
                prop_assert!(now < period.end(window));
                prop_assert!(window == Window(0) || period.end(Window(window.0 - 1)) <= now);
                prop_assert!(period.window(period.end(window)).follows(window));
            }
        }
    }
}
