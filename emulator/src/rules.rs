//! The platform's rules, each by a name, so that the tests can take one away and see that somebody notices.
//!
//! Nothing but a test can: [`Rules::without`] is compiled into tests alone, and there is no configuration for it.

/// Makes the rules, and for the tests the list of them.
macro_rules! rules {
    ($($(#[$meaning:meta])* $rule:ident,)*) => {
        /// A rule that the emulator keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Rule {
            $($(#[$meaning])* $rule,)*
        }

        impl Rule {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$rule,)*];
        }
    };
}

rules! {
    /// SASL must succeed in time.
    AuthDeadline,
    /// A link must follow in time.
    LinkDeadline,
    /// An Open needs an idle-time-out within bounds.
    IdleRange,
    /// A client that is silent for its idle-time-out is closed.
    IdleKept,
    /// One receiver link a connection.
    OneReceiver,
    /// No sender link.
    NoSender,
    /// So many clients a group.
    ClientsPerGroup,
    /// So many attempts to connect a minute and group.
    AttemptsPerMinute,
    /// So many real-time messages a second and connection.
    RealTimeRate,
    /// So many backlog messages a second and group.
    BacklogRate,
    /// What is new goes before what waits in the backlog.
    RealTimeFirst,
    /// A delivery must be answered for in time.
    AckTimeout,
    /// What failed waits before it is tried again.
    RetryAfter,
    /// What was on a link that is lost waits as well.
    RetryAfterLinkLoss,
    /// A real-time message waits for somebody to take it, for so long.
    RealTimeWait,
    /// The backlog keeps a message for so long.
    Retention,
    /// The backlog holds so many messages.
    BacklogCapacity,
    /// A payload is no larger than this.
    MaxPayload,
    /// Dispatch is uneven for some time after a change of membership.
    Uneven,
    /// A password must be the signature.
    SaslSignature,
    /// A key must be enabled and may need a permission.
    KeyPermission,
    /// A key must be of the instance's account.
    KeyAccount,
    /// A temporary key ends.
    TokenLife,
    /// A call of the OpenAPI must be signed.
    ApiSignature,
    /// Its timestamp must be of now.
    ApiTimestamp,
    /// Its nonce must be new.
    ApiNonce,
    /// So many calls a second and account.
    ApiRate,
    /// So many calls of STS a second and account.
    StsRate,
    /// The token of an identity provider must be signed by it.
    OidcSignature,
    /// A product has so many groups.
    GroupsPerProduct,
    /// A group has so many products.
    ProductsPerGroup,
    /// An account has so many groups.
    GroupsPerAccount,
    /// A frame is no larger than announced.
    MaxFrame,
    /// A frame nests no deeper than this.
    FrameDepth,
    /// Whoever does not read is not read from.
    OutBound,
}

/// Which rules are kept: all, but in a test that takes one away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    broken: Option<Rule>,
}

impl Rules {
    /// Whether this one is kept.
    pub(crate) fn keeps(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// All but one.
    #[cfg(test)]
    pub(crate) fn without(rule: Rule) -> Self {
        Self { broken: Some(rule) }
    }
}
