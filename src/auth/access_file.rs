//! The access file: who may publish and subscribe to what, in Mosquitto's syntax.
//!
//! ```text
//! # before the first user: for clients without a user name
//! topic read news/#
//!
//! user alice
//! topic readwrite home/#
//! topic deny home/safe
//!
//! # for everybody; %c is the Client Identifier, %u the user name
//! pattern write devices/%c/state
//! ```
//!
//! As there, the lines of the user come first and the patterns after them; within each of the two,
//! a `deny` that applies settles it, then a line that grants does; what no line grants is refused.
//!
//! One thing is stricter than there. Mosquitto lets everybody subscribe to everything and holds back
//! messages; we answer the SUBSCRIBE: it is refused unless one line grants all of the filter, and if
//! a `deny` touches any of it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{FileError, filter, read, telling_lines};
use crate::ports::auth::{Authorizer, Identity};

/// The [`Authorizer`] that follows a file.
#[derive(Debug)]
pub struct AccessFile {
    path: PathBuf,
    rules: ArcSwap<Rules>,
    generation: AtomicU64,
}

impl AccessFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or a line of it makes no sense.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let rules = Rules::parse(path, &read("access file", path)?)?;
        Ok(Self {
            path: path.to_owned(),
            rules: ArcSwap::from_pointee(rules),
            generation: AtomicU64::new(0),
        })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// The file cannot be used. What was in force stays in force.
    pub fn reload(&self) -> Result<(), FileError> {
        let rules = Rules::parse(&self.path, &read("access file", &self.path)?)?;
        self.rules.store(Arc::new(rules));
        // After the rules: whoever sees the new number must not keep an answer of the old rules.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Authorizer for AccessFile {
    fn may_publish(&self, who: &Identity, topic: &str) -> bool {
        self.rules.load().allow(who, topic, Action::Publish)
    }

    fn may_subscribe(&self, who: &Identity, filter: &str) -> bool {
        self.rules.load().allow(who, without_share(filter), Action::Subscribe)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Publish,
    Subscribe,
}

/// Everything the file says.
#[derive(Debug, Default, Eq, PartialEq)]
struct Rules {
    /// For clients without a user name.
    anonymous: List,
    /// For clients with one.
    users: BTreeMap<String, List>,
    /// For everybody.
    patterns: List,
}

impl Rules {
    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut rules = Self::default();
        let mut user = None;
        for (line, statement) in telling_lines(text) {
            let outcome = match parse_statement(statement) {
                Ok(Statement::User(name)) => {
                    rules.users.entry(name.to_owned()).or_default();
                    user = Some(name);
                    Ok(())
                }
                Ok(Statement::Topic(access, filter)) => {
                    let list = match user {
                        Some(name) => rules.users.entry(name.to_owned()).or_default(),
                        None => &mut rules.anonymous,
                    };
                    list.add(access, filter)
                }
                Ok(Statement::Pattern(access, filter)) => rules.patterns.add(access, filter),
                Err(message) => Err(message),
            };
            outcome.map_err(|message| FileError::Line { path: path.to_owned(), line, message })?;
        }
        Ok(rules)
    }

    fn allow(&self, who: &Identity, wanted: &str, action: Action) -> bool {
        let own = match &who.user_name {
            Some(name) => self.users.get(&**name),
            None => Some(&self.anonymous),
        };
        own.and_then(|list| list.judge(wanted, action, |filter| Some(Cow::Borrowed(filter))))
            .or_else(|| self.patterns.judge(wanted, action, |pattern| fill_in(pattern, who)))
            .unwrap_or(false)
    }
}

/// The lines that apply to one kind of client.
#[derive(Debug, Default, Eq, PartialEq)]
struct List {
    denials: Vec<String>,
    grants: Vec<(Access, String)>,
}

impl List {
    fn add(&mut self, access: Option<Access>, filter: &str) -> Result<(), String> {
        if !filter::is_valid(filter) {
            return Err(format!("`{filter}` is not a topic filter"));
        }
        match access {
            Some(access) => self.grants.push((access, filter.to_owned())),
            None => self.denials.push(filter.to_owned()),
        }
        Ok(())
    }

    /// What these lines say about `wanted`; nothing when none applies. `fill_in` makes a filter of
    /// what stands in a line, or nothing when the line is not about this client.
    fn judge<'a>(
        &'a self,
        wanted: &str,
        action: Action,
        fill_in: impl Fn(&'a str) -> Option<Cow<'a, str>>,
    ) -> Option<bool> {
        let filled_in = |filter: &'a String| fill_in(filter);
        if self.denials.iter().filter_map(filled_in).any(|denied| filter::overlap(&denied, wanted))
        {
            return Some(false);
        }
        let of_action = self.grants.iter().filter(|(access, _)| access.grants(action));
        let mut granted = of_action.filter_map(|(_, filter)| filled_in(filter));
        granted.any(|granted| filter::covers(&granted, wanted)).then_some(true)
    }
}

