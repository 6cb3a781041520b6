//! A Control Packet of any type.

use bytes::{Bytes, BytesMut};

use super::{
    Auth, Connack, Connect, DecodeError, Disconnect, ProtocolVersion, Puback, Pubcomp, Publish,
    Pubrec, Pubrel, Suback, Subscribe, Unsuback, Unsubscribe,
};

/// Who sent a packet. Some packets, properties and Reason Codes travel in one direction only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sender {
    /// A Client, to a Server.
    Client,
    /// A Server, to a Client.
    Server,
}

/// A Control Packet. The large and rare ones are boxed, so that moving a PUBLISH stays cheap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// Asks for a connection.
    Connect(Box<Connect>),
    /// Answers CONNECT.
    Connack(Box<Connack>),
    /// Carries an Application Message.
    Publish(Publish),
    /// Answers a PUBLISH at QoS 1.
    Puback(Puback),
    /// Answers a PUBLISH at QoS 2.
    Pubrec(Pubrec),
    /// Answers PUBREC.
    Pubrel(Pubrel),
    /// Answers PUBREL.
    Pubcomp(Pubcomp),
    /// Asks for Application Messages.
    Subscribe(Subscribe),
    /// Answers SUBSCRIBE.
    Suback(Suback),
    /// Gives subscriptions up.
    Unsubscribe(Unsubscribe),
    /// Answers UNSUBSCRIBE.
    Unsuback(Unsuback),
    /// Asks whether the Server is alive.
    Pingreq,
    /// Answers PINGREQ.
    Pingresp,
    /// Ends the Network Connection.
    Disconnect(Box<Disconnect>),
    /// A step of enhanced authentication.
    Auth(Box<Auth>),
}

impl Packet {
    /// Decodes exactly one whole packet. Slices of `frame` are kept, nothing is copied. A CONNECT
    /// says its version itself, so that any `version` may be given for it.
    ///
    /// # Errors
    ///
    /// The rule of the standard that the packet breaks.
    pub fn decode(
        version: ProtocolVersion,
        sender: Sender,
        frame: &Bytes,
    ) -> Result<Self, DecodeError> {
        let _ = (version, sender, frame);
        todo!()
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        let _ = (version, out);
        todo!()
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        let _ = version;
        todo!()
    }

    /// The name of the packet, as the standard writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::Connack(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::Puback(_) => "PUBACK",
            Self::Pubrec(_) => "PUBREC",
            Self::Pubrel(_) => "PUBREL",
            Self::Pubcomp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Suback(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::Unsuback(_) => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}
