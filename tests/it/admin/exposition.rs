//! A strict reader of `OpenMetrics` text: every line has its place.

use std::collections::{BTreeMap, BTreeSet};

/// What was read: a value for each name and its labels.
pub(super) struct Metrics(BTreeMap<(String, String), i64>);

impl Metrics {
    /// The value of a sample.
    pub(super) fn value(&self, name: &str, labels: &str) -> i64 {
        let found = self.0.get(&(name.to_owned(), labels.to_owned()));
        *found.unwrap_or_else(|| panic!("there is no {name}{{{labels}}}"))
    }
}

struct Family {
    name: String,
    kind: String,
    unit: Option<String>,
}

/// Reads all of it, or fails on the first line that is out of place.
pub(super) fn parse(text: &str) -> Metrics {
    let body = text.strip_suffix("# EOF\n").expect("it ends with EOF");
    let mut samples = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut family: Option<Family> = None;
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name and a text");
            assert!(help.ends_with('.') && help.len() > 3, "{line}: a sentence");
            assert!(known.insert(name.to_owned()), "{name} is described twice");
            check_name(name);
            family = Some(Family { name: name.to_owned(), kind: String::new(), unit: None });
            continue;
        }
        let family = family.as_mut().unwrap_or_else(|| panic!("{line}: HELP comes first"));
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family.name, "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            kind.clone_into(&mut family.kind);
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').unwrap();
            assert!(name == family.name && name.ends_with(&format!("_{unit}")), "{line}");
            family.unit = Some(unit.to_owned());
        } else {
            let (name, labels, value) = sample(line);
            let suffix = if family.kind == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{}{suffix}", family.name), "{line}");
            let earlier = samples.insert((name, labels), value);
            assert_eq!(earlier, None, "{line}: it is there twice");
            let has_unit = ["_bytes", "_seconds"].iter().any(|end| family.name.ends_with(end));
            assert_eq!(family.unit.is_some(), has_unit, "{line}");
        }
    }
    Metrics(samples)
}

fn sample(line: &str) -> (String, String, i64) {
    let (left, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}: no value"));
    let value = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
    let (name, labels) = match left.split_once('{') {
        Some((name, labels)) => {
            assert_ne!(labels, "}", "{line}: no label in braces");
            (name, labels.strip_suffix('}').expect("labels end"))
        }
        None => (left, ""),
    };
    if !labels.is_empty() {
        let (label, text) = labels.split_once("=\"").expect("a label");
        assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
        assert!(text.ends_with('"'), "{line}");
    }
    (name.to_owned(), labels.to_owned(), value)
}

fn check_name(name: &str) {
    assert!(name.starts_with("mqttzoo_"), "{name}");
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    assert!(name.bytes().all(is_fine), "{name}");
    for unclear in ["_millis", "_secs", "_kib", "_mb"] {
        assert!(!name.contains(unclear), "{name}: seconds and bytes are the units");
    }
}
