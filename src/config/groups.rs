//! What is done with all groups of options.

use super::Config;
use super::option::Section;

/// In the order of the help text.
macro_rules! groups {
    ($($group:ident),+) => {
        impl Config {
            pub(super) fn sections(&self) -> [&dyn Section; 12] {
                let Self { $($group,)+ listeners: _, tables: _ } = self;
                [$($group),+]
            }

            pub(super) fn sections_mut(&mut self) -> [&mut dyn Section; 12] {
                let Self { $($group,)+ listeners: _, tables: _ } = self;
                [$($group),+]
            }

            /// The options that differ from those of `before`, by their keys in the file; `listener`
            /// stands for the `[[listener]]` tables.
            #[must_use]
            pub fn changed(&self, before: &Self) -> Vec<&'static str> {
                let mut changed = [$(self.$group.changed(&before.$group)),+].concat();
                if self.tables != before.tables {
                    changed.push("listener");
                }
                changed
            }
        }
    };
}

groups!(
    broker,
    listen,
    acknowledge,
    auth,
    log,
    admin,
    database,
    activity,
    cluster,
    last_value,
    drain,
    limits
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_is_named_also_where_it_is_not_shown() {
        let before = Config::default();
        assert_eq!(before.changed(&before), Vec::<&str>::new());
        let mut after = before.clone();
        for (key, text) in [("port", "1884"), ("db_password", "x"), ("will_bytes_max", "1 KiB")] {
            let text = [text.to_owned()];
            let set = after.sections_mut().into_iter().find_map(|group| group.set(key, &text));
            set.expect("there is such an option").unwrap();
        }
        after.tables.push(super::super::ListenerTable::default());
        let expected = ["port", "db_password", "will_bytes_max", "listener"];
        assert_eq!(after.changed(&before), expected);
        let mut other = after.clone();
        let text = ["y".to_owned()];
        other.sections_mut().into_iter().find_map(|group| group.set("db_password", &text));
        assert_eq!(other.changed(&after), ["db_password"]);
    }
}
