//! The family of the caller's program: enough for people to know their own again, too little to tell two apart.

use http::HeaderMap;
use http::header::USER_AGENT;
use strongroom_protocol::person::Agent;

/// What each names itself, in the order in which they name each other.
const FAMILIES: [(&str, Agent); 9] = [
    ("Edg/", Agent::Edge),
    ("Firefox/", Agent::Firefox),
    ("FxiOS/", Agent::Firefox),
    ("Chrome/", Agent::Chrome),
    ("CriOS/", Agent::Chrome),
    ("Safari/", Agent::Safari),
    ("curl/", Agent::Tool),
    ("Wget/", Agent::Tool),
    ("python", Agent::Tool),
];

/// The family.
pub(super) fn agent(headers: &HeaderMap) -> Agent {
    let text = headers.get(USER_AGENT).and_then(|text| text.to_str().ok()).unwrap_or_default();
    let found = FAMILIES.iter().find(|(word, _)| text.contains(word));
    found.map_or(Agent::Other, |(_, agent)| *agent)
}
