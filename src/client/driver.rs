//! The session on a transport: reads, writes and timers, in one future and without a task.
//!
//! [`Client::next`] does all the work there is until something concerns the application. It is
//! cancel safe: whoever drops the future loses nothing. What the session wants to send leaves only
//! while `next` runs, so a message is acknowledged after the application has seen it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use super::{
    endpoint::Endpoint,
    message::Message,
    session::{
        Answer, CloseReason, Input, Output, PublishOutcome, Session, SessionOptions, Subscription,
        Tick, Ticket, Unsubscription,
    },
    transport::{self, BoxedTransport, OpenError, describe_stream_error},
};
use crate::mqtt::{
    Connack, DecodeError, Disconnect, Frame, Packet, ProtocolVersion, Publish, Sender,
};

/// What concerns the application.
#[derive(Debug)]
pub enum Event {
    /// The server took the connection.
    Connected(Box<Connack>),
    /// The server refused the connection; [`Event::Closed`] follows.
    Refused(Box<Connack>),
    /// A message arrived.
    Message(Publish),
    /// What became of a publish.
    Published(Ticket, PublishOutcome),
    /// The answer to a SUBSCRIBE.
    Subscribed(Ticket, Answer),
    /// The answer to an UNSUBSCRIBE.
    Unsubscribed(Ticket, Answer),
    /// The server said why it ends the connection; [`Event::Closed`] follows.
    Disconnected(Box<Disconnect>),
    /// The unsent bytes, which had been too many for another publish, are written.
    Writable,
    /// No transport could be opened. Nothing happens until [`Client::connect_after`].
    OpenFailed(OpenError),
    /// The transport is closed. Nothing happens until [`Client::connect_after`].
    Closed(Closed),
}

/// Why a transport is closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// This side closed it.
    #[error(transparent)]
    By(CloseReason),
    /// The other side did, or the network.
    #[error("{0}")]
    Lost(String),
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Sending,
    /// From the server.
    Received,
}

/// Sees every packet.
pub type Observer = Box<dyn FnMut(Direction, &Packet) + Send>;

/// A client and its connection.
pub struct Client {
    session: Session,
    endpoint: Endpoint,
    link: Link,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    read: BytesMut,
    write: BytesMut,
    is_flushed: bool,
    was_full: bool,
    events: VecDeque<Event>,
    next_ticket: u64,
    observer: Option<Observer>,
}

enum Link {
    Idle,
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<BoxedTransport, OpenError>>),
    Up(BoxedTransport),
    /// Everything to send is in the buffer; then the transport is closed.
    Closing(BoxedTransport, CloseReason),
    /// This direction is closed, the other one is read to its end: to drop unread bytes would
    /// reset the connection, and could cost the server what it has not read yet.
    Draining(BoxedTransport, CloseReason),
}

impl Client {
    /// A client that connects at its first [`Self::next`].
    #[must_use]
    pub fn new(endpoint: Endpoint, options: SessionOptions) -> Self {
        let began = Instant::now();
        let mut client = Self {
            session: Session::new(options),
            endpoint,
            link: Link::Idle,
            began,
            timer: Box::pin(tokio::time::sleep_until(began)),
            read: BytesMut::new(),
            write: BytesMut::new(),
            is_flushed: true,
            was_full: false,
            events: VecDeque::new(),
            next_ticket: 0,
            observer: None,
        };
        client.connect_after(Duration::ZERO);
        client
    }

    /// Lets `observer` see every packet.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Connects (again) after a pause. Only while there is no transport.
    pub fn connect_after(&mut self, pause: Duration) {
        assert!(matches!(self.link, Link::Idle | Link::Waiting(_)), "one transport at a time");
        self.link = Link::Waiting(Box::pin(tokio::time::sleep(pause)));
    }

    /// Goes to another server of the same cluster with the next connection.
    pub fn turn_to(&mut self, endpoint: Endpoint) {
        self.endpoint = endpoint;
    }

