//! Latest values at the end of a run.

use crate::mqtt::QoS;
use crate::ports::clock::Tick;
use crate::sim::cluster::keeping::LATEST_MILLIS;
use crate::sim::cluster::latest::SLACK_MILLIS;
use crate::sim::cluster::ledger::{Draft, FIRST_LATEST, TOPICS};
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::retaining::number_of;

impl World {
    /// One value more for each topic, while nobody is subscribed: every broker has it, who subscribes now
    /// gets it, and when its time is over nobody has it.
    pub(super) fn judge_latest(&mut self) -> Result<(), Complaint> {
        self.say("what is kept as the latest value");
        self.hold_back()?;
        let values = self.publish_latest_once_more();
        self.drain()?;
        let published_at = self.now;
        self.run_until(self.now + SPREAD_MILLIS)?;
        for (topic, number) in &values {
            self.judge_latest_of(*topic, Some(*number))?;
        }
        self.go_ahead()?;
        if self.now < published_at + LATEST_MILLIS - SLACK_MILLIS {
            self.judge_latecomers(&values)?;
        }
        self.hold_back()?;
        self.run_until(published_at + LATEST_MILLIS + SLACK_MILLIS)?;
        for (topic, _) in values {
            self.judge_latest_of(topic, None)?;
        }
        self.go_ahead()
    }

    fn hold_back(&mut self) -> Result<(), Complaint> {
        for client in 0..self.clients.len() {
            let Self { clients, ledger, now, .. } = self;
            clients.get_mut(client).expect("clients are numbered").hold_back(*now, ledger);
            self.flush(client);
        }
        self.drain()
    }

    fn go_ahead(&mut self) -> Result<(), Complaint> {
        for client in &mut self.clients {
            client.go_ahead();
        }
        self.drain()
    }

    fn publish_latest_once_more(&mut self) -> Vec<(usize, usize)> {
        let mut values = Vec::new();
        for topic in FIRST_LATEST..TOPICS.len() {
            let client = self.chance.place(self.clients.len());
            let Self { clients, ledger, now, .. } = self;
            let found = clients.get_mut(client).expect("clients are numbered");
            let number = found.publish(Draft::new(topic, QoS::AtLeastOnce), *now, ledger);
            values.push((topic, number));
            self.flush(client);
        }
        values
    }

    /// All brokers have this value of a topic, or none.
    fn judge_latest_of(&self, topic: usize, value: Option<usize>) -> Result<(), Complaint> {
        let name = TOPICS.get(topic).expect("topics are numbered");
        let now = Tick::from_millis(self.now);
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let kept: Vec<_> = processes
            .map(|process| {
                let message = process.broker.retained_message(name, now);
                let kept = message.map(|it| number_of(&it.payload).unwrap_or(usize::MAX));
                (process.boot_id, kept, process.peers().cluster_millis(now))
            })
            .collect();
        if kept.iter().all(|(_, kept, _)| *kept == value) {
            return Ok(());
        }
        let numbers = kept.iter().map(|(_, kept, _)| *kept).chain([value]).flatten();
        let of: Vec<_> = numbers.map(|number| (number, self.ledger.publication(number))).collect();
        let words =
            format!("{name}: not {value:?} but, by broker and clock, {kept:?}; these are {of:?}");
        complaint(Checker::Latest, words)
    }

    fn judge_latecomers(&mut self, values: &[(usize, usize)]) -> Result<(), Complaint> {
        for client in self.clients.iter().filter(|client| client.wants_latest()) {
            let missed =
                values.iter().find(|(_, number)| !self.ledger.has_come(client.session, *number));
            if let Some((_, number)) = missed {
                let words = format!("client {} came late and has not got {number}", client.number);
                return complaint(Checker::Latest, words);
            }
        }
        self.count("latest values had by who came late");
        Ok(())
    }
}

/// Within which a value is with all brokers when nothing goes wrong. Where the bank has nothing left its
/// broker may have to wait for two seconds and a bit until it is told so, and sends it by link then.
const SPREAD_MILLIS: u64 = 4_000;
