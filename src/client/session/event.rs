//! What goes into the session of a client, and what comes out of it.

use std::time::Duration;

use bytestring::ByteString;

use super::super::message::Message;
use crate::mqtt::{
    Connack, DecodeError, Disconnect, Packet, Publish, ReasonCode, ReasonString, SubscribeFilter,
    UserProperty,
};

/// Time since a beginning that the driver chose.
pub type Tick = Duration;

/// Names a publish, subscribe or unsubscribe of the application until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The transport stands; nothing has been sent.
    TransportOpened,
    /// The server sent a packet.
    Packet(Packet),
    /// The server sent bytes that are no packet.
    Undecodable(DecodeError),
    /// The transport is gone, whoever ended it.
    TransportClosed,
    /// The application publishes. Only when [`super::Session::has_room`].
    Publish(Ticket, Message),
    /// The application subscribes. Only when [`super::Session::has_room_for_request`].
    Subscribe(Ticket, Subscription),
    /// The application unsubscribes. Only when [`super::Session::has_room_for_request`].
    Unsubscribe(Ticket, Unsubscription),
    /// The application is done: DISCONNECT, then the end of the transport.
    Disconnect(Box<Disconnect>),
    /// The time that [`super::Session::next_timeout`] named has come.
    Timeout,
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    /// Topic Filters with their options; at least one.
    pub filters: Vec<SubscribeFilter>,
    /// Subscription Identifier; left out where the server knows none.
    pub subscription_id: Option<u32>,
    /// User Properties of the SUBSCRIBE packet.
    pub user_properties: Vec<UserProperty>,
}

/// What an UNSUBSCRIBE asks for.
#[derive(Clone, Debug, Default)]
pub struct Unsubscription {
    /// Topic Filters; at least one.
    pub filters: Vec<ByteString>,
    /// User Properties of the UNSUBSCRIBE packet.
    pub user_properties: Vec<UserProperty>,
}

/// One thing to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a packet.
    Send(Packet),
    /// Send what is waiting, then close the transport.
    Close(CloseReason),
    /// The server took the CONNECT.
    Connected(Box<Connack>),
    /// The server refused the CONNECT.
    Refused(Box<Connack>),
    /// A message arrived; its Topic Name is in full.
    Message(Publish),
    /// What became of a publish.
    Published(Ticket, PublishOutcome),
    /// The server answered a SUBSCRIBE, one Reason Code per filter.
    Subscribed(Ticket, Answer),
    /// The server answered an UNSUBSCRIBE, one Reason Code per filter.
    Unsubscribed(Ticket, Answer),
    /// The server ended the connection and said why.
    Disconnected(Box<Disconnect>),
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// QoS 0: given to the transport.
    Sent,
    /// QoS 1 and 2: the server has taken it over.
    Acknowledged(ReasonCode),
    /// The server, or a limit it had announced, refused it.
    Refused(ReasonCode, Option<ReasonString>),
}

/// The answer to a SUBSCRIBE or UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One per Topic Filter, in order.
    pub reason_codes: Vec<ReasonCode>,
    /// The server's words, if it had any.
    pub reason_string: Option<ReasonString>,
}

/// Why the session closes its transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The application asked for it.
    #[error("disconnected")]
    Finished,
    /// The server refused the CONNECT and said why.
    #[error("the server refused the connection")]
    Refused,
    /// The server does not speak MQTT 5: the next connection offers 3.1.1.
    #[error("the server does not speak MQTT 5")]
    FallBack,
    /// The server ended the connection with a DISCONNECT.
    #[error("the server disconnected")]
    ByServer,
    /// No CONNACK in time.
    #[error("the server did not answer the CONNECT in time")]
    ConnackTimeout,
    /// No PINGRESP in time.
    #[error("the server stopped answering (no PINGRESP)")]
    PingTimeout,
    /// The application wants a packet sent that MQTT has no form for: one of its strings is too long.
    #[error("the {0} has a string of more than 65,535 bytes, or is too long itself")]
    Unsendable(&'static str),
    /// The server broke a rule of the standard.
    #[error("{1}")]
    Violation(ReasonCode, String),
}
