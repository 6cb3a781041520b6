//! One definition of each option.
//!
//! [`options!`] turns a struct of documented fields into everything that must agree about them: the
//! typed field, its key in the file, its environment variable, its flag with help, and its row in
//! `docs/CONFIG.md`.

use super::value::Shape;

/// A group of options: a heading of the help text and, if it has a name, a table of the file.
pub(super) trait Section {
    /// The heading of the group.
    fn heading(&self) -> &'static str;
    /// What the group is about.
    fn about(&self) -> &'static str;
    /// The table of the file that holds the group; the top level where there is none.
    fn table(&self) -> Option<&'static str>;
    /// Every option with its present value, in the order of its definition.
    fn options(&self) -> Vec<OptionRow>;
    /// Sets the option `key`; nothing when the group has no such option.
    fn set(&mut self, key: &str, texts: &[String]) -> Option<Result<(), String>>;

    /// Options that are not as they were, also those whose values are not shown.
    fn changed(&self, before: &Self) -> Vec<&'static str>
    where
        Self: Sized;

    /// Whether the group has the option `key`.
    fn has(&self, key: &str) -> bool {
        self.options().iter().any(|row| row.key == key)
    }
}

/// An option and its present value.
#[derive(Clone, Debug)]
pub(super) struct OptionRow {
    /// The key in the file. The other names follow from it.
    pub(super) key: &'static str,
    /// What to write, as in `PORT`.
    pub(super) form: &'static str,
    /// The comment of the definition.
    pub(super) doc: &'static str,
    /// How many values it takes.
    pub(super) shape: Shape,
    /// The present value in TOML, if it can be written.
    pub(super) value: Option<String>,
}

impl OptionRow {
    /// The name on the command line, without the dashes.
    pub(super) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The name in the environment.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.to_uppercase())
    }

    /// The comment as one paragraph.
    pub(super) fn text(&self) -> String {
        paragraph(self.doc)
    }
}

/// The lines of a doc comment as one paragraph.
pub(super) fn paragraph(doc: &str) -> String {
    doc.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What the name of every environment variable of ours starts with.
pub(super) const VARIABLE_PREFIX: &str = "MQTTZOO_";

macro_rules! options {
    (
        $(#[doc = $about:literal])+
        #[heading = $heading:literal]
        $(#[table = $table:literal])?
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $key:ident: $kind:ty as $form:literal = $default:expr,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $kind,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl crate::config::option::Section for $name {
            fn heading(&self) -> &'static str {
                $heading
            }

            fn about(&self) -> &'static str {
                concat!($($about, "\n"),+)
            }

            fn table(&self) -> Option<&'static str> {
                [$($table)?].first().copied()
            }

            fn options(&self) -> Vec<crate::config::option::OptionRow> {
                vec![$(crate::config::option::OptionRow {
                    key: stringify!($key),
                    form: $form,
                    doc: concat!($($doc, "\n"),+),
                    shape: <$kind as crate::config::value::Value>::SHAPE,
                    value: crate::config::value::Value::show(&self.$key),
                }),+]
            }

            fn changed(&self, before: &Self) -> Vec<&'static str> {
                let all = [$((stringify!($key), self.$key != before.$key)),+];
                let changed = all.into_iter().filter(|(_, is_changed)| *is_changed);
                changed.map(|(key, _)| key).collect()
            }

            fn set(&mut self, key: &str, texts: &[String]) -> Option<Result<(), String>> {
                match key {
                    $(stringify!($key) => Some(
                        crate::config::value::Value::read(texts).map(|value| self.$key = value),
                    ),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use options;
