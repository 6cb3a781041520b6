//! What a synchronous layer does without: the system, the time, chance, other threads, globals.

use super::walk::{Mark, Named, Seen};

/// What of `seen` a synchronous layer may not contain.
pub(super) fn banned(seen: &Seen) -> impl Iterator<Item = (usize, String)> {
    let paths = seen.paths.iter().filter_map(|named| {
        let reason = objection(named)?;
        Some((named.line, format!("`{}`: {reason}", named.segments.join("::"))))
    });
    let marks = seen.marks.iter().map(|(line, mark)| match mark {
        Mark::Async => (*line, "`async`: ports are submit and completion".to_owned()),
        Mark::Static => (*line, "`static`: there are no globals".to_owned()),
    });
    paths.chain(marks)
}

fn objection(named: &Named) -> Option<&'static str> {
    let segments: Vec<&str> = named.segments.iter().map(String::as_str).collect();
    if matches!(segments[..], ["std", "task", "Waker" | "Wake", ..]) {
        // Somebody to call when there is something to do: no task is needed for that.
        return None;
    }
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| {
        let prefix: Vec<&str> = prefix.split("::").collect();
        segments.starts_with(&prefix)
    });
    if let Some((_, reason)) = by_prefix {
        return Some(reason);
    }
    let by_name = NAMES.iter().find(|(name, _)| segments.contains(name));
    if let Some((_, reason)) = by_name {
        return Some(reason);
    }
    hashing(&segments, named.arguments)
}

/// A map whose hasher is not named draws its seed from the system.
fn hashing(segments: &[&str], arguments: Option<usize>) -> Option<&'static str> {
    let (last, before) = segments.split_last()?;
    if ["std", "*"].contains(&segments[0]) && *last == "*" && before.contains(&"collections") {
        return Some(SEEDED);
    }
    let with_hasher = |name: &str| match name {
        "HashMap" => Some(3),
        "HashSet" => Some(2),
        _ => None,
    };
    if let (Some(needed), Some(given)) = (with_hasher(last), arguments) {
        return (given < needed).then_some(SEEDED);
    }
    // `new` and `with_capacity` exist for the hasher of the system only.
    let map = before.last().copied().and_then(with_hasher);
    (map.is_some() && ["new", "with_capacity", "from"].contains(last)).then_some(SEEDED)
}

const SEEDED: &str = "its order depends on a seed of the system: name the hasher";
const SYSTEM: &str = "a synchronous layer does no input or output";
const TIME: &str = "time is an input";
const CHANCE: &str = "chance is an input";
const GLOBAL: &str = "there are no globals";
const THREADS: &str = "a synchronous layer knows no tasks and no threads";

const PREFIXES: [(&str, &str); 19] = [
    ("tokio", THREADS),
    ("tokio_util", THREADS),
    ("futures_util", THREADS),
    ("std::fs", SYSTEM),
    ("std::net", SYSTEM),
    ("std::os", SYSTEM),
    ("std::env", SYSTEM),
    ("std::process", SYSTEM),
    ("std::thread", THREADS),
    ("std::future", THREADS),
    ("std::task", THREADS),
    ("std::time::Instant", TIME),
    ("std::time::SystemTime", TIME),
    ("std::time::*", TIME),
    ("chrono", TIME),
    ("rustix", SYSTEM),
    ("socket2", SYSTEM),
    ("getrandom", CHANCE),
    ("std::collections::hash_map::RandomState", CHANCE),
];

/// Names that are banned wherever they stand in a path.
const NAMES: [(&str, &str); 9] = [
    ("Instant", TIME),
    ("SystemTime", TIME),
    ("UNIX_EPOCH", TIME),
    ("RandomState", CHANCE),
    ("DefaultHashBuilder", CHANCE),
    ("thread_rng", CHANCE),
    ("LazyLock", GLOBAL),
    ("thread_local", GLOBAL),
    ("lazy_static", GLOBAL),
];
