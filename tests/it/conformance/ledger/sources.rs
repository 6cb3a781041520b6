//! Which tests there are, and what each one cites.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::{Attribute, Expr, Item, Lit, Meta};

use crate::conformance::{all, citations};

/// The full path of every compiled test that cites statements, with what it cites.
pub(super) fn citations_by_test() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = compiled_here();
    let scripts = all()
        .into_iter()
        .map(|script| (format!("conformance::{}", script.name()), script.citations()));
    let mut found = tests_below(&root.join("tests/it/main.rs"));
    found.extend(scripts);
    found.retain(|test, _| compiled.contains(test));
    found.extend(tests_below(&root.join("src/lib.rs")));
    found.retain(|_, cited| !cited.is_empty());
    found
}

/// The tests of this binary, as it lists them itself.
fn compiled_here() -> BTreeSet<String> {
    let program = std::env::current_exe().expect("a running program has a path");
    let listed = Command::new(program).args(["--list", "--format", "terse"]).output();
    let listed = String::from_utf8(listed.expect("it runs").stdout).expect("names are UTF-8");
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(ToOwned::to_owned).collect()
}

/// The tests of a crate, found by following its `mod` items from the root: a file that is not
/// declared is not compiled, and its tests do not count.
fn tests_below(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let directory = root.parent().expect("a file has a directory").to_owned();
    let mut open = vec![(root.to_owned(), directory, String::new())];
    while let Some((file, directory, module)) = open.pop() {
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        walk(&parsed.items, &directory, &module, &mut found, &mut open);
    }
    found
}

fn walk(
    items: &[Item],
    directory: &Path,
    module: &str,
    found: &mut BTreeMap<String, Vec<String>>,
    open: &mut Vec<(PathBuf, PathBuf, String)>,
) {
    for item in items {
        if let Item::Fn(function) = item
            && is_test(&function.attrs)
        {
            let path = format!("{module}{}", function.sig.ident);
            found.insert(path, citations(&documentation(&function.attrs)));
        }
        if let Item::Mod(inner) = item {
            let name = inner.ident.to_string();
            let below = directory.join(&name);
            let path = format!("{module}{name}::");
            if let Some((_, items)) = &inner.content {
                walk(items, &below, &path, found, open);
                continue;
            }
            let candidates = [directory.join(format!("{name}.rs")), below.join("mod.rs")];
            open.extend(
                candidates
                    .into_iter()
                    .filter(|file| file.exists())
                    .map(|file| (file, below.clone(), path.clone())),
            );
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let named = |attribute: &Attribute, name: &str| {
        attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
    };
    attributes.iter().any(|attribute| named(attribute, "test"))
        && !attributes.iter().any(|attribute| named(attribute, "ignore"))
}

fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(literal) = &pair.value else { return None };
        let Lit::Str(line) = &literal.lit else { return None };
        pair.path.is_ident("doc").then(|| line.value())
    });
    lines.collect::<Vec<_>>().join("\n")
}
