//! Use case: a client connects.
//!
//! CONNECT is checked, the authenticator is asked, the Client Identifier is claimed; each step may
//! wait. Then the Session is in the connection's hands and CONNACK goes out.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytestring::ByteString;

use crate::broker::card::{ClientCard, Origin};
use crate::broker::counters::{Count, ShardCounters};
use crate::broker::disconnect::Client;
use crate::broker::durable::{StoredClient, WillInStore};
use crate::broker::event::Event;
use crate::broker::options::ConnectionOptions;
use crate::broker::peers::ticket::PublishTicket;
use crate::broker::sys_topics::is_reserved;
use crate::broker::turn::Turn;
use crate::broker::wills::{KeptWill, will_bytes};
use crate::mqtt::{
    Answer, Connack, ConnackProperties, Connect, ProtocolVersion, ReasonCode, ReasonString, Will,
};
use crate::ports::auth::{Identity, RefusalReason, SessionUser};
use crate::ports::store::Epoch;
use crate::session::agreement::Agreement;
use crate::session::mailbox::Mailbox;
use crate::session::session::Session;

/// Why a CONNECT is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// The broker is on its way out.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// The broker is not, or not surely, part of its cluster.
    #[error("this broker is not part of its cluster at the moment")]
    NotJoined,
    /// Enhanced authentication with a method we do not know [MQTT-4.12.0-1].
    #[error("authentication method {0:?} is not supported")]
    AuthenticationMethod(String),
    /// An empty Client Identifier that asks for a Session to be kept [MQTT-3.1.3-8 of 3.1.1].
    #[error("an empty client identifier needs a clean session")]
    EmptyClientId,
    /// User Name or Password is wrong.
    #[error("user name or password is wrong")]
    BadUserNameOrPassword,
    /// Known, but not welcome.
    #[error("not authorized")]
    NotAuthorized,
    /// May not publish its will.
    #[error("not authorized to publish the will to {0}")]
    WillNotAuthorized(String),
    /// The Will Topic cannot be published to.
    #[error("the will topic has too many levels")]
    WillTopic,
    /// The client takes no packet as large as its CONNACK [MQTT-3.1.2-24].
    #[error("the maximum packet size leaves no room for CONNACK")]
    NoRoomForConnack,
    /// The will is larger than we keep.
    #[error("the will is larger than {0} bytes")]
    WillTooLarge(usize),
    /// There is no room for another will.
    #[error("there is no room for another will message")]
    NoRoomForWill,
    /// The authenticator cannot answer.
    #[error("authentication is not available now")]
    AuthenticationUnavailable,
    /// As many clients are being authenticated as may be.
    #[error("too many clients are connecting, try again")]
    Busy,
    /// There are as many Sessions as there may be.
    #[error("there are as many sessions as there may be")]
    TooManySessions,
    /// This broker does not know who has the Session, or may not say.
    #[error("{0}")]
    Apart(&'static str),
    /// The Session is of this other user. The client is not told of whom: that may be news to it.
    #[error("the session of this client identifier belongs to another user")]
    SessionOfAnother(SessionUser),
    /// Another broker has the Session and did not give it up.
    #[error("the broker that has this session did not give it up in time")]
    SessionElsewhere,
    /// The broker that knows who has the Session cannot say.
    #[error("{0}")]
    ClaimRefused(String),
    /// The store does not answer, or refuses: what is there is not denied, and what is new is not
    /// promised.
    #[error("the store does not take this session at the moment")]
    Unstored,
    /// Another connection with this Client Identifier came in meanwhile.
    #[error("another connection with this client identifier came in")]
    Superseded,
}