/// What a line grants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    const fn grants(self, action: Action) -> bool {
        match (self, action) {
            (Self::ReadWrite, _)
            | (Self::Read, Action::Subscribe)
            | (Self::Write, Action::Publish) => true,
            (Self::Read, Action::Publish) | (Self::Write, Action::Subscribe) => false,
        }
    }
}

/// A line. No access is a denial.
enum Statement<'a> {
    User(&'a str),
    Topic(Option<Access>, &'a str),
    Pattern(Option<Access>, &'a str),
}

fn parse_statement(line: &str) -> Result<Statement<'_>, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "user" if rest.is_empty() => Err("a user name is missing".to_owned()),
        "user" => Ok(Statement::User(rest)),
        "topic" => parse_access(rest).map(|(access, filter)| Statement::Topic(access, filter)),
        "pattern" => parse_access(rest).map(|(access, filter)| Statement::Pattern(access, filter)),
        _ => Err(format!("`{word}` is none of user, topic, pattern")),
    }
}

/// A single word is a topic; of several, the first says what may be done with the rest.
fn parse_access(text: &str) -> Result<(Option<Access>, &str), String> {
    let Some((word, filter)) = text.split_once(char::is_whitespace) else {
        if text.is_empty() {
            return Err("a topic is missing".to_owned());
        }
        return Ok((Some(Access::ReadWrite), text));
    };
    let access = match word {
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        "readwrite" => Some(Access::ReadWrite),
        "deny" => None,
        _ => return Err(format!("`{word}` is none of read, write, readwrite, deny")),
    };
    Ok((access, filter.trim()))
}

/// The filter that `pattern` is for this client. Nothing when it needs a name that the client lacks,
/// or that would bring a wildcard with it.
fn fill_in<'a>(pattern: &'a str, who: &Identity) -> Option<Cow<'a, str>> {
    let has_wildcard = |name: &str| name.contains(['+', '#']);
    if has_wildcard(&who.client_id) || who.user_name.as_deref().is_some_and(has_wildcard) {
        return None;
    }
    if !pattern.contains("%c") && !pattern.contains("%u") {
        return Some(Cow::Borrowed(pattern));
    }
    // Piece by piece, so that a name that contains `%u` stays a name.
    let mut filled_in = String::with_capacity(pattern.len() + who.client_id.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let (before, sign) = rest.split_at(at);
        filled_in.push_str(before);
        let (value, after) = match (sign.strip_prefix("%c"), sign.strip_prefix("%u")) {
            (Some(after), _) => (&*who.client_id, after),
            (None, Some(after)) => (who.user_name.as_deref()?, after),
            (None, None) => ("%", sign.strip_prefix('%')?),
        };
        filled_in.push_str(value);
        rest = after;
    }
    filled_in.push_str(rest);
    Some(Cow::Owned(filled_in))
}

