//! Which frame may come when: the state table of a lane.
//!
//! Invariant: what is not in the table closes the lane.

use strongroom_protocol::call::FrameKind;

/// Where the gateway's side of an exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between exchanges.
    Idle,
    /// The head came; the body is coming.
    Sending,
    /// The body is complete; the answer is awaited.
    Sent,
}

/// What a frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Begins an exchange.
    Begin,
    /// Adds to the body.
    Take,
    /// Ends the body.
    Complete,
    /// Ends the exchange.
    Stop,
    /// Nothing: a cancel that crossed with our own terminal frame.
    Crossed,
}

/// What `kind` does in `phase`, and the phase after it.
///
/// `Cancel` may follow `BodyEnd`: the caller can leave while the answer comes. It may then arrive after our terminal frame,
/// but always before the next `Head`, so that it can be told from a cancel of the next exchange.
pub(super) const fn act(phase: Phase, kind: FrameKind) -> Option<(Act, Phase)> {
    match (phase, kind) {
        (Phase::Idle, FrameKind::Head) => Some((Act::Begin, Phase::Sending)),
        (Phase::Idle, FrameKind::Cancel) => Some((Act::Crossed, Phase::Idle)),
        (Phase::Sending, FrameKind::Body) => Some((Act::Take, Phase::Sending)),
        (Phase::Sending, FrameKind::BodyEnd) => Some((Act::Complete, Phase::Sent)),
        (Phase::Sending | Phase::Sent, FrameKind::Cancel) => Some((Act::Stop, Phase::Idle)),
        (Phase::Idle, FrameKind::Body | FrameKind::BodyEnd)
        | (Phase::Sending, FrameKind::Head)
        | (Phase::Sent, FrameKind::Head | FrameKind::Body | FrameKind::BodyEnd)
        // The courier's own frames.
        | (_, FrameKind::Answer | FrameKind::Chunk | FrameKind::End | FrameKind::Abort) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, FrameKind, Phase, act};

    #[test]
    fn the_table_is_the_golden_one() {
        let gateway = [FrameKind::Head, FrameKind::Body, FrameKind::BodyEnd, FrameKind::Cancel];
        let row = |phase| gateway.map(|kind| act(phase, kind).map(|(act, _)| act));
        let none = None;
        assert_eq!(row(Phase::Idle), [Some(Act::Begin), none, none, Some(Act::Crossed)]);
        let sending = [none, Some(Act::Take), Some(Act::Complete), Some(Act::Stop)];
        assert_eq!(row(Phase::Sending), sending);
        assert_eq!(row(Phase::Sent), [none, none, none, Some(Act::Stop)]);
        for kind in [FrameKind::Answer, FrameKind::Chunk, FrameKind::End, FrameKind::Abort] {
            for phase in [Phase::Idle, Phase::Sending, Phase::Sent] {
                assert_eq!(act(phase, kind), None);
            }
        }
    }
}