impl ConnectError {
    /// The Reason Code of the CONNACK.
    #[must_use]
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ShuttingDown => ReasonCode::ServerShuttingDown,
            Self::AuthenticationMethod(_) => ReasonCode::BadAuthenticationMethod,
            Self::EmptyClientId => ReasonCode::ClientIdentifierNotValid,
            Self::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized | Self::WillNotAuthorized(_) | Self::SessionOfAnother(_) => {
                ReasonCode::NotAuthorized
            }
            Self::WillTopic => ReasonCode::TopicNameInvalid,
            Self::WillTooLarge(_) | Self::NoRoomForWill | Self::TooManySessions => {
                ReasonCode::QuotaExceeded
            }
            Self::NoRoomForConnack => ReasonCode::PacketTooLarge,
            Self::NotJoined
            | Self::AuthenticationUnavailable
            | Self::Apart(_)
            | Self::SessionElsewhere
            | Self::Unstored => ReasonCode::ServerUnavailable,
            // It may come again at once.
            Self::Busy | Self::Superseded | Self::ClaimRefused(_) => ReasonCode::ServerBusy,
        }
    }
}

impl ConnectError {
    /// The counter of what stood in the way, if there is one of that alone.
    pub(crate) fn bound<'a>(&self, counters: &'a ShardCounters) -> Option<&'a Count> {
        match self {
            Self::TooManySessions => Some(&counters.sessions_exceeded),
            Self::WillTooLarge(_) | Self::NoRoomForWill => Some(&counters.wills_exceeded),
            Self::Busy => Some(&counters.connects_waiting_exceeded),
            Self::WillTopic => Some(&counters.topic_levels_exceeded),
            Self::Unstored => Some(&counters.connects_unstored),
            Self::SessionOfAnother(_) => Some(&counters.connects_to_foreign_sessions),
            Self::ShuttingDown
            | Self::NotJoined
            | Self::AuthenticationMethod(_)
            | Self::EmptyClientId
            | Self::BadUserNameOrPassword
            | Self::NotAuthorized
            | Self::WillNotAuthorized(_)
            | Self::NoRoomForConnack
            | Self::AuthenticationUnavailable
            | Self::Apart(_)
            | Self::SessionElsewhere
            | Self::ClaimRefused(_)
            | Self::Superseded => None,
        }
    }
}

impl From<RefusalReason> for ConnectError {
    fn from(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::BadUserNameOrPassword => Self::BadUserNameOrPassword,
            RefusalReason::NotAuthorized => Self::NotAuthorized,
            RefusalReason::Unavailable => Self::AuthenticationUnavailable,
        }
    }
}

/// What became of the Session that was there before.
pub enum Former {
    /// There was none.
    None,
    /// It was parked, or another connection gave it up.
    Kept(Box<Client>),
}

/// A client that has its Session in hand, and no CONNACK.
#[derive(Debug)]
pub(crate) struct Entrant {
    client: Box<Client>,
    card: Arc<ClientCard>,
    will: Option<Arc<KeptWill>>,
    agreed: Agreed,
    session_present: bool,
    /// What CONNACK waits for.
    pub(crate) stored: Option<Arc<PublishTicket>>,
}

