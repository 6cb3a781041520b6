//! How the value of an option is read and shown.
//!
//! The file, the environment and the flags all hand over text, so that one reader serves the three
//! and a value is written the same way in each.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use crate::mqtt::TopicFilter;

/// The type of an option: what [`options!`](super::option) needs to know of it.
pub(super) trait Value: Sized {
    /// How many values the option takes.
    const SHAPE: Shape;
    /// Reads the value. The error says what was expected, in words that follow the option's name.
    fn read(texts: &[String]) -> Result<Self, String>;
    /// The value in TOML; nothing when the option is absent and the file has no word for that.
    fn show(&self) -> Option<String>;
}

/// How many values an option takes on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// Exactly one.
    One,
    /// One or more: the flag is repeated, the variable is separated by commas.
    Many,
    /// None or one: the flag alone means `true`.
    Switch,
}

/// A value made from exactly one text.
pub(super) trait Scalar: Sized {
    /// What is expected, to follow "is not".
    const EXPECTED: &'static str;
    /// Whether an optional value of this type can be written as `off`.
    const HAS_OFF: bool = false;
    /// Whether the flag may stand alone.
    const SHAPE: Shape = Shape::One;
    /// Reads one text.
    fn parse(text: &str) -> Option<Self>;
    /// The value in TOML.
    fn toml(&self) -> String;
}

impl<S: Scalar> Value for S {
    const SHAPE: Shape = S::SHAPE;

    fn read(texts: &[String]) -> Result<Self, String> {
        let text = single(texts)?;
        S::parse(text).ok_or_else(|| format!("`{text}` is not {}", S::EXPECTED))
    }

    fn show(&self) -> Option<String> {
        Some(self.toml())
    }
}

impl<S: Scalar> Value for Option<S> {
    const SHAPE: Shape = S::SHAPE;

    fn read(texts: &[String]) -> Result<Self, String> {
        let text = single(texts)?;
        if S::HAS_OFF && text.eq_ignore_ascii_case(OFF) {
            return Ok(None);
        }
        let or_off = if S::HAS_OFF { ", or off" } else { "" };
        S::parse(text).map(Some).ok_or_else(|| format!("`{text}` is not {}{or_off}", S::EXPECTED))
    }

    fn show(&self) -> Option<String> {
        match self {
            Some(value) => Some(value.toml()),
            None if S::HAS_OFF => Some(quoted(OFF)),
            None => None,
        }
    }
}

/// The addresses to listen on. `localhost` stands for both loopback addresses.
impl Value for Vec<IpAddr> {
    const SHAPE: Shape = Shape::Many;

    fn read(texts: &[String]) -> Result<Self, String> {
        let mut addresses = Vec::with_capacity(texts.len());
        for text in texts {
            if text == "localhost" {
                addresses.extend(LOOPBACK);
                continue;
            }
            addresses.push(text.parse().map_err(|_| {
                format!(
                    "`{text}` is not an IP address: write e.g. 127.0.0.1, ::1, localhost for both, \
                     or 0.0.0.0 or :: for every address of the machine"
                )
            })?);
        }
        if addresses.is_empty() {
            return Err("at least one address is needed".to_owned());
        }
        Ok(addresses)
    }

    fn show(&self) -> Option<String> {
        let addresses: Vec<String> =
            self.iter().map(|address| quoted(&address.to_string())).collect();
        (!addresses.is_empty()).then(|| format!("[{}]", addresses.join(", ")))
    }
}

/// Topic Filters of topics that clients publish to.
impl Value for Vec<TopicFilter> {
    const SHAPE: Shape = Shape::Many;

    fn read(texts: &[String]) -> Result<Self, String> {
        let filter = |text: &String| {
            let filter = TopicFilter::parse(text).ok();
            filter
                .filter(|filter| !filter.as_str().starts_with('$'))
                .ok_or_else(|| format!("`{text}` is not a topic filter that begins without $"))
        };
        texts.iter().map(filter).collect()
    }

    fn show(&self) -> Option<String> {
        let filters: Vec<String> = self.iter().map(|filter| quoted(filter.as_str())).collect();
        Some(format!("[{}]", filters.join(", ")))
    }
}

/// An amount of bytes. Written as a number, or with a unit: `64 KiB`, `1 MiB`, `2 GiB`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// That many KiB.
    #[must_use]
    pub const fn kib(count: usize) -> Self {
        Self(count << 10)
    }

    /// That many MiB.
    #[must_use]
    pub const fn mib(count: usize) -> Self {
        Self(count << 20)
    }
}

