//! Topic Names and Topic Filters (chapter 4.7).

use super::{Outcome, Stage, ensure, scripts};

scripts! {
    both: [
        multi_level_wildcard_matches,
        single_level_wildcard_matches,
        wildcards_leave_dollar_topics_alone,
        dollar_topics_match_by_name,
        topics_are_not_normalized,
        empty_topic_name_ends_the_connection,
        empty_levels_are_levels,
    ],
    v4: [],
    v5: [],
}

/// Subscribes to the filter, publishes to all topics, expects exactly those that match.
fn matches(s: &Stage, filter: &str, topics: &[(&str, bool)]) -> Outcome {
    let mut client = s.client("a")?;
    client.subscribe(&s.topic(filter), 0)?;
    for (topic, _) in topics {
        client.publish(&s.topic(topic), topic, 0)?;
    }
    for (topic, _) in topics.iter().filter(|(_, is_match)| *is_match) {
        client.receive(&s.topic(topic), topic, 0)?;
    }
    client.quiet()
}

/// `#` matches the parent level, every level below, and stands last.
///
/// [v4:MQTT-4.7.1-2] [v4:MQTT-3.3.2-3] [v5:MQTT-4.7.1-1] [v5:MQTT-3.3.2-3]
fn multi_level_wildcard_matches(s: &Stage) -> Outcome {
    matches(
        s,
        "sport/#",
        &[
            ("sport", true),
            ("sport/", true),
            ("sport/a", true),
            ("sport/a/b/c", true),
            ("sports", false),
            ("spor", false),
            ("other/sport", false),
        ],
    )?;
    matches(s, "+/b/#", &[("a/b", true), ("x/b/c/d", true), ("a/c/b", false), ("a", false)])
}

/// `+` matches one level, also an empty one, at any place.
///
/// [v4:MQTT-4.7.1-3] [v4:MQTT-3.3.2-3] [v5:MQTT-4.7.1-2] [v5:MQTT-3.3.2-3]
fn single_level_wildcard_matches(s: &Stage) -> Outcome {
    matches(
        s,
        "a/+",
        &[("a/b", true), ("a/", true), ("a", false), ("a/b/c", false), ("b/a", false)],
    )?;
    matches(s, "+/x/+", &[("a/x/b", true), ("/x/", true), ("x/a/b", false), ("a/x", false)])?;
    matches(s, "+", &[("a", true), ("b/", false)])
}

/// `#` and `+/...` see nothing of `$SYS` or of any other topic that begins with `$`.
///
/// [v4:MQTT-4.7.2-1] [v5:MQTT-4.7.2-1]
fn wildcards_leave_dollar_topics_alone(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let (dollar, last) = (format!("${}", s.unique), s.unique.clone());
    for filter in ["#", "+/#", &format!("+/{last}"), "+/broker/#", "+/+/clients/#"] {
        client.subscribe(filter, 0)?;
    }
    let mut publisher = s.client("publisher")?;
    publisher.send(&s.message(format!("{dollar}/{last}"), "x").bytes());
    publisher.send(&s.message(&dollar, "x").bytes());
    publisher.publish(&s.topic("plain"), "barrier", 0)?;
    loop {
        let message = client.message()?;
        ensure!(!message.topic.starts_with(b"$"), "a wildcard matched {}", message.shown());
        client.settle(&message)?;
        if message.topic == s.topic("plain").as_bytes() {
            return Ok(());
        }
    }
}

/// A filter that says `$SYS` gets it; a `$` further on is nothing special.
///
/// [v4:MQTT-4.7.2-1] [v5:MQTT-4.7.2-1]
fn dollar_topics_match_by_name(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.subscribe("$SYS/#", 0)?;
    client.unsubscribe(&["$SYS/#"])?;
    let mut client = s.client("b")?;
    client.subscribe(&s.topic("+/#"), 0)?;
    client.publish(&s.topic("$x/y"), "x", 0)?;
    client.receive(&s.topic("$x/y"), "x", 0).map(drop)
}

/// Case, empty levels, spaces, composed and decomposed letters: all are told apart.
///
/// [v4:MQTT-4.7.3-4] [v5:MQTT-4.7.3-4]
fn topics_are_not_normalized(s: &Stage) -> Outcome {
    let names = [
        "a/b",
        "A/b",
        "a//b",
        "a/b/",
        " a/b",
        "a/b ",
        "a/./b",
        "a%2Fb",
        "\u{E9}",
        "e\u{301}",
        "\u{FFFD}",
        "\u{1F600}",
        "a\u{200D}b",
    ];
    for wanted in names {
        let mut client = s.client("a")?;
        client.subscribe(&s.topic(wanted), 0)?;
        for name in names {
            client.publish(&s.topic(name), name, 0)?;
        }
        client.receive(&s.topic(wanted), wanted, 0)?;
        client.quiet()?;
    }
    Ok(())
}

/// [v4:MQTT-4.7.3-1] [v5:MQTT-4.7.3-1]
fn empty_topic_name_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message("", "x").bytes(), &[0x80, 0x81, 0x82, 0x90])?;
    s.rejects(&s.message("", "x").qos(1, 1).bytes(), &[0x80, 0x81, 0x82, 0x90]).map(drop)
}

/// A leading, trailing or doubled `/` makes a level of its own.
///
/// [v4:MQTT-4.7.3-4] [v4:MQTT-4.7.1-3] [v5:MQTT-4.7.3-4] [v5:MQTT-4.7.1-2]
fn empty_levels_are_levels(s: &Stage) -> Outcome {
    matches(s, "+/+", &[("a/b", true), ("/b", true), ("a/", true), ("a", false), ("a//b", false)])?;
    matches(s, "a/+/b", &[("a//b", true), ("a/x/b", true), ("a/b", false)])?;
    let mut client = s.client("slash")?;
    client.subscribe(&format!("/{}", s.topic("t")), 0)?;
    client.publish(&s.topic("t"), "no", 0)?;
    client.publish(&format!("/{}", s.topic("t")), "yes", 0)?;
    client.receive(&format!("/{}", s.topic("t")), "yes", 0).map(drop)
}