impl Turn<'_> {
    /// Checks what a CONNECT asks for, before anybody is asked who it is.
    pub(crate) fn check_connect(&self, connect: &Connect) -> Result<(), ConnectError> {
        if self.broker.is_draining() {
            return Err(ConnectError::ShuttingDown);
        }
        if self.broker.peers().is_some_and(|peers| !peers.admits(self.now)) {
            return Err(ConnectError::NotJoined);
        }
        if self.broker.is_unknown_to_store() {
            return Err(ConnectError::Unstored);
        }
        if let Some(method) = &connect.properties.authentication_method {
            let shown = method.chars().take(METHOD_SHOWN_CHARS).collect();
            return Err(ConnectError::AuthenticationMethod(shown));
        }
        let is_v5 = connect.protocol_version == ProtocolVersion::V5;
        if connect.client_id.is_empty() && !connect.clean_start && !is_v5 {
            return Err(ConnectError::EmptyClientId);
        }
        match &connect.will {
            Some(will) => self.check_will(will),
            None => Ok(()),
        }
    }

    fn check_will(&self, will: &Will) -> Result<(), ConnectError> {
        let options = &self.broker.options;
        if will.topic.levels().count() > options.topic_levels_max {
            return Err(ConnectError::WillTopic);
        }
        if will_bytes(will) > options.will_bytes_max {
            return Err(ConnectError::WillTooLarge(options.will_bytes_max));
        }
        Ok(())
    }

    /// Checks what only a known client may ask for.
    pub(crate) fn authorize_connect(
        &self,
        connect: &Connect,
        identity: &Identity,
    ) -> Result<(), ConnectError> {
        let Some(will) = &connect.will else { return Ok(()) };
        let topic = will.topic.as_str();
        let authorizer = self.broker.authorizer.as_ref();
        if !is_reserved(topic)
            && authorizer.is_none_or(|authorizer| authorizer.may_publish(identity, topic))
        {
            return Ok(());
        }
        Err(ConnectError::WillNotAuthorized(will.topic.as_str().to_owned()))
    }

    /// Checks that the client takes the CONNACK it will get.
    pub(crate) fn check_connack(
        &self,
        connect: &Connect,
        client_id: &Arc<str>,
        options: &ConnectionOptions,
    ) -> Result<(), ConnectError> {
        if connect.properties.maximum_packet_size.is_none() {
            return Ok(());
        }
        let mut agreed = Agreed::new(connect, options, self.broker.options.session_expiry_max_secs);
        agreed.client_id = Arc::clone(client_id);
        let connack = Connack {
            session_present: false,
            reason_code: ReasonCode::Success,
            properties: connack_properties(connect, &agreed, options),
        };
        if connack.encoded_len(connect.protocol_version) > agreed.link.packet_bytes_max {
            return Err(ConnectError::NoRoomForConnack);
        }
        Ok(())
    }

    /// Keeps the will of a CONNECT [MQTT-3.1.2-7].
    pub(crate) fn keep_will(
        &self,
        connect: &Connect,
    ) -> Result<Option<Arc<KeptWill>>, ConnectError> {
        let Some(will) = &connect.will else { return Ok(None) };
        let kept = self.broker.will_budget.keep(will).ok_or(ConnectError::NoRoomForWill)?;
        Ok(Some(kept))
    }

    /// The Client Identifier a CONNECT goes by: its own, or a new one [MQTT-3.1.3-6].
    pub(crate) fn client_id_for(&self, connect: &Connect) -> Arc<str> {
        if connect.client_id.is_empty() {
            return Arc::from(self.broker.draw_client_id());
        }
        Arc::from(&*connect.client_id)
    }

    /// Starts or resumes the Session, and has the store know of it. What the client had before stays
    /// as it was until it is let in.
    pub(crate) fn prepare(
        &mut self,
        connect: &Connect,
        identity: Identity,
        origin: Origin,
        options: &ConnectionOptions,
        (former, will, epoch): (Former, Option<Arc<KeptWill>>, Epoch),
    ) -> Entrant {
        let agreed = Agreed::new(connect, options, self.broker.options.session_expiry_max_secs);
        let card = Arc::new(ClientCard {
            identity,
            is_user_known: true,
            origin,
            version: connect.protocol_version,
            keep_alive_secs: agreed.keep_alive_secs,
            session_expiry_secs: agreed.session_expiry_secs,
            connected_at: self.now,
        });
        let had_stored = match &former {
            Former::Kept(client) => client.stored.is_some(),
            Former::None => false,
        };
        let (mut client, session_present) =
            self.resume_or_start(connect, &card, &agreed, former, epoch);
        let user = card.session_user();
        self.keep_session(&mut client, user, agreed.session_expiry_secs, will.as_deref());
        // What has ended is not to come back either.
        let is_awaited = had_stored || client.stored.is_some();
        let stored = if is_awaited { self.tell_when_kept() } else { None };
        Entrant { client, card, will, agreed, session_present, stored }
    }

    /// Answers with CONNACK.
    pub(crate) fn let_in(
        &mut self,
        connect: &Connect,
        entrant: Entrant,
        options: &ConnectionOptions,
    ) -> Box<Client> {
        let Entrant { mut client, card, will, agreed, session_present, stored: _ } = entrant;
        if agreed.is_expiry_shortened {
            self.shard.counters.session_expiries_shortened.increment();
        }
        if agreed.keep_alive_secs != connect.keep_alive_secs {
            self.shard.counters.keep_alives_shortened.increment();
        }
        client.session.attach(agreed.link.clone());
        if let Some(peers) = self.broker.peers() {
            let client_id = client.session.client_id();
            peers.wills().note_return(None, client_id, !connect.clean_start);
            if let Some(will) = &will {
                let task = peers.wills().watch(client_id, will, agreed.session_expiry_secs);
                self.shard.wake_later(task);
            }
        }
        // If it had another one, it is back before that was due [MQTT-3.1.3-9].
        client.will = will;
        client.session_expiry_secs = agreed.session_expiry_secs;
        client.card = Arc::clone(&card);
        client.level = options.acknowledge;
        client.due = None;
        let client_id = Arc::clone(client.session.client_id());
        self.broker.registry.settle(&client_id, client.session.mailbox(), Arc::clone(&card));
        let agreed = Agreed { client_id, ..agreed };
        self.acknowledge_connect(connect, &agreed, options, session_present);
        self.shard.counters.connects_accepted.increment();
        self.shard.events.push(Event::Connected { card, session_present });
        client
    }

    /// Gives up what was prepared. A Session that was there is there again; of a new one nothing is
    /// left, nor of the one it was to replace.
    pub(crate) fn turn_away(&mut self, entrant: Entrant) {
        let Entrant { mut client, session_present, .. } = entrant;
        let client_id = Arc::clone(client.session.client_id());
        if session_present {
            if let Some(stored) = &mut client.stored {
                stored.will = WillInStore::Unknown;
            }
            return self.abandon_claim(&client_id, Former::Kept(client));
        }
        self.keep_end(&client);
        self.abandon_claim(&client_id, Former::None);
    }

    /// The same, where another broker has the Session: it stays there as it is.
    pub(crate) fn give_away(&mut self, entrant: Entrant) {
        let mut client = entrant.client;
        client.will = None;
        let client_id = Arc::clone(client.session.client_id());
        self.abandon_session(*client);
        self.abandon_claim(&client_id, Former::None);
    }

    fn resume_or_start(
        &mut self,
        connect: &Connect,
        card: &Arc<ClientCard>,
        agreed: &Agreed,
        former: Former,
        epoch: Epoch,
    ) -> (Box<Client>, bool) {
        match former {
            Former::Kept(client) if !connect.clean_start => return (client, true),
            Former::Kept(client) => self.end_session(*client),
            Former::None => {}
        }
        let options = &self.broker.options;
        let queue = if agreed.session_expiry_secs > 0 {
            &options.persistent_queue
        } else {
            &options.clean_queue
        };
        let mut mailbox = Mailbox::new(
            self.broker.draw_session_key(),
            Arc::clone(&card.identity.client_id),
            Arc::clone(queue),
            Arc::clone(&self.broker.queue_budget),
        );
        let name = self.name_session(agreed.session_expiry_secs, epoch);
        if let Some(name) = name {
            mailbox = mailbox.stored(name, 1, None, 0);
            self.note_stored(name.id, &card.identity.client_id);
        }
        if self.broker.peers().is_some() {
            mailbox = mailbox.recalling();
        }
        let session = Session::new(Arc::new(mailbox), self.broker.seeds.hash);
        let card = Arc::clone(card);
        let mut client = Client::new(session, card, agreed.session_expiry_secs, None);
        client.stored = name.map(|name| Box::new(StoredClient::new(name)));
        (Box::new(client), false)
    }

    fn acknowledge_connect(
        &mut self,
        connect: &Connect,
        agreed: &Agreed,
        options: &ConnectionOptions,
        session_present: bool,
    ) {
        let mut connack = Connack {
            session_present,
            reason_code: ReasonCode::Success,
            properties: ConnackProperties::default(),
        };
        if connect.protocol_version == ProtocolVersion::V5 {
            connack.properties = connack_properties(connect, agreed, options);
        }
        connack.encode(connect.protocol_version, self.outbox.buffer());
        self.shard.counters.packets_sent.increment();
    }

    /// Answers a CONNECT with a refusal [MQTT-3.2.2-6].
    pub(crate) fn refuse_connect(
        &mut self,
        version: ProtocolVersion,
        origin: &Origin,
        client_id: Option<Arc<str>>,
        (reason_code, reason): (ReasonCode, String),
        packet_bytes_max: usize,
    ) {
        let mut connack = Connack {
            session_present: false,
            reason_code,
            properties: ConnackProperties::default(),
        };
        if version == ProtocolVersion::V5 {
            connack.properties.reason_string = Some(ReasonString::from(&*reason));
        }
        if connack.shorten(version, packet_bytes_max) {
            connack.encode(version, self.outbox.buffer());
            self.shard.counters.packets_sent.increment();
        }
        self.shard.counters.connects_refused.increment();
        let origin = origin.clone();
        self.shard.events.push(Event::Refused { origin, client_id, reason_code, reason });
    }
}

