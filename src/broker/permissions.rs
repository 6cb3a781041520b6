//! What an [`Authorizer`] last said of a client's publishes. A publisher writes to few topics, so
//! few answers spare it nearly every question.

use crate::ports::auth::{Authorizer, Identity};

/// The last few answers; nothing until the first question.
#[derive(Debug, Default)]
pub struct Permissions(Option<Box<Verdicts>>);

#[derive(Debug, Default)]
struct Verdicts {
    /// The authorizer's, when they were given; with another they are void.
    generation: u64,
    /// At most [`TOPICS_MAX`], none longer than [`TOPIC_BYTES_MAX`].
    entries: Vec<(Box<str>, bool)>,
    /// The one that gives way next.
    oldest: usize,
}

impl Permissions {
    /// Whether `who` may publish to `topic`. All questions must be about the same `who`.
    #[inline]
    pub fn may_publish(
        &mut self,
        authorizer: &dyn Authorizer,
        who: &Identity,
        topic: &str,
    ) -> bool {
        // Before the question: an answer may be newer than its number, never older.
        let generation = authorizer.generation();
        if let Some(verdicts) = &self.0
            && verdicts.generation == generation
            && let Some((_, verdict)) = verdicts.entries.iter().find(|(known, _)| **known == *topic)
        {
            return *verdict;
        }
        let verdict = authorizer.may_publish(who, topic);
        if topic.len() <= TOPIC_BYTES_MAX {
            self.0.get_or_insert_with(Box::default).keep(generation, topic, verdict);
        }
        verdict
    }
}

impl Verdicts {
    fn keep(&mut self, generation: u64, topic: &str, verdict: bool) {
        if self.generation != generation {
            (self.generation, self.oldest) = (generation, 0);
            self.entries.clear();
        }
        let entry = (Box::from(topic), verdict);
        if self.entries.len() < TOPICS_MAX {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.get_mut(self.oldest) {
            *oldest = entry;
            self.oldest = (self.oldest + 1) % TOPICS_MAX;
        }
    }
}

const TOPICS_MAX: usize = 8;
/// Longer topics are asked about every time.
const TOPIC_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Says no to topics that end in `!`, and counts what it is asked.
    #[derive(Default)]
    struct Clerk(Mutex<(u64, usize)>);

    impl Authorizer for Clerk {
        fn may_publish(&self, _: &Identity, topic: &str) -> bool {
            self.0.lock().1 += 1;
            !topic.ends_with('!')
        }

        fn may_subscribe(&self, _: &Identity, _: &str) -> bool {
            false
        }

        fn generation(&self) -> u64 {
            self.0.lock().0
        }
    }

    /// Asks about every topic and returns how many questions reached the clerk.
    fn questions(clerk: &Clerk, permissions: &mut Permissions, topics: &[String]) -> usize {
        let who = Identity { client_id: Arc::from("c"), user_name: None, anonymous: true };
        let before = clerk.0.lock().1;
        for topic in topics {
            assert_eq!(permissions.may_publish(clerk, &who, topic), !topic.ends_with('!'));
        }
        clerk.0.lock().1 - before
    }

    fn topics(count: usize) -> Vec<String> {
        (0..count).flat_map(|number| [number.to_string(), format!("{number}!")]).collect()
    }

    #[test]
    fn an_answer_is_kept_until_the_generation_changes() {
        let (clerk, mut permissions) = (Clerk::default(), Permissions::default());
        let topics = topics(TOPICS_MAX / 2);
        assert_eq!(questions(&clerk, &mut permissions, &topics), TOPICS_MAX);
        assert_eq!(questions(&clerk, &mut permissions, &topics), 0);
        clerk.0.lock().0 += 1;
        assert_eq!(questions(&clerk, &mut permissions, &topics), TOPICS_MAX);
        assert_eq!(questions(&clerk, &mut permissions, &topics), 0);
    }

    #[test]
    fn only_so_many_answers_and_no_long_ones_are_kept() {
        let (clerk, mut permissions) = (Clerk::default(), Permissions::default());
        assert_eq!(questions(&clerk, &mut permissions, &topics(1_000)), 2_000);
        assert_eq!(permissions.0.as_ref().unwrap().entries.len(), TOPICS_MAX);
        assert_eq!(questions(&clerk, &mut permissions, &topics(1_000)[2_000 - TOPICS_MAX..]), 0);
        let long = ["x".repeat(TOPIC_BYTES_MAX + 1)];
        assert_eq!(questions(&clerk, &mut permissions, &long), 1);
        assert_eq!(questions(&clerk, &mut permissions, &long), 1);
    }
}
