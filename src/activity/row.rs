//! One row: something that happened, in columns.

use super::portion::Gap;
use crate::broker::card::{ClientCard, Origin};
use crate::broker::event::Event;

/// What happened. The order is that of the numbers in the spool: what is new goes last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A broker has started.
    Started,
    /// It ends in order.
    Stopped,
    /// A client has got a successful CONNACK.
    Connected,
    /// A CONNECT was refused.
    Refused,
    /// A connection has ended.
    Disconnected,
    /// A client was not allowed to publish or subscribe.
    Denied,
    /// A publish was refused because a bound was reached.
    PublishRefused,
    /// A SUBACK waits long for other brokers.
    SubackLate,
    /// A client has subscribed.
    Subscribed,
    /// A client has unsubscribed.
    Unsubscribed,
    /// A client has published.
    Published,
    /// Rows are missing here.
    Dropped,
    /// A Session with Subscriptions has ended.
    SessionEnded,
    /// The brokers of the cluster have changed.
    Cluster,
    /// An operator has done something.
    Admin,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Started,
        Self::Stopped,
        Self::Connected,
        Self::Refused,
        Self::Disconnected,
        Self::Denied,
        Self::PublishRefused,
        Self::SubackLate,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::Published,
        Self::Dropped,
        Self::SessionEnded,
        Self::Cluster,
        Self::Admin,
    ];

    /// The kind of a number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Disconnected => "disconnected",
            Self::Denied => "denied",
            Self::PublishRefused => "publish_refused",
            Self::SubackLate => "suback_late",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::Published => "published",
            Self::Dropped => "dropped",
            Self::SessionEnded => "session_ended",
            Self::Cluster => "cluster",
            Self::Admin => "admin",
        }
    }
}

/// A row of the log. Texts are cut to [`TEXT_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub(super) at_millis: u64,
    pub(super) kind: Kind,
    /// Of this start; given by the ring.
    pub(super) number: i64,
    pub(super) client_id: Option<Box<str>>,
    pub(super) user_name: Option<Box<str>>,
    pub(super) address: Option<Box<str>>,
    pub(super) listener: Option<Box<str>>,
    pub(super) topic: Option<Box<str>>,
    pub(super) qos: Option<i16>,
    pub(super) reason_code: Option<i16>,
    pub(super) reason: Option<Box<str>>,
    pub(super) bytes: Option<i64>,
    pub(super) preview: Option<Box<[u8]>>,
    pub(super) count: Option<i64>,
}

impl Row {
    /// Something that happened at this time and of which there is no more to say.
    #[must_use]
    pub fn new(at_millis: u64, kind: Kind) -> Self {
        Self {
            at_millis,
            kind,
            number: 0,
            client_id: None,
            user_name: None,
            address: None,
            listener: None,
            topic: None,
            qos: None,
            reason_code: None,
            reason: None,
            bytes: None,
            preview: None,
            count: None,
        }
    }

    /// An event, if it is worth a row.
    #[must_use]
    pub fn of(event: &Event, at_millis: u64) -> Option<Self> {
        let row = |kind| Self::new(at_millis, kind);
        Some(match event {
            Event::Connected { card, .. } => row(Kind::Connected).by(card).at(&card.origin),
            Event::Refused { origin, client_id, reason_code, reason } => Self {
                client_id: client_id.as_deref().map(cut),
                reason_code: Some((*reason_code as u8).into()),
                reason: Some(cut(reason)),
                ..row(Kind::Refused).at(origin)
            },
            Event::Disconnected { card, reason_code, reason, dropped } => Self {
                count: some(*dropped),
                reason_code: Some((*reason_code as u8).into()),
                reason: Some(cut(reason)),
                ..row(Kind::Disconnected).by(card).at(&card.origin)
            },
            // The refusal of a stranger itself has a row.
            Event::Silent { .. } | Event::Foreign { .. } | Event::OwnMessageMissed { .. } => {
                return None;
            }
            Event::Denied { card, action, topic, suppressed } => Self {
                topic: Some(cut(topic)),
                reason: Some(cut(action)),
                count: Some(i64::from(*suppressed) + 1),
                ..row(Kind::Denied).by(card)
            },
            Event::PublishRefused { card, topic, reason, suppressed } => Self {
                topic: Some(cut(topic)),
                reason: Some(cut(reason)),
                count: Some(i64::from(*suppressed) + 1),
                ..row(Kind::PublishRefused).by(card)
            },
            Event::SubackLate { card, filter, brokers, .. } => Self {
                topic: Some(cut(filter)),
                reason: Some(cut(&brokers.join(","))),
                ..row(Kind::SubackLate).by(card)
            },
            Event::Subscribed { card, filter, qos } => Self {
                topic: Some(cut(filter.as_str())),
                qos: Some((*qos as u8).into()),
                ..row(Kind::Subscribed).by(card)
            },
            Event::Unsubscribed { card, filter } => {
                Self { topic: Some(cut(filter.as_str())), ..row(Kind::Unsubscribed).by(card) }
            }
            Event::SessionEnded { card, dropped } => {
                Self { count: some(*dropped), ..row(Kind::SessionEnded).by(card) }
            }
            Event::Published { card, topic, qos, bytes, preview, every } => Self {
                count: Some((*every).into()),
                topic: Some(cut(topic.as_str())),
                qos: Some((*qos as u8).into()),
                bytes: i64::try_from(*bytes).ok(),
                preview: Some(preview.clone()),
                ..row(Kind::Published).by(card)
            },
        })
    }

    /// What somebody else than a client has done, in words.
    pub(super) fn said(at_millis: u64, kind: Kind, who: &str, what: &str) -> Self {
        let (client_id, reason) = (Some(cut(who)), Some(cut(what)));
        Self { client_id, reason, ..Self::new(at_millis, kind) }
    }

    /// Rows that are missing, as one row.
    pub(super) fn dropped(gap: &Gap) -> Self {
        Self {
            number: gap.last,
            reason: Some(gap.why.as_str().into()),
            count: Some(gap.last - gap.first + 1),
            ..Self::new(gap.at_millis, Kind::Dropped)
        }
    }

    fn by(self, card: &ClientCard) -> Self {
        Self {
            client_id: Some(cut(&card.identity.client_id)),
            user_name: card.identity.user_name.as_deref().map(cut),
            ..self
        }
    }

    fn at(self, origin: &Origin) -> Self {
        Self { address: Some(cut(&origin.address)), listener: Some(cut(&origin.listener)), ..self }
    }

    /// What it takes while it waits.
    pub(super) fn cost(&self) -> usize {
        let texts = [
            &self.client_id,
            &self.user_name,
            &self.address,
            &self.listener,
            &self.topic,
            &self.reason,
        ];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        size_of::<Self>() + texts + self.preview.as_deref().map_or(0, <[u8]>::len)
    }
}

/// How many, where there are any.
fn some(count: u64) -> Option<i64> {
    i64::try_from(count).ok().filter(|count| *count > 0)
}

/// The beginning of a text.
fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

/// What is kept of a text.
const TEXT_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_numbers() {
        for (code, kind) in (0..).zip(Kind::ALL) {
            assert_eq!((Kind::from_code(code), kind as u8), (Some(kind), code));
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(&*cut("short"), "short");
        let long = "\u{e4}".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&long).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), TEXT_BYTES_MAX - 1);
    }
}