fn connack_properties(
    connect: &Connect,
    agreed: &Agreed,
    options: &ConnectionOptions,
) -> ConnackProperties {
    let asked = connect.properties.session_expiry_interval_secs.unwrap_or(0);
    let is_expiry_ours = asked != agreed.session_expiry_secs;
    let is_keep_alive_ours = connect.keep_alive_secs != agreed.keep_alive_secs;
    let packet_bytes_max = u32::try_from(options.packet_bytes_max).unwrap_or(u32::MAX);
    let is_id_ours = connect.client_id.is_empty();
    ConnackProperties {
        session_expiry_interval_secs: is_expiry_ours.then_some(agreed.session_expiry_secs),
        receive_maximum: NonZeroU16::new(options.receive_maximum),
        maximum_packet_size: NonZeroU32::new(packet_bytes_max),
        assigned_client_id: is_id_ours.then(|| ByteString::from(&*agreed.client_id)),
        topic_alias_maximum: (options.topic_alias_maximum > 0)
            .then_some(options.topic_alias_maximum),
        server_keep_alive_secs: is_keep_alive_ours.then_some(agreed.keep_alive_secs),
        ..ConnackProperties::default()
    }
}

/// What a client asked for, brought within our bounds.
#[derive(Debug)]
struct Agreed {
    client_id: Arc<str>,
    link: Agreement,
    keep_alive_secs: u16,
    session_expiry_secs: u32,
    is_expiry_shortened: bool,
}

