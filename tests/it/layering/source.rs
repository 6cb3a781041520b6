//! The source files of the crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item};

/// A parsed file.
pub(super) struct SourceFile {
    /// Its path below `src`, with `/`.
    pub(super) path: String,
    /// What stands in it.
    pub(super) content: syn::File,
}

impl SourceFile {
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let content = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), content }
    }

    /// The module directly under the root that the file belongs to; nothing for a program.
    pub(super) fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        match first {
            "bin" | "main.rs" => None,
            _ => Some(first.trim_end_matches(".rs")),
        }
    }

    /// The names of the modules from the root of the crate to this file.
    pub(super) fn module_path(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        names.pop_if(|last| last == "mod" || last == "lib");
        names
    }

    /// The modules with files of their own that exist for tests only, as paths without `.rs`.
    pub(super) fn test_modules(&self) -> Vec<String> {
        let below = self.module_path().join("/");
        let prefix = if below.is_empty() { below } else { below + "/" };
        let is_for_tests = |item: &Item| {
            let Item::Mod(module) = item else { return None };
            (module.content.is_none() && is_test_only(&module.attrs))
                .then(|| format!("{prefix}{}", module.ident))
        };
        self.content.items.iter().filter_map(is_for_tests).collect()
    }

    /// Whether the file is the module at `path`, or lies below it.
    pub(super) fn is_within(&self, path: &str) -> bool {
        let own = self.module_path().join("/");
        own == path || own.starts_with(&format!("{path}/"))
    }
}

/// Whether an item is compiled for tests only.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") // as tokens are printed
        }
    })
}

/// Every file below `src`.
pub(super) fn crate_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push(SourceFile::parse(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}
