//! What is not as it was when the configuration is read again.

use super::Config;
use super::option::Section;

impl Config {
    /// The options that differ from those of `before`, by their keys in the file; `listener` stands for
    /// the `[[listener]]` tables.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Vec<&'static str> {
        let Self {
            broker,
            listen,
            acknowledge,
            auth,
            log,
            admin,
            cluster,
            database,
            activity,
            last_value,
            drain,
            limits,
            listeners: _,
            tables,
        } = self;
        [
            broker.changed(&before.broker),
            listen.changed(&before.listen),
            acknowledge.changed(&before.acknowledge),
            auth.changed(&before.auth),
            log.changed(&before.log),
            admin.changed(&before.admin),
            cluster.changed(&before.cluster),
            database.changed(&before.database),
            activity.changed(&before.activity),
            last_value.changed(&before.last_value),
            drain.changed(&before.drain),
            limits.changed(&before.limits),
            if *tables == before.tables { Vec::new() } else { vec!["listener"] },
        ]
        .concat()
    }
}

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
