//! Topic Aliases of one connection, in both directions. They never outlive it [MQTT-3.3.2-7].

use std::num::NonZeroU16;

use hashbrown::HashMap;

use crate::mqtt::TopicName;

/// Aliases the client has set for the topics it publishes to.
#[derive(Debug, Default)]
pub struct InboundAliases {
    topics: Vec<Option<TopicName>>,
    /// Of all of them together.
    bytes: usize,
}

/// A Topic Alias that is out of range or was never set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AliasError {
    /// Above the Topic Alias Maximum we announced [MQTT-3.3.2-9].
    #[error("topic alias {alias} is above the maximum of {maximum}")]
    TooHigh {
        /// What the client sent.
        alias: u16,
        /// What we announced.
        maximum: u16,
    },
    /// Used without a topic before it was set.
    #[error("topic alias {0} was never set on this connection")]
    Unknown(u16),
    /// The topics that have aliases would be longer than what we keep of them.
    #[error("the topics of this connection that have an alias are longer than {0} bytes together")]
    TooLong(usize),
}

impl InboundAliases {
    /// Whether none was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Remembers what `alias` stands for from now on.
    ///
    /// # Errors
    ///
    /// It is above `maximum`, or there is no room for a topic that long.
    pub fn set(
        &mut self,
        alias: NonZeroU16,
        maximum: u16,
        topic: &TopicName,
    ) -> Result<(), AliasError> {
        if alias.get() > maximum {
            return Err(AliasError::TooHigh { alias: alias.get(), maximum });
        }
        let place = usize::from(alias.get()) - 1;
        if self.topics.len() <= place {
            self.topics.resize(place + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(place) {
            let former = slot.as_ref().map_or(0, |topic| topic.as_str().len());
            let bytes = self.bytes - former + topic.as_str().len();
            if bytes > INBOUND_BYTES_MAX {
                return Err(AliasError::TooLong(INBOUND_BYTES_MAX));
            }
            self.bytes = bytes;
            *slot = Some(topic.detached());
        }
        Ok(())
    }

    /// What `alias` stands for.
    ///
    /// # Errors
    ///
    /// It is above `maximum`, or was never set.
    pub fn topic(&self, alias: NonZeroU16, maximum: u16) -> Result<&TopicName, AliasError> {
        if alias.get() > maximum {
            return Err(AliasError::TooHigh { alias: alias.get(), maximum });
        }
        let known = self.topics.get(usize::from(alias.get()) - 1).and_then(Option::as_ref);
        known.ok_or(AliasError::Unknown(alias.get()))
    }
}

/// Aliases we have set for the topics the client receives.
///
/// An alias costs three bytes whenever it is sent and saves the topic every time but the first, so
/// it is given to a topic that comes a second time and is long enough; when all are given they stay
/// as they are.
#[derive(Debug)]
pub struct OutboundAliases {
    maximum: u16,
    given: HashMap<TopicName, NonZeroU16, foldhash::fast::FixedState>,
    seen_once: [u64; SEEN_SLOTS],
}

/// How the topic of one PUBLISH goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopicForm {
    /// The whole topic, no alias.
    Whole,
    /// The whole topic, and the alias it has from now on.
    Introduce(NonZeroU16),
    /// The alias alone.
    Alias(NonZeroU16),
}

impl OutboundAliases {
    /// Aliases for a client whose Topic Alias Maximum is `maximum` [MQTT-3.3.2-11]; `None` when it
    /// takes none [MQTT-3.1.2-27].
    #[must_use]
    pub fn new(maximum: u16) -> Option<Box<Self>> {
        (maximum > 0).then(|| {
            Box::new(Self {
                maximum: maximum.min(GIVEN_MAX),
                given: HashMap::with_hasher(foldhash::fast::FixedState::default()),
                seen_once: [0; SEEN_SLOTS],
            })
        })
    }

    /// Decides the form for `topic` and remembers it as sent.
    pub fn form(&mut self, topic: &TopicName) -> TopicForm {
        if topic.as_str().len() < WORTH_BYTES {
            return TopicForm::Whole;
        }
        if let Some(alias) = self.given.get(topic) {
            return TopicForm::Alias(*alias);
        }
        if self.given.len() >= usize::from(self.maximum) || self.is_first_sight(topic) {
            return TopicForm::Whole;
        }
        let next = u16::try_from(self.given.len() + 1).ok().and_then(NonZeroU16::new);
        let Some(alias) = next else { return TopicForm::Whole };
        self.given.insert(topic.detached(), alias);
        TopicForm::Introduce(alias)
    }

    fn is_first_sight(&mut self, topic: &TopicName) -> bool {
        use std::hash::BuildHasher as _;
        let hash = self.given.hasher().hash_one(topic.as_str().as_bytes()) | 1;
        let place = usize::try_from(hash >> 32).unwrap_or(0) % SEEN_SLOTS;
        let Some(slot) = self.seen_once.get_mut(place) else { return true };
        std::mem::replace(slot, hash) != hash
    }
}

/// Bytes of the topics for which a client may have set aliases: at least one of any length.
const INBOUND_BYTES_MAX: usize = 64 * 1_024;
/// Aliases we give at most, whatever the client would take.
const GIVEN_MAX: u16 = 64;
/// Topics we remember as seen once.
const SEEN_SLOTS: usize = 64;
/// Shorter topics gain too little.
const WORTH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text.to_owned().into()).unwrap()
    }

    fn alias(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn an_alias_is_given_at_second_sight_and_used_from_then_on() {
        let mut aliases = OutboundAliases::new(1).unwrap();
        let long = topic("building/floor/room");
        assert_eq!(aliases.form(&long), TopicForm::Whole);
        assert_eq!(aliases.form(&long), TopicForm::Introduce(alias(1)));
        assert_eq!(aliases.form(&long), TopicForm::Alias(alias(1)));
        let other = topic("building/floor/other");
        assert_eq!(aliases.form(&other), TopicForm::Whole);
        assert_eq!(aliases.form(&other), TopicForm::Whole, "the only alias is taken");
        assert_eq!(aliases.form(&topic("short")), TopicForm::Whole);
        assert!(OutboundAliases::new(0).is_none());
    }

    #[test]
    fn inbound_aliases_are_replaced_and_bounded() {
        let mut aliases = InboundAliases::default();
        assert_eq!(aliases.topic(alias(2), 2), Err(AliasError::Unknown(2)));
        aliases.set(alias(2), 2, &topic("a")).unwrap();
        aliases.set(alias(2), 2, &topic("b")).unwrap();
        assert_eq!(aliases.topic(alias(2), 2).unwrap(), &topic("b"));
        assert_eq!(
            aliases.set(alias(3), 2, &topic("c")),
            Err(AliasError::TooHigh { alias: 3, maximum: 2 })
        );
    }

    #[test]
    fn inbound_aliases_have_their_bytes_and_what_is_replaced_counts_no_longer() {
        let mut aliases = InboundAliases::default();
        let [long, half] = [65_535, 32_768].map(|len| topic(&"x".repeat(len)));
        aliases.set(alias(1), 9, &long).unwrap();
        let too_long = Err(AliasError::TooLong(INBOUND_BYTES_MAX));
        assert_eq!(aliases.set(alias(2), 9, &half), too_long);
        assert_eq!(aliases.topic(alias(2), 9), Err(AliasError::Unknown(2)));
        aliases.set(alias(1), 9, &half).unwrap();
        aliases.set(alias(2), 9, &half).unwrap();
        assert_eq!(aliases.set(alias(3), 9, &topic("x")), too_long);
    }
}