/// The filter of a shared subscription without `$share` and the name of its group.
fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::test_directory::TestDirectory;

    fn who(client_id: &str, user_name: Option<&str>) -> Identity {
        Identity {
            client_id: client_id.into(),
            user_name: user_name.map(Arc::from),
            anonymous: user_name.is_none(),
        }
    }

    fn rules(text: &str) -> Result<Rules, String> {
        Rules::parse(Path::new("acl"), text).map_err(|error| error.to_string())
    }

    /// What of `wanted`, such as `alice pub a/b`, is not answered as it says: `yes` or `no` last.
    fn check(text: &str, wanted: &[&str]) {
        let rules = rules(text).unwrap();
        for line in wanted {
            let words: Vec<_> = line.split(' ').collect();
            let [name, verb, topic, answer] = words[..] else { panic!("{line}") };
            let (client_id, user) = name.split_once('@').unwrap_or((name, name));
            let who = who(client_id, Some(user).filter(|user| *user != "-"));
            let allowed = match verb {
                "pub" => rules.allow(&who, topic, Action::Publish),
                _ => rules.allow(&who, without_share(topic), Action::Subscribe),
            };
            assert_eq!(allowed, answer == "yes", "{line}");
        }
    }

    #[test]
    fn lines_before_the_first_user_are_for_clients_without_a_name() {
        check(
            "topic read news/#\nuser alice\ntopic write home/door",
            &[
                "- sub news/today yes",
                "- sub news/# yes",
                "- pub news/today no",
                "- sub home/door no",
                "alice sub news/today no",
                "alice pub home/door yes",
                "alice sub home/door no",
                "bob pub home/door no",
            ],
        );
    }

    #[test]
    fn a_topic_alone_may_be_read_and_written() {
        check(
            "user alice\ntopic a/b\ntopic readwrite c/+\ntopic read with space/x",
            &["alice pub a/b yes", "alice sub a/b yes", "alice pub c/d yes", "alice sub c/d/e no"],
        );
        let rules = rules("user a\ntopic read with space/x").unwrap();
        assert!(rules.allow(&who("c", Some("a")), "with space/x", Action::Subscribe));
    }

    #[test]
    fn a_denial_goes_before_what_is_granted_wherever_it_stands() {
        check(
            "user alice\ntopic home/#\ntopic deny home/safe/#",
            &[
                "alice pub home/door yes",
                "alice pub home/safe no",
                "alice pub home/safe/lock no",
                "alice sub home/door yes",
                "alice sub home/safe no",
                "alice sub home/# no",
                "alice sub home/+ no",
                "alice sub home/door/+ yes",
            ],
        );
    }

    #[test]
    fn what_the_user_was_granted_goes_before_the_patterns() {
        check(
            "user alice\ntopic read a\npattern deny a\npattern read b",
            &["alice sub a yes", "alice pub a no", "bob sub a no", "bob sub b yes", "- sub b yes"],
        );
    }

    #[test]
    fn patterns_are_filled_in_with_the_names_of_the_client() {
        check(
            "pattern write devices/%c/state\npattern read users/%u/#\npattern read 100%/%c",
            &[
                "c1@alice pub devices/c1/state yes",
                "c1@alice pub devices/c2/state no",
                "c1@alice sub users/alice/# yes",
                "c1@alice sub users/bob/# no",
                "c1@- pub devices/c1/state yes",
                "c1@- sub users/-/x no",
                "c1@- sub 100%/c1 yes",
                "%u@alice pub devices/alice/state no",
                "%u@alice pub devices/%u/state yes",
            ],
        );
    }

    /// Story: a client named `+` would turn a line about itself into one about everybody.
    #[test]
    fn a_name_with_a_wildcard_gets_nothing_by_patterns() {
        check(
            "user +\ntopic read mine\npattern readwrite devices/%c/#\npattern read all",
            &[
                "+@- sub devices/+/# no",
                "a#@- pub devices/a#/x no",
                "c1@+ pub devices/c1/x no",
                "c1@+ sub all no",
                "c1@+ sub mine yes",
            ],
        );
    }

    #[test]
    fn a_subscription_must_be_granted_whole() {
        check(
            "user alice\ntopic read a/+/c\ntopic read d/#",
            &[
                "alice sub a/b/c yes",
                "alice sub a/+/c yes",
                "alice sub a/# no",
                "alice sub # no",
                "alice sub d yes",
                "alice sub d/+/# yes",
                "alice sub $share/group/d/e yes",
                "alice sub $share/group/e no",
            ],
        );
    }

    #[test]
    fn topics_with_a_dollar_need_a_line_with_a_dollar() {
        check(
            "user alice\ntopic #\nuser root\ntopic read $SYS/#\ntopic #",
            &[
                "alice sub # yes",
                "alice sub $SYS/# no",
                "alice pub $other no",
                "root sub $SYS/broker/+ yes",
                "root sub # yes",
            ],
        );
    }

    #[test]
    fn a_user_may_have_lines_in_several_places() {
        check(
            "user a\ntopic x\nuser b\ntopic y\nuser a\ntopic z",
            &["a pub x yes", "a pub z yes", "a pub y no", "b pub z no"],
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_file_and_line() {
        for (text, message) in [
            ("# x\n\nfoo bar", "acl:3: `foo` is none of user, topic, pattern"),
            ("user", "acl:1: a user name is missing"),
            ("topic", "acl:1: a topic is missing"),
            ("topic rw a", "acl:1: `rw` is none of read, write, readwrite, deny"),
            ("pattern read a/#/b", "acl:1: `a/#/b` is not a topic filter"),
            ("topic a+b", "acl:1: `a+b` is not a topic filter"),
        ] {
            assert_eq!(rules(text).unwrap_err(), message);
        }
    }

    #[test]
    fn a_reload_is_seen_by_its_number_and_one_with_a_fault_changes_nothing() {
        let directory = TestDirectory::new();
        let path = directory.file("acl", "topic read a");
        let file = AccessFile::open(&path).unwrap();
        let nobody = who("c", None);
        assert!(file.may_subscribe(&nobody, "$share/g/a") && !file.may_publish(&nobody, "a"));
        fs::write(&path, "topic write a").unwrap();
        let before = file.generation();
        file.reload().unwrap();
        assert!(file.generation() > before);
        assert!(!file.may_subscribe(&nobody, "a") && file.may_publish(&nobody, "a"));
        fs::write(&path, "nonsense").unwrap();
        assert!(file.reload().is_err());
        assert_eq!(file.generation(), before + 1);
        assert!(file.may_publish(&nobody, "a"));
    }
}