impl Scalar for ByteSize {
    const EXPECTED: &'static str = "an amount of bytes (a number above 0, or e.g. 64 KiB, 1 MiB)";
    const HAS_OFF: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name))?;
        let count: usize = digits.replace('_', "").parse().ok()?;
        count.checked_mul(*factor).filter(|bytes| *bytes > 0).map(Self)
    }

    fn toml(&self) -> String {
        let largest = UNITS.iter().rev().find(|(_, factor)| self.0.is_multiple_of(*factor));
        match largest {
            Some((name, factor)) if *factor > 1 => quoted(&format!("{} {name}", self.0 / factor)),
            Some(_) | None => self.0.to_string(),
        }
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    const SHAPE: Shape = Shape::Switch;

    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    fn toml(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    const EXPECTED: &'static str = "a text with at least one character";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "a path with at least one character";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Scalar for IpAddr {
    const EXPECTED: &'static str = "an IP address such as 127.0.0.1 or ::1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A share of a whole, 1 to 100.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Percent(pub u8);

impl Scalar for Percent {
    const EXPECTED: &'static str = "a number from 1 to 100";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|share| (1..=100).contains(share)).map(Self)
    }

    fn toml(&self) -> String {
        self.0.to_string()
    }
}

/// Integers; `_` may separate groups of digits.
macro_rules! integers {
    ($($kind:ty, $expected:literal;)+) => {$(
        impl Scalar for $kind {
            const EXPECTED: &'static str = $expected;
            const HAS_OFF: bool = true;

            fn parse(text: &str) -> Option<Self> {
                text.replace('_', "").parse().ok()
            }

            fn toml(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

integers! {
    u16, "a number from 0 to 65535";
    u32, "a whole number";
    NonZeroU16, "a number from 1 to 65535";
    NonZeroU32, "a whole number above 0";
    NonZeroU64, "a whole number above 0";
    NonZeroUsize, "a whole number above 0";
}

/// An enum each of whose variants has one word in the configuration.
macro_rules! choices {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
        }
        expected $expected:literal
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// The word for this in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl crate::config::value::Scalar for $name {
            const EXPECTED: &'static str = concat!("one of ", $expected);

            fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)+ _ => None }
            }

            fn toml(&self) -> String {
                crate::config::value::quoted(self.as_str())
            }
        }
    };
}
pub(super) use choices;

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// An integer above zero, for the defaults.
pub(super) const fn count(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("defaults are above zero")
}

/// Seconds or a rate above zero, for the defaults.
pub(super) const fn above_zero(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("defaults are above zero")
}

fn single(texts: &[String]) -> Result<&str, String> {
    match texts {
        [text] => Ok(text),
        [] => Err("a value is missing".to_owned()),
        [..] => Err(format!("{} values were given where one is expected", texts.len())),
    }
}

/// Both loopback addresses.
pub(super) const LOOPBACK: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How a path shows that is found out at start when nobody gives it.
pub(super) const EMPTY: &str = "\"\"";

const OFF: &str = "off";

/// Smallest first: showing a value looks for the largest unit that divides it.
const UNITS: [(&str, usize); 5] =
    [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let size = |text| ByteSize::parse(text).map(|size| size.0);
        assert_eq!(size("1048576"), Some(1 << 20));
        assert_eq!(size("1_000"), Some(1_000));
        assert_eq!(size("1 MiB"), Some(1 << 20));
        assert_eq!(size("64kib"), Some(64 << 10));
        assert_eq!(size("2 GiB"), Some(2 << 30));
        assert_eq!(size("7B"), Some(7));
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for text in ["", "0", "MiB", "1 MX", "-1", "1.5 MiB", "99999999999999999999 GiB", "_"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_is_exact() {
        assert_eq!(ByteSize::mib(1).toml(), "\"1 MiB\"");
        assert_eq!(ByteSize(1_500).toml(), "1500");
        assert_eq!(ByteSize::kib(1_536).toml(), "\"1536 KiB\"");
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let read = <Vec<IpAddr> as Value>::read(&texts(&["localhost", "10.0.0.1"])).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[..2], LOOPBACK);
    }

    #[test]
    fn off_is_a_word_for_absent_where_a_bound_can_be_absent() {
        assert_eq!(<Option<NonZeroU32> as Value>::read(&texts(&["off"])), Ok(None));
        assert_eq!(<Option<u16> as Value>::show(&None).as_deref(), Some("\"off\""));
        assert_eq!(<Option<PathBuf> as Value>::show(&None), None);
        assert_eq!(
            <Option<NonZeroU32> as Value>::read(&texts(&["0"])),
            Err("`0` is not a whole number above 0, or off".to_owned())
        );
    }

    #[test]
    fn topic_filters_are_checked() {
        let read = |texts_: &[&str]| <Vec<TopicFilter> as Value>::read(&texts(texts_));
        let filters = read(&["a/#", "+/b"]).unwrap();
        assert_eq!(filters.show().as_deref(), Some("[\"a/#\", \"+/b\"]"));
        for wrong in ["a/#/b", "", "$SYS/#", "$share/g/t"] {
            let refusal = format!("`{wrong}` is not a topic filter that begins without $");
            assert_eq!(read(&["a", wrong]), Err(refusal));
        }
    }

    #[test]
    fn two_values_where_one_is_expected_are_refused() {
        assert!(<u16 as Value>::read(&texts(&["1", "2"])).is_err());
        assert!(<u16 as Value>::read(&[]).is_err());
    }
}
