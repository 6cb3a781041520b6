//! What a publisher's acknowledgement waits for.

use super::{
    option::options,
    value::{Scalar as _, Shape, Value, choices, quoted},
};
use crate::mqtt::TopicFilter;

options! {
    /// What has to have happened to a message of QoS 1 or 2 before its publisher is told that it was
    /// taken (PUBACK, PUBREC): `accepted`, this broker has it; `enqueued`, it is in the queue of
    /// everybody who wants it, on other brokers as well; `durable`, and it is stored where a queue is
    /// stored. The first filter of `acknowledge_topics` that matches holds, on every listener; where
    /// none matches, what the listener says; where that says nothing, `acknowledge`. Acknowledgements
    /// of one client keep their order, so that one which need not wait waits for those before it. What
    /// each level promises: `docs/design/0016-levels-of-acknowledgement.md`.
    #[heading = "Acknowledgements"]
    pub struct Acknowledge {
        /// What acknowledgements wait for: `accepted`, `enqueued` or `durable`. A `[[listener]]` may
        /// say otherwise.
        acknowledge: AcknowledgeLevel as "WHEN" = AcknowledgeLevel::Durable,
        /// Topics that have a level of their own, each as `filter=level`, such as
        /// `telemetry/#=accepted`; may be repeated. The first filter that matches a topic holds, so
        /// that what is special stands before what is general.
        acknowledge_topics: Vec<TopicAcknowledge> as "FILTER=WHEN" = Vec::new(),
    }
}

choices! {
    /// What an acknowledgement waits for.
    pub enum AcknowledgeLevel {
        /// That this broker has the message.
        Accepted = "accepted",
        /// That it is in all queues.
        Enqueued = "enqueued",
        /// That it is stored where a queue is stored.
        Durable = "durable",
    }
    expected "accepted, enqueued, durable"
}

/// Topics and the level of their messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicAcknowledge {
    /// Which topics.
    pub filter: TopicFilter,
    /// What their acknowledgements wait for.
    pub level: AcknowledgeLevel,
}

impl TopicAcknowledge {
    /// A filter may hold a `=`, a level does not.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a topic filter that begins without $, a =, a level");
        let (filter, level) = text.rsplit_once('=').ok_or_else(wrong)?;
        let filter = TopicFilter::parse(filter.trim()).ok();
        let filter = filter.filter(|filter| !filter.as_str().starts_with('$')).ok_or_else(wrong)?;
        let level = AcknowledgeLevel::parse(level.trim())
            .ok_or_else(|| format!("`{}` is not {}", level.trim(), AcknowledgeLevel::EXPECTED))?;
        Ok(Self { filter, level })
    }
}

impl Value for Vec<TopicAcknowledge> {
    const SHAPE: Shape = Shape::Many;

    fn read(texts: &[String]) -> Result<Self, String> {
        let mut rules: Self = Vec::with_capacity(texts.len());
        for text in texts {
            let rule = TopicAcknowledge::parse(text)?;
            if rules.iter().any(|earlier| earlier.filter == rule.filter) {
                return Err(format!("`{}` stands there twice", rule.filter.as_str()));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn show(&self) -> Option<String> {
        let one =
            |rule: &TopicAcknowledge| quoted(&format!("{}={}", rule.filter.as_str(), rule.level));
        Some(format!("[{}]", self.iter().map(one).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<TopicAcknowledge>, String> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        <Vec<TopicAcknowledge> as Value>::read(&texts)
    }

    #[test]
    fn filters_and_levels_are_read_and_shown() {
        let rules = read(&["a=b/#=accepted", "+/c = durable"]).unwrap();
        assert_eq!(rules.show().as_deref(), Some(r#"["a=b/#=accepted", "+/c=durable"]"#));
        assert_eq!(rules[0].level, AcknowledgeLevel::Accepted);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in ["a/#", "=durable", "a/#/b=durable", "$SYS/#=accepted"] {
            let refusal = read(&["x=durable", wrong]).unwrap_err();
            assert!(refusal.starts_with(&format!("`{wrong}` is not a topic filter")), "{refusal}");
        }
        assert_eq!(
            read(&["a=stored"]).unwrap_err(),
            "`stored` is not one of accepted, enqueued, durable"
        );
        assert_eq!(read(&["a=durable", "a=accepted"]).unwrap_err(), "`a` stands there twice");
    }
}