impl Agreed {
    fn new(connect: &Connect, options: &ConnectionOptions, expiry_max_secs: u32) -> Self {
        let properties = &connect.properties;
        let is_v5 = connect.protocol_version == ProtocolVersion::V5;
        let asked_expiry = match (is_v5, connect.clean_start) {
            (true, _) => properties.session_expiry_interval_secs.unwrap_or(0),
            (false, true) => 0,
            (false, false) => u32::MAX,
        };
        let window =
            properties.receive_maximum.map_or(usize::from(u16::MAX), |max| max.get().into());
        let packet_bytes_max =
            properties.maximum_packet_size.map_or(usize::MAX, |max| max.get() as usize);
        let link = Agreement {
            version: connect.protocol_version,
            window_max: window.min(options.in_flight_max),
            packet_bytes_max,
            receive_maximum: if is_v5 { options.receive_maximum.into() } else { usize::MAX },
            topic_alias_maximum: options.topic_alias_maximum,
            client_topic_alias_maximum: properties.topic_alias_maximum,
            wants_problem_information: is_v5 && properties.request_problem_information,
        };
        Self {
            client_id: Arc::from(&*connect.client_id),
            link,
            keep_alive_secs: agreed_keep_alive(connect, options.keep_alive_max_secs),
            session_expiry_secs: asked_expiry.min(expiry_max_secs),
            is_expiry_shortened: asked_expiry > expiry_max_secs,
        }
    }
}

/// The client's Keep Alive, or ours when it asks for more than we allow. A client of 3.1.1 cannot be
/// told and keeps its own.
fn agreed_keep_alive(connect: &Connect, max_secs: u16) -> u16 {
    let asked = connect.keep_alive_secs;
    let is_too_long = max_secs > 0 && (asked == 0 || asked > max_secs);
    if is_too_long && connect.protocol_version == ProtocolVersion::V5 { max_secs } else { asked }
}

/// How much of an unknown Authentication Method is repeated in answers and logs.
const METHOD_SHOWN_CHARS: usize = 64;
