//! What outlives the broker: it is killed, started again on the same directory, and asked.

mod broken_disk;
mod damage;
mod encrypted;
mod failover;
mod killed_under_load;
mod large;
mod levels;
mod overflow;
mod postgres;
mod repeats;
mod replays;
mod server_trouble;
mod sessions;
mod shared;
mod trouble;
mod wills;

use std::cell::RefCell;

use crate::conformance::{Client, Publish, Stage, Version, ack, kind};
use crate::harness::{Broker, free_port};

/// A broker that can be killed, and who talks to it before and after.
pub(crate) struct Mortal {
    pub(crate) broker: Broker,
    pub(crate) stage: Stage,
}

impl Mortal {
    /// One that has stored nothing.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let port = free_port().to_string();
        let database = DATABASE.with_borrow(Clone::clone);
        let database = database.iter().flat_map(|database| ["--db", database]);
        let place: Vec<_> = ["--port", &port].into_iter().chain(database).collect();
        let broker = Broker::start(&[&place, arguments].concat());
        let stage = broker.stage(Version::V5);
        Self { broker, stage }
    }

    /// One in this environment, in which it is started again as well.
    pub(crate) fn start_in(environment: &[(&str, &str)]) -> Self {
        let port = free_port().to_string();
        let broker = Broker::start_in(environment, |_directory| vec!["--port".to_owned(), port]);
        let stage = broker.stage(Version::V5);
        Self { broker, stage }
    }

    /// Kills it and starts it again.
    pub(crate) fn die_and_rise(&mut self) {
        self.broker.kill();
        self.broker.start_again();
    }

    /// Stops it in order and starts it again.
    pub(crate) fn restart(&mut self) {
        self.broker.terminate();
        self.broker.start_again();
    }

    /// The client of this name, whose Session is kept.
    pub(crate) fn keeper(&self, name: &str) -> Client {
        self.stage.enter(&self.stage.connect(name).kept()).unwrap()
    }
}

thread_local! {
    /// What the brokers of this test keep things in; in their directories where there is nothing.
    static DATABASE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Takes so many messages and completes their handshakes, whatever comes in between.
pub(crate) fn take(client: &mut Client, count: usize) -> Vec<Publish> {
    let (mut messages, mut unreleased) = (Vec::new(), 0);
    while messages.len() < count || unreleased > 0 {
        let packet = client.packet().unwrap();
        if packet.kind() == kind::PUBREL {
            client.send(&ack(kind::PUBCOMP, packet.acknowledgement().unwrap().id));
            unreleased -= 1;
            continue;
        }
        let message = packet.publish().unwrap();
        match message.qos {
            0 => {}
            1 => client.send(&ack(kind::PUBACK, message.id)),
            _ => {
                client.send(&ack(kind::PUBREC, message.id));
                unreleased += 1;
            }
        }
        messages.push(message);
    }
    messages
}
