//! What is said of a link that does not stand: why, once, and again when that is something else;
//! and that it stands again.

use super::error::LinkError;
use crate::cluster::frame::RefusalCode;
use crate::ports::clock::Tick;

/// What keeps a link from standing, as far as a person has something else to do about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// One of the two has only just begun.
    Early,
    /// It ended: what there is behind that shows when it is dialled again.
    Broken,
    /// Its name has no address.
    Name,
    /// Nobody listens there, or there is no way there.
    Unreachable,
    /// What is sent there is lost, or what comes from there.
    Silence,
    /// The two have no certificates that both believe.
    Certificate,
    /// They have other secrets, or clusters.
    Mistrust,
    /// Whoever is there does not want the link.
    Refused,
    /// They speak different languages.
    Language,
    /// They are of versions that are too far apart.
    Versions,
}

/// The trouble of one link.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// When the link first failed since it stood.
    since: Option<Tick>,
    said: Option<Cause>,
}

impl Cause {
    /// Why a link failed.
    pub(super) fn of(error: &LinkError) -> Self {
        match error {
            LinkError::Resolve(_) | LinkError::NoAddress => Self::Name,
            LinkError::Connect(_) => Self::Unreachable,
            LinkError::TimedOut | LinkError::Silent | LinkError::Stuck => Self::Silence,
            LinkError::Tls(_) | LinkError::TlsName(_) => Self::Certificate,
            LinkError::NotProven => Self::Mistrust,
            LinkError::Refused { code, .. } => match code {
                RefusalCode::NotYet => Self::Early,
                RefusalCode::Mistrust => Self::Mistrust,
                RefusalCode::WireVersion => Self::Versions,
                RefusalCode::Other => Self::Refused,
            },
            LinkError::WireVersion(_)
            | LinkError::Wire(_)
            | LinkError::Cursor(_)
            | LinkError::Receive(_) => Self::Language,
            LinkError::Broken(_) | LinkError::Ended | LinkError::Restart | LinkError::Closed => {
                Self::Broken
            }
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Early => "its log says what it waits for",
            Self::Broken => "its log may say why, or something between the two cuts connections",
            Self::Name => "check its --link-advertise or --link-host, and the name service",
            Self::Unreachable => {
                "check that it runs, its --link-advertise, --link-host and --link-port, and the network \
                 between the two"
            }
            Self::Silence => {
                "check the network between the two, firewalls and network policies, and its \
                 --link-advertise"
            }
            Self::Certificate => {
                "give both certificates of one CA (--link-cafile), for the names that are dialled"
            }
            Self::Mistrust => "give both the same --link-secret-file and --cluster",
            Self::Refused => "check that its --link-advertise or --link-host leads to it alone",
            Self::Language => "check that both are programs that go together",
            Self::Versions => {
                "upgrade by way of a program that speaks a version of the one and a version of the other"
            }
        }
    }

    /// For how long it may be nothing that anybody has to know of.
    fn patience_millis(self) -> u64 {
        match self {
            Self::Early => 30_000,
            Self::Broken => 1_000,
            // A pod has a name as soon as the name service has heard of it.
            Self::Name => 2_000,
            Self::Unreachable
            | Self::Silence
            | Self::Certificate
            | Self::Mistrust
            | Self::Refused
            | Self::Language
            | Self::Versions => 0,
        }
    }

    /// Whether it says less than any other.
    fn is_vague(self) -> bool {
        matches!(self, Self::Early | Self::Broken)
    }
}

impl Trouble {
    /// The link failed: whether that is to be said.
    pub(super) fn is_news(&mut self, cause: Cause, now: Tick) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_other = match self.said {
            None => true,
            Some(said) => said != cause && !cause.is_vague(),
        };
        is_other && now.saturating_since(since) >= cause.patience_millis()
    }

    /// It was said.
    pub(super) fn note_said(&mut self, cause: Cause) {
        self.said = Some(cause);
    }

    /// Whether it was said, and is not over.
    pub(super) fn is_said(&self) -> bool {
        self.said.is_some()
    }

    /// The link stands. If there was trouble to tell of, how many milliseconds it took.
    pub(super) fn end(&mut self, now: Tick) -> Option<u64> {
        let Self { since, said } = std::mem::take(self);
        said?;
        since.map(|since| now.saturating_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::BootId;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    /// What is said of these failures, one after the other.
    #[track_caller]
    fn check(failures: &[(u64, Cause)], expected: &[u64]) {
        let mut trouble = Trouble::default();
        let mut said = Vec::new();
        for &(millis, cause) in failures {
            if trouble.is_news(cause, at(millis)) {
                trouble.note_said(cause);
                said.push(millis);
            }
        }
        assert_eq!(said, expected, "{failures:?}");
    }

    #[test]
    fn a_cause_is_said_once_and_another_one_as_well() {
        let failures = [
            (0, Cause::Unreachable),
            (10, Cause::Unreachable),
            (5_000, Cause::Silence),
            (9_000, Cause::Silence),
        ];
        check(&failures, &[0, 5_000]);
    }

    #[test]
    fn what_is_over_in_a_moment_is_not_said() {
        check(&[(0, Cause::Broken), (990, Cause::Broken), (1_000, Cause::Broken)], &[1_000]);
        check(&[(0, Cause::Early), (29_999, Cause::Early), (30_000, Cause::Early)], &[30_000]);
        check(&[(0, Cause::Name), (1_999, Cause::Name), (2_500, Cause::Name)], &[2_500]);
    }

    /// With TLS a connection may break before the other end has said why.
    #[test]
    fn a_connection_that_merely_breaks_is_no_other_cause() {
        let failures = [
            (0, Cause::Certificate),
            (2_000, Cause::Broken),
            (4_000, Cause::Certificate),
            (90_000, Cause::Early),
        ];
        check(&failures, &[0]);
    }

    /// Who spoke another version was told to look at `--link-advertise`.
    #[test]
    fn a_refusal_says_what_to_do_about_it() {
        for (code, words) in [
            (RefusalCode::Other, "--link-advertise"),
            (RefusalCode::Mistrust, "--link-secret-file"),
            (RefusalCode::NotYet, "its log"),
            (RefusalCode::WireVersion, "upgrade by way of a program that speaks"),
        ] {
            let error = LinkError::Refused { reason: "no".to_owned(), boot_id: BootId(1), code };
            let advice = Cause::of(&error).advice();
            assert!(advice.contains(words), "{code:?}: {advice}");
        }
    }

    #[test]
    fn its_end_is_told_where_it_was_told_of() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_news(Cause::Broken, at(5)));
        assert_eq!(trouble.end(at(6)), None);
        assert!(trouble.is_news(Cause::Silence, at(7)));
        trouble.note_said(Cause::Silence);
        assert!(trouble.is_said());
        assert_eq!(trouble.end(at(1_007)), Some(1_000));
        assert!(!trouble.is_said());
        assert!(trouble.is_news(Cause::Silence, at(2_000)), "it begins anew");
    }
}
