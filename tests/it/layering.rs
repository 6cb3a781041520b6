//! Who may know whom: the layers of the crate, read from its source files.
//!
//! The table below is the one of `ARCHITECTURE.md`. Whoever adds a module adds it here. A file is
//! parsed, not searched, so that comments and texts do not count, and every way to name another
//! module does: `use` in groups, `super::`, `crate::`, the crate's own name, paths in expressions,
//! and paths in the arguments of macros. What stands under `#[cfg(test)]` may do as it likes.

mod ban;
mod planted;
mod source;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use source::SourceFile;

/// Where a module stands, and what it may know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    /// The module, directly under the root of the crate.
    module: &'static str,
    /// Arrows point from a greater height to a lesser one.
    height: u8,
    /// Whom else the module may know at its own height.
    neighbours: Neighbours,
    /// Whether it may know the time, the system, or another thread.
    purity: Purity,
}

/// Whether modules of one height may know each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Neighbours {
    /// They may, as long as there is no circle.
    Known,
    /// They may not.
    Unknown,
    /// They may not, and nothing lies below but `mqtt`.
    OnlyMqttBelow,
}

/// Whether a module only computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purity {
    /// Time and events come in as inputs, things to do come out as outputs.
    Synchronous,
    /// It may use the system.
    Free,
}

const fn at(module: &'static str, height: u8, neighbours: Neighbours, purity: Purity) -> Place {
    Place { module, height, neighbours, purity }
}

/// The layers, highest first. The programs in `src/bin` stand above all of them.
const PLACES: [Place; 22] = [
    at("node", 6, Neighbours::Unknown, Purity::Free),
    at("config", 5, Neighbours::Unknown, Purity::Free),
    at("net", 5, Neighbours::Unknown, Purity::Free),
    at("gateway", 5, Neighbours::Unknown, Purity::Free),
    at("store", 5, Neighbours::Unknown, Purity::Free),
    at("coordination", 5, Neighbours::Unknown, Purity::Free),
    at("activity", 5, Neighbours::Unknown, Purity::Free),
    at("auth", 5, Neighbours::Unknown, Purity::Free),
    at("peer", 5, Neighbours::Unknown, Purity::Free),
    at("admin", 5, Neighbours::Unknown, Purity::Free),
    at("client", 5, Neighbours::OnlyMqttBelow, Purity::Free),
    at("sim", 4, Neighbours::Unknown, Purity::Synchronous),
    at("runtime", 4, Neighbours::Known, Purity::Free),
    at("metrics", 4, Neighbours::Known, Purity::Free),
    at("broker", 3, Neighbours::Unknown, Purity::Synchronous),
    at("session", 2, Neighbours::Known, Purity::Synchronous),
    at("routing", 2, Neighbours::Known, Purity::Synchronous),
    at("cluster", 2, Neighbours::Known, Purity::Synchronous),
    at("stream", 2, Neighbours::Known, Purity::Synchronous),
    at("ports", 1, Neighbours::Unknown, Purity::Synchronous),
    at("mqtt", 0, Neighbours::Unknown, Purity::Synchronous),
    at(ROOT, 7, Neighbours::Unknown, Purity::Free),
];

/// The root of the crate, `src/lib.rs`: it names the modules and does nothing else.
const ROOT: &str = "lib";

/// `sim` stands beside the adapters' ground, and nobody stands on it.
const NOBODY_MAY_KNOW: [&str; 2] = ["sim", ROOT];

fn place(module: &str) -> Option<Place> {
    PLACES.into_iter().find(|place| place.module == module)
}

/// Why `from` may not know `to`; nothing if it may.
fn objection(from: Place, to: &str) -> Option<String> {
    let Some(target) = place(to) else {
        return Some(format!("`{to}` is not in the table of layers"));
    };
    if from.module == target.module {
        return None;
    }
    if NOBODY_MAY_KNOW.contains(&to) {
        return Some(format!("nobody may know `{to}`"));
    }
    if from.neighbours == Neighbours::OnlyMqttBelow && to != "mqtt" {
        return Some(format!("`{}` may know `mqtt` only, not `{to}`", from.module));
    }
    if from.module == "sim" && target.height == 4 {
        return Some(format!("`sim` may know `broker` and below, not `{to}`"));
    }
    if target.height > from.height {
        return Some(format!("`{}` points up to `{to}`", from.module));
    }
    if target.height == from.height && from.neighbours != Neighbours::Known {
        return Some(format!("`{}` points sideways to `{to}`", from.module));
    }
    None
}

/// Everything that is wrong with `files`, a line each.
fn violations(files: &[SourceFile]) -> Vec<String> {
    let skipped: BTreeSet<String> = files.iter().flat_map(SourceFile::test_modules).collect();
    let mut found = Vec::new();
    let mut arrows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !skipped.iter().any(|path| file.is_within(path))) {
        let Some(module) = file.module() else { continue };
        let Some(from) = place(module) else {
            found.push(format!("{}: `{module}` is not in the table of layers", file.path));
            continue;
        };
        let seen = walk::walk(file);
        for arrow in &seen.arrows {
            let reason = objection(from, &arrow.to);
            found.extend(reason.map(|reason| format!("{}:{}: {reason}", file.path, arrow.line)));
            if arrow.to != module {
                arrows.entry(module).or_default().insert(arrow.to.clone());
            }
            if arrow.is_reexport && arrow.to != module {
                found.push(format!(
                    "{}:{}: `pub use` hands on `{}` across layers",
                    file.path, arrow.line, arrow.to
                ));
            }
        }
        let evasions = seen.evasions.iter();
        found.extend(evasions.map(|(line, what)| format!("{}:{line}: {what}", file.path)));
        if from.purity == Purity::Synchronous {
            let bans = ban::banned(&seen);
            found.extend(bans.map(|(line, what)| format!("{}:{line}: {what}", file.path)));
        }
    }
    found.extend(circles(&arrows));
    found
}

/// The modules that reach themselves.
fn circles(arrows: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for start in arrows.keys() {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = vec![start];
        while let Some(module) = open.pop() {
            for next in arrows.get(module).into_iter().flatten() {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        if reached.contains(start) {
            found.push(format!("`{start}` stands in a circle"));
        }
    }
    found
}

#[test]
fn arrows_point_down_only() {
    let files = source::crate_files();
    assert!(files.len() > 5, "the source files were not found");
    let found = violations(&files);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}