    /// Whether another message may be published now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.session.has_room()
            && self.write.len() < WRITE_BYTES_MAX
            && self.events.len() < EVENTS_MAX
    }

    /// Publishes. Only while [`Self::has_room`].
    pub fn publish(&mut self, message: Message) -> Ticket {
        assert!(self.has_room(), "publish only while there is room");
        let ticket = self.ticket();
        self.handle(Input::Publish(ticket, message));
        self.was_full |= self.write.len() >= WRITE_BYTES_MAX;
        ticket
    }

    /// Subscribes; `None` without a connection, or while too many requests are unanswered.
    pub fn subscribe(&mut self, wanted: Subscription) -> Option<Ticket> {
        if !self.session.has_room_for_request() {
            return None;
        }
        let ticket = self.ticket();
        self.handle(Input::Subscribe(ticket, wanted));
        Some(ticket)
    }

    /// Unsubscribes; `None` without a connection, or while too many requests are unanswered.
    pub fn unsubscribe(&mut self, unwanted: Unsubscription) -> Option<Ticket> {
        if !self.session.has_room_for_request() {
            return None;
        }
        let ticket = self.ticket();
        self.handle(Input::Unsubscribe(ticket, unwanted));
        Some(ticket)
    }

    /// Ends the connection with DISCONNECT, after everything that waits to be written; the wait for
    /// the network is bounded. True if all of it was written.
    pub async fn disconnect(&mut self, disconnect: Disconnect) -> bool {
        self.handle(Input::Disconnect(Box::new(disconnect)));
        if matches!(self.link, Link::Idle | Link::Waiting(_) | Link::Opening(_)) {
            self.link = Link::Idle;
            return false;
        }
        loop {
            if let Event::Closed(closed) = self.next().await {
                return closed == Closed::By(CloseReason::Finished);
            }
        }
    }

    /// Messages published whose outcome is open.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.session.open_len()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn unsent_len(&self) -> usize {
        self.write.len()
    }

    /// The session, to ask it for its names.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Where this client connects to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Works until something concerns the application. Cancel safe.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What concerns the application and has happened already; does no work.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match &mut self.link {
                Link::Idle => return Poll::Pending,
                Link::Waiting(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    let endpoint = self.endpoint.clone();
                    let opening = async move { transport::open(&endpoint).await };
                    self.link = Link::Opening(Box::pin(opening));
                }
                Link::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(transport) => self.start(transport),
                    Err(error) => {
                        self.link = Link::Idle;
                        return Poll::Ready(Event::OpenFailed(error));
                    }
                },
                Link::Up(_) => ready!(self.poll_up(cx)),
                Link::Closing(..) | Link::Draining(..) => ready!(self.poll_closing(cx)),
            }
        }
    }

    /// One turn of an open connection; pending when there is nothing to do.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take_frame() {
            return Poll::Ready(());
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            // What the server said before it hung up is worth more than the failed write.
            if !matches!(self.poll_read(cx), Poll::Ready(Ok(1..))) {
                self.lose(describe_stream_error(&error));
            }
            return Poll::Ready(());
        }
        if self.was_full && self.write.is_empty() {
            self.was_full = false;
            self.events.push_back(Event::Writable);
            return Poll::Ready(());
        }
        match self.poll_read(cx) {
            Poll::Ready(Ok(0)) => {
                self.lose("the server closed the connection".to_owned());
                return Poll::Ready(());
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                self.lose(describe_stream_error(&error));
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        self.poll_timer(cx)
    }

    /// Writes the rest, closes, and waits for the other side, all within a bounded time.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_late = self.timer.as_mut().poll(cx).is_ready();
        if self.poll_ending(cx).is_pending() && !is_late {
            return Poll::Pending;
        }
        let is_written = self.write.is_empty();
        let (Link::Closing(_, reason) | Link::Draining(_, reason)) =
            std::mem::replace(&mut self.link, Link::Idle)
        else {
            return Poll::Ready(());
        };
        self.handle(Input::TransportClosed);
        if is_written || reason != CloseReason::Finished {
            self.finish(reason);
        } else {
            let words = "the connection broke before everything was sent".to_owned();
            self.events.push_back(Event::Closed(Closed::Lost(words)));
        }
        Poll::Ready(())
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Link::Closing(..) = &self.link {
            if ready!(self.poll_write(cx)).is_err() {
                return Poll::Ready(());
            }
            let Link::Closing(transport, _) = &mut self.link else { return Poll::Ready(()) };
            if ready!(Pin::new(transport).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.link = match std::mem::replace(&mut self.link, Link::Idle) {
                Link::Closing(transport, reason) => Link::Draining(transport, reason),
                link @ (Link::Idle
                | Link::Waiting(_)
                | Link::Opening(_)
                | Link::Up(_)
                | Link::Draining(..)) => link,
            };
        }
        while matches!(ready!(self.poll_read(cx)), Ok(1..)) {
            self.read.clear();
        }
        Poll::Ready(())
    }

    /// Tells the application, except of a fall-back: that one goes on by itself.
    fn finish(&mut self, reason: CloseReason) {
        self.write.clear();
        match reason {
            CloseReason::FallBack => self.connect_after(Duration::ZERO),
            CloseReason::Finished
            | CloseReason::Refused
            | CloseReason::ByServer
            | CloseReason::ConnackTimeout
            | CloseReason::PingTimeout
            | CloseReason::Unsendable(_)
            | CloseReason::Violation(..) => {
                self.events.push_back(Event::Closed(Closed::By(reason)));
            }
        }
    }

    fn start(&mut self, transport: BoxedTransport) {
        self.read.clear();
        self.write.clear();
        self.link = Link::Up(transport);
        self.handle(Input::TransportOpened);
    }

    fn lose(&mut self, why: String) {
        self.link = Link::Idle;
        self.write.clear();
        let was_in_handshake = self.session.is_in_handshake();
        self.handle(Input::TransportClosed);
        if matches!(self.link, Link::Waiting(_)) {
            return;
        }
        let why = match (was_in_handshake, &self.endpoint.tls) {
            (false, _) => why,
            (true, Some(_)) => format!("{why} before it answered the CONNECT"),
            (true, None) => format!("{why} before it answered the CONNECT (a TLS port? say --tls)"),
        };
        self.events.push_back(Event::Closed(Closed::Lost(why)));
    }

    fn handle(&mut self, input: Input) {
        self.session.handle(self.now(), input);
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(packet) => self.send(&packet),
            Output::Close(reason) => match std::mem::replace(&mut self.link, Link::Idle) {
                Link::Up(transport) => {
                    self.link = Link::Closing(transport, reason);
                    self.timer.as_mut().reset(Instant::now() + CLOSE_WITHIN);
                }
                Link::Idle
                | Link::Waiting(_)
                | Link::Opening(_)
                | Link::Closing(..)
                | Link::Draining(..) => self.finish(reason),
            },
            Output::Connected(connack) => self.events.push_back(Event::Connected(connack)),
            Output::Refused(connack) => self.events.push_back(Event::Refused(connack)),
            Output::Message(publish) => self.events.push_back(Event::Message(publish)),
            Output::Published(ticket, outcome) => {
                self.events.push_back(Event::Published(ticket, outcome));
            }
            Output::Subscribed(ticket, answer) => {
                self.events.push_back(Event::Subscribed(ticket, answer));
            }
            Output::Unsubscribed(ticket, answer) => {
                self.events.push_back(Event::Unsubscribed(ticket, answer));
            }
            Output::Disconnected(disconnect) => {
                self.events.push_back(Event::Disconnected(disconnect));
            }
        }
    }

    fn send(&mut self, packet: &Packet) {
        if let Some(observer) = &mut self.observer {
            observer(Direction::Sending, packet);
        }
        packet.encode(self.session.protocol_version(), &mut self.write);
        self.is_flushed = false;
    }

    /// The first answer to a CONNECT starts with a CONNACK or AUTH; other protocols are named.
    fn recognise(&self) -> Option<&'static str> {
        if !self.session.is_in_handshake() {
            return None;
        }
        match self.read.first()? {
            0x15 => Some("the server speaks TLS on this port (say --cafile FILE, or --tls)"),
            b'H' => Some("the server speaks HTTP on this port (say --ws for MQTT over WebSocket)"),
            _ => None,
        }
    }

    /// Hands the next whole packet of the read buffer to the session.
    fn take_frame(&mut self) -> bool {
        if let Some(other) = self.recognise() {
            self.lose(other.to_owned());
            return true;
        }
        let frame = match Frame::peek(&self.read, self.session.packet_size_max()) {
            Ok(Some(frame)) if frame.total_len <= self.read.len() => frame,
            Ok(_) => return false,
            Err(error) => {
                self.handle(Input::Undecodable(error));
                return true;
            }
        };
        let bytes = self.read.split_to(frame.total_len).freeze();
        match self.decode(&bytes) {
            Ok(packet) => {
                if let Some(observer) = &mut self.observer {
                    observer(Direction::Received, &packet);
                }
                self.handle(Input::Packet(packet));
            }
            Err(error) => self.handle(Input::Undecodable(error)),
        }
        true
    }

    fn decode(&self, frame: &Bytes) -> Result<Packet, DecodeError> {
        let version = self.session.protocol_version();
        // A server of old answers a CONNECT of MQTT 5 in its own version.
        let is_old_connack = self.session.is_in_handshake() && frame.len() == OLD_CONNACK_LEN;
        let version = if is_old_connack { ProtocolVersion::V311 } else { version };
        Packet::decode(version, Sender::Server, frame)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Link::Up(transport) | Link::Closing(transport, _)) = &mut self.link else {
            return Poll::Ready(Ok(()));
        };
        while !self.write.is_empty() {
            let written = ready!(Pin::new(&mut *transport).poll_write(cx, &self.write))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.write.advance(written);
        }
        if !self.is_flushed {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (Link::Up(transport) | Link::Draining(transport, _)) = &mut self.link else {
            return Poll::Pending;
        };
        self.read.reserve(READ_BYTES);
        poll_read_buf(Pin::new(transport), cx, &mut self.read)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.session.next_timeout() else { return Poll::Pending };
        let deadline = self.began + due;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.handle(Input::Timeout);
        Poll::Ready(())
    }

    fn now(&self) -> Tick {
        self.began.elapsed()
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }
}

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Above this many bytes unsent, no further publish is taken.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
/// Above this many events unseen, no further publish is taken.
const EVENTS_MAX: usize = 1024;
/// How long the end of a connection may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The length of every CONNACK of 3.1 and 3.1.1; one of MQTT 5 is longer.
const OLD_CONNACK_LEN: usize = 4;
