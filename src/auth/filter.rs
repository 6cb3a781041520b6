//! How topic filters relate, which access rules are judged by.

/// Whether `filter` is a topic filter [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1].
pub(super) fn is_valid(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut is_well_placed = !filter.is_empty() && !filter.contains('\0');
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        is_well_placed &= match level {
            "+" => true,
            "#" => is_last,
            _ => !level.contains(['+', '#']),
        };
    }
    is_well_placed
}

/// Whether every topic that `inner` matches is matched by `outer`. A topic name counts as the
/// filter that matches it alone.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    if is_wild_beside_dollar(outer, inner) {
        return false;
    }
    // A topic has at least one level, so these two are the same.
    let outer = if outer == "+/#" { "#" } else { outer };
    let mut inner = inner.split('/');
    for outer in outer.split('/') {
        match (outer, inner.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (outer, Some(inner)) if outer == inner => {}
            (_, Some(_)) => return false,
        }
    }
    inner.next().is_none()
}

/// Whether there is a topic that both filters match.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    if is_wild_beside_dollar(one, other) || is_wild_beside_dollar(other, one) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(_), _) | (None, Some(_)) => return false,
        }
    }
}

/// Whether `one` opens with a wildcard, which matches no topic that opens with `$`, and `other` is
/// about those alone [MQTT-4.7.2-1].
fn is_wild_beside_dollar(one: &str, other: &str) -> bool {
    one.starts_with(['+', '#']) && other.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the standard, level by level.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
            ([level, filter @ ..], [same, topic @ ..]) => level == same && matches(filter, topic),
            _ => false,
        }
    }

    fn matches_text(filter: &str, topic: &str) -> bool {
        let (filter, topic): (Vec<_>, Vec<_>) =
            (filter.split('/').collect(), topic.split('/').collect());
        let is_hidden = topic[0].starts_with('$') && ["+", "#"].contains(&filter[0]);
        !is_hidden && matches(&filter, &topic)
    }

    /// Every sequence of up to `depth` of these levels.
    fn sequences(levels: &[&str], depth: usize) -> Vec<String> {
        let mut all: Vec<String> = levels.iter().map(|&level| level.to_owned()).collect();
        let mut longest = all.clone();
        for _ in 1..depth {
            longest = longest
                .iter()
                .flat_map(|front| levels.iter().map(move |level| format!("{front}/{level}")))
                .collect();
            all.extend_from_slice(&longest);
        }
        all
    }

    #[test]
    fn relations_are_those_of_the_topics_matched() {
        let filters: Vec<_> = sequences(&["a", "$b", "+", "#"], 3)
            .into_iter()
            .filter(|filter| is_valid(filter))
            .collect();
        // One level deeper than the filters, and with a level that none of them names.
        let topics = sequences(&["a", "$b", "$c", ""], 4);
        assert!(filters.len() > 40 && topics.len() > 300);
        let matched = |filter: &String| -> Vec<bool> {
            topics.iter().map(|topic| matches_text(filter, topic)).collect()
        };
        let filters: Vec<_> = filters.iter().map(|filter| (filter, matched(filter))).collect();
        for (one, by_one) in &filters {
            for (other, by_other) in &filters {
                let mut pairs = by_one.iter().zip(by_other);
                let is_shared = pairs.clone().any(|(one, other)| *one && *other);
                assert_eq!(overlap(one, other), is_shared, "{one} and {other} overlap");
                let is_within = pairs.all(|(one, other)| !one || *other);
                assert_eq!(covers(other, one), is_within, "{other} covers {one}");
            }
            for (topic, is_matched) in topics.iter().zip(by_one) {
                assert_eq!(covers(one, topic), *is_matched, "{one} matches {topic}");
            }
        }
    }

    #[test]
    fn wildcards_stand_alone_in_their_level() {
        for filter in ["a", "+", "#", "a/+/b", "a/#", "/", "+/#"] {
            assert!(is_valid(filter), "{filter}");
        }
        for filter in ["", "a+", "#/a", "a/#/b", "a#", "a/b+/c", "a\0"] {
            assert!(!is_valid(filter), "{filter}");
        }
    }
}
