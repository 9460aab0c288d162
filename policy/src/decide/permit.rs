//! What a permit carries, to be read.

use std::sync::Arc;

use super::Permit;
use crate::claims::{Claims, Length};
use crate::destination::Destination;
use crate::dialect::Dialect;
use crate::id::{CredentialId, TenantId, TokenId, UserId};
use crate::name::{BetaName, ProviderName};
use crate::provider::Origin;
use crate::route::{BodyKind, Method, PathClass};
use crate::rules::CallFacts;
use crate::target::Target;

impl Permit {
    /// The tenant it was given in.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }
    /// The person it was given to.
    pub const fn user(&self) -> UserId {
        self.user
    }
    /// The token that was presented.
    pub const fn token(&self) -> TokenId {
        self.token
    }
    /// The credential that was judged.
    pub const fn credential(&self) -> CredentialId {
        self.credential
    }
    /// The provider's name.
    pub const fn provider(&self) -> &ProviderName {
        &self.provider
    }
    /// Whose courier makes the call.
    pub const fn origin(&self) -> Origin {
        self.origin
    }
    /// The dialect of the route.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }
    /// Where the credential may be sent.
    pub const fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }
    /// The method that was judged.
    pub const fn method(&self) -> Method {
        self.method
    }
    /// The target that was judged.
    pub const fn target(&self) -> &Target {
        &self.target
    }
    /// What kind of body was judged.
    pub const fn body(&self) -> BodyKind {
        self.facts.body
    }
    /// What the path reaches.
    pub const fn class(&self) -> PathClass {
        self.facts.class
    }
    /// What it is judged again by while it is under way.
    pub const fn facts(&self) -> &CallFacts {
        &self.facts
    }
    /// The beta values that were judged.
    pub fn betas(&self) -> &[BetaName] {
        &self.betas
    }
    /// The claims that were judged.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }
    /// The length that was claimed.
    pub const fn length(&self) -> Length {
        self.length
    }
    /// The rule that allowed it.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}
