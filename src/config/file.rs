//! The configuration file.

use std::{fs, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, ListenerTable, Origin,
    draft::{Draft, Setting},
    error::suggestion,
    option::Section,
};

/// Reads the file at `path` into `draft`.
pub(super) fn read(path: &Path, draft: &mut Draft) -> Result<(), ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text, draft)
}

/// Reads `text`, which stands in the file at `path`, into `draft`.
pub(super) fn parse(path: &Path, text: &str, draft: &mut Draft) -> Result<(), ConfigError> {
    let source = Source { path, text };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: source.line(error.span().map_or(0, |span| span.start)),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    source.read_top_level(table.get_ref(), draft)
}

/// The file while it is read: where errors point to.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn read_top_level(&self, table: &DeTable<'_>, draft: &mut Draft) -> Result<(), ConfigError> {
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            if name == LISTENER {
                self.read_listeners(value, draft)?;
            } else if draft.config.sections().iter().any(|group| group.table() == Some(name)) {
                self.read_group(name, value, draft)?;
            } else {
                self.require_known(key, None, draft)?;
                draft.apply(self.setting(key, value)?)?;
            }
        }
        Ok(())
    }

    fn read_group(
        &self,
        group: &str,
        value: &Spanned<DeValue<'_>>,
        draft: &mut Draft,
    ) -> Result<(), ConfigError> {
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.bad(value, group, format!("it is a table: write [{group}]")))?;
        for (key, value) in in_order(table) {
            self.require_known(key, Some(group), draft)?;
            draft.apply(self.setting(key, value)?)?;
        }
        Ok(())
    }

    fn read_listeners(
        &self,
        value: &Spanned<DeValue<'_>>,
        draft: &mut Draft,
    ) -> Result<(), ConfigError> {
        let wrong = || self.bad(value, LISTENER, "write [[listener]] for each listener".to_owned());
        let tables = value.get_ref().as_array().ok_or_else(wrong)?;
        for table in tables {
            let mut listener = ListenerTable::default();
            for (key, value) in in_order(table.get_ref().as_table().ok_or_else(wrong)?) {
                let setting = self.setting(key, value)?;
                let Some(outcome) = listener.set(&setting.key, &setting.texts) else {
                    let known = listener.options().into_iter().map(|row| row.key);
                    return Err(self.unknown(key, suggestion(key.get_ref(), known)));
                };
                outcome.map_err(|message| setting.error(message))?;
            }
            draft.config.tables.push(listener);
        }
        Ok(())
    }

    /// Refuses a key that is unknown, or stands in the wrong table.
    fn require_known(
        &self,
        key: &Spanned<toml::de::DeString<'_>>,
        table: Option<&str>,
        draft: &Draft,
    ) -> Result<(), ConfigError> {
        let name = key.get_ref().as_ref();
        let groups = draft.config.sections();
        if let Some(group) = groups.iter().find(|group| group.has(name)) {
            return match (group.table(), table) {
                (belongs, stands) if belongs == stands => Ok(()),
                (Some(belongs), _) => {
                    Err(self.unknown(key, format!(": it belongs under [{belongs}]")))
                }
                (None, _) => Err(self.unknown(
                    key,
                    ": it belongs to the top level, above the first [table]".to_owned(),
                )),
            };
        }
        let known = groups.iter().flat_map(|group| group.options()).map(|row| row.key);
        let tables = groups.iter().filter_map(|group| group.table()).chain([LISTENER]);
        let tables = tables.filter(|_| table.is_none());
        Err(self.unknown(key, suggestion(name, known.chain(tables))))
    }

    fn setting(
        &self,
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Setting, ConfigError> {
        let key = key.get_ref().to_string();
        let texts = match value.get_ref().as_array() {
            Some(values) => values.iter().map(|one| scalar(one.get_ref())).collect(),
            None => scalar(value.get_ref()).map(|text| vec![text]),
        };
        let Some(texts) = texts else {
            let kind = value.get_ref().type_str();
            let article = if kind == "array" { "an" } else { "a" };
            let message = format!("{article} {kind} is not expected here");
            return Err(self.bad(value, &key, message));
        };
        Ok(Setting { key, texts, origin: self.origin(value.span().start) })
    }

    fn unknown(&self, key: &Spanned<toml::de::DeString<'_>>, hint: String) -> ConfigError {
        ConfigError::UnknownKey {
            path: self.path.to_owned(),
            line: self.line(key.span().start),
            key: key.get_ref().to_string(),
            hint,
        }
    }

    fn bad(&self, value: &Spanned<DeValue<'_>>, key: &str, message: String) -> ConfigError {
        let origin = self.origin(value.span().start);
        ConfigError::Value { origin, key: key.to_owned(), message }
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(offset) }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// The entries as they stand in the file, so that the first error is the topmost.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<toml::de::DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A single value as text; nothing for what has parts.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|value| value.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The name of the tables that describe one listener each.
const LISTENER: &str = "listener";
