//! A client that connects again by itself, and says on stderr what happens to its connection.

use tokio::time::{Instant, sleep_until};

use super::{
    common_options::CommonOptions,
    connection::Plan,
    diagnostics::{Diagnostics, describe_packet},
    exit::Exit,
    redial::{Redial, is_transient, is_worth_retrying},
    signals::Signals,
};
use crate::{
    client::{
        Client, Event,
        driver::Closed,
        session::{Answer, PublishOutcome, Ticket},
    },
    mqtt::{Connack, Disconnect, Publish, ReasonCode},
};

/// What a program has to deal with.
#[derive(Debug)]
pub(super) enum Happening {
    Connected(Box<Connack>),
    Message(Publish),
    Published(Ticket, PublishOutcome),
    Subscribed(Answer),
    Unsubscribed(Answer),
    /// There is room to publish again.
    Writable,
    /// No connection any more, and none to come.
    End(Exit),
}

/// A client with its policy.
pub(super) struct Conversation {
    pub(super) client: Client,
    pub(super) say: Diagnostics,
    redial: Redial,
    signals: Signals,
    disconnect: Disconnect,
    timeout: Option<std::time::Duration>,
    deadline: Option<Instant>,
    connected_at: Option<Instant>,
    /// The server's own explanation of the end that is about to come.
    farewell: Option<(ReasonCode, String)>,
}

impl Conversation {
    /// Starts to connect.
    pub(super) fn new(
        plan: &Plan,
        options: &CommonOptions,
        say: Diagnostics,
        attempts_max: u32,
    ) -> std::io::Result<Self> {
        let mut client = Client::new(plan.endpoint.clone(), plan.session.clone());
        if options.behaviour.debug {
            let name = plan.session.connect.client_id.clone();
            let name = if name.is_empty() { "(null)".to_owned() } else { name.to_string() };
            client.observe(Box::new(move |direction, packet| {
                say.write(&format!("{}\n", describe_packet(&name, direction, packet)));
            }));
        }
        let connect = &options.connect;
        Ok(Self {
            client,
            say,
            redial: Redial::new(connect.retry, !connect.no_reconnect, attempts_max),
            signals: Signals::listen()?,
            disconnect: plan.disconnect(),
            timeout: options.behaviour.timeout,
            deadline: None,
            connected_at: None,
            farewell: None,
        })
    }

    /// Works until something concerns the program. Cancel safe.
    pub(super) async fn next(&mut self) -> Happening {
        loop {
            let deadline = self.deadline;
            let timeout = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                signal = self.signals.next() => return Happening::End(Exit::Signal(signal)),
                () = timeout => {
                    self.say.error("timed out (-W)");
                    return Happening::End(Exit::TimedOut);
                }
                event = self.client.next() => event,
            };
            if let Some(happening) = self.digest(event) {
                return happening;
            }
        }
    }

    /// What has happened already.
    pub(super) fn try_next(&mut self) -> Option<Happening> {
        loop {
            let event = self.client.try_next()?;
            if let Some(happening) = self.digest(event) {
                return Some(happening);
            }
        }
    }

    /// Ends the connection in good order. True if everything was written.
    pub(super) async fn hang_up(&mut self) -> bool {
        let disconnect = self.disconnect.clone();
        tokio::select! {
            was_written = self.client.disconnect(disconnect) => was_written,
            // Whoever asks a second time does not want to wait.
            _ = self.signals.next() => false,
        }
    }

    fn digest(&mut self, event: Event) -> Option<Happening> {
        match event {
            Event::Connected(connack) => {
                if self.redial.has_connected() {
                    self.say.note("connected again");
                } else {
                    // As in the Mosquitto clients, -W counts from the first connection.
                    self.deadline = self.timeout.map(|timeout| Instant::now() + timeout);
                }
                self.redial.connected();
                self.connected_at = Some(Instant::now());
                Some(Happening::Connected(connack))
            }
            Event::Message(publish) => Some(Happening::Message(publish)),
            Event::Published(ticket, outcome) => Some(Happening::Published(ticket, outcome)),
            Event::Subscribed(_, answer) => Some(Happening::Subscribed(answer)),
            Event::Unsubscribed(_, answer) => Some(Happening::Unsubscribed(answer)),
            Event::Writable => Some(Happening::Writable),
            Event::Refused(connack) => {
                let Connack { reason_code, properties, .. } = *connack;
                let reference = properties.server_reference.as_deref();
                let words = in_words(reason_code, properties.reason_string.as_deref(), reference);
                self.farewell = Some((reason_code, words));
                None
            }
            Event::Disconnected(disconnect) => {
                let Disconnect { reason_code, reason_string, server_reference, .. } = *disconnect;
                let reference = server_reference.as_deref();
                let words = in_words(reason_code, reason_string.as_deref(), reference);
                self.farewell = Some((reason_code, words));
                None
            }
            Event::OpenFailed(error) => {
                let exit = self.redial.exit();
                self.go_on(true, &error.to_string(), exit)
            }
            Event::Closed(closed) => self.digest_end(&closed),
        }
    }

    fn digest_end(&mut self, closed: &Closed) -> Option<Happening> {
        if let Some(connected_at) = self.connected_at.take() {
            self.redial.lasted(connected_at.elapsed());
        }
        let place = self.client.endpoint().address.to_string();
        let Some((reason_code, words)) = self.farewell.take() else {
            let exit = match closed {
                Closed::Lost(_) => self.redial.exit(),
                Closed::By(_) if is_worth_retrying(closed) => self.redial.exit(),
                Closed::By(_) => Exit::Connect,
            };
            let words = format!("{place}: {closed}");
            return self.go_on(is_worth_retrying(closed), &words, exit);
        };
        let is_refused = matches!(closed, Closed::By(crate::client::session::CloseReason::Refused));
        let (words, exit) = if is_refused {
            let words = format!("{place} refused the connection: {words}{}", advice(reason_code));
            (words, Exit::Refused(reason_code))
        } else {
            (format!("{place} ended the connection: {words}"), Exit::Lost)
        };
        self.go_on(is_transient(reason_code), &words, exit)
    }

    /// Tries again after a pause, or ends.
    fn go_on(&mut self, may_help: bool, words: &str, exit: Exit) -> Option<Happening> {
        let pause = if may_help { self.redial.pause() } else { None };
        let Some(pause) = pause else {
            self.say.error(words);
            return Some(Happening::End(exit));
        };
        self.say.error(&format!("{words}; next attempt in {:.1} s", pause.as_secs_f32()));
        self.client.connect_after(pause);
        None
    }
}

/// A Reason Code in the standard's words, and what the server added.
pub(super) fn in_words(
    reason_code: ReasonCode,
    reason_string: Option<&str>,
    server_reference: Option<&str>,
) -> String {
    let mut words = format!("{reason_code} (0x{:02X})", reason_code.as_u8());
    if let Some(reason) = reason_string {
        words = format!("{words}: {reason}");
    }
    if let Some(server) = server_reference {
        words = format!("{words}; it names {server}");
    }
    words
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most reasons need no advice")]
fn advice(reason_code: ReasonCode) -> &'static str {
    match reason_code {
        ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
            " (say -u NAME and -P PASSWORD)"
        }
        ReasonCode::ClientIdentifierNotValid => " (say -i ID)",
        ReasonCode::UnsupportedProtocolVersion => " (say -V 311)",
        _ => "",
    }
}
