//! Between brokers and their database.

use crate::ports::store::Completion;
use crate::sim::cluster::database::{Fate, Handed, PATIENCE_MILLIS};
use crate::sim::cluster::verdict::Plant;
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    /// Sends what brokers have handed over. `true` when there was something.
    pub(super) fn send_to_database(&mut self) -> bool {
        let now = self.now;
        let Some(database) = &mut self.database else { return false };
        let handed = database.take_handed();
        let has_any = !handed.is_empty();
        for mut one in handed {
            one.since = now;
            let at = now + self.database_delay();
            let Some(database) = &mut self.database else { continue };
            let at = database.there(one.door, at);
            self.at(at, Happening::AtDatabase { handed: Box::new(one) });
        }
        has_any
    }

    fn database_delay(&mut self) -> u64 {
        let Some(database) = &self.database else { return 0 };
        let (until, extra) = database.slow;
        let slow = if self.now < until { extra } else { 0 };
        1 + self.chance.below(self.plan.database_latency_millis + 1) + slow
    }

    pub(super) fn arrive_at_database(&mut self, handed: Handed) {
        let door = handed.door;
        let is_gone = !self.is_at(door);
        let is_lost = is_gone && self.chance.one_in(2);
        let Some(database) = &mut self.database else { return };
        if is_lost {
            database.cut(door);
        }
        database.arrive(handed);
        self.work_off(door);
    }

    /// Whether the process of a door runs.
    fn is_at(&mut self, door: usize) -> bool {
        let owner = self.database.as_ref().and_then(|database| database.owner(door));
        let Some((node, number)) = owner else { return false };
        self.process(node).is_some_and(|process| process.number == number)
    }

    /// Does what waits at a door, as far as the database is there.
    pub(super) fn work_off(&mut self, door: usize) {
        loop {
            let now = self.now;
            let is_gone = !self.is_at(door);
            let Some(database) = &mut self.database else { return };
            let (down_until, doubtful) = (database.down_until, database.doubtful);
            let Some(handed) = database.take_waiting(door) else { return };
            let is_down = now < down_until;
            if is_down && now < handed.since + PATIENCE_MILLIS {
                let at = down_until.min(handed.since + PATIENCE_MILLIS);
                database.put_back(handed);
                return self.at(at, Happening::DatabaseGoesOn { door });
            }
            let is_in_doubt = now < doubtful.0 && self.chance.one_in(doubtful.1);
            let fate = match (is_down, is_in_doubt) {
                (true, _) => Fate::GivenUp,
                (false, true) if self.chance.one_in(2) => Fate::GivenUp,
                (false, true) => Fate::StoredTwice,
                (false, false) => Fate::Stored,
            };
            if is_gone && matches!(fate, Fate::GivenUp) {
                // It is its process that gives a batch up and goes on with the next: this one is gone.
                return database.cut(door);
            }
            self.count(match fate {
                Fate::Stored => "batches stored",
                Fate::StoredTwice => "batches stored twice",
                Fate::GivenUp => "batches given up",
            });
            let Some(database) = &mut self.database else { return };
            let completion = database.carry_out(handed, &fate);
            let at = self.now + self.database_delay();
            let Some(database) = &mut self.database else { return };
            let at = database.back(door, at);
            self.at(at, Happening::DatabaseAnswers { door, completion: Box::new(completion) });
        }
    }

    pub(super) fn hear_database(&mut self, door: usize, completion: Completion) {
        let now = self.now;
        let owner = self.database.as_ref().and_then(|database| database.owner(door));
        let Some((node, number)) = owner else { return };
        if self.plant == Plant::NoAnswer && self.chance.one_in(20) {
            return;
        }
        if let Some(database) = &mut self.database {
            database.answer(door, completion);
        }
        if let Some(process) = self.process(node).filter(|process| process.number == number) {
            process.hear_store(now);
            self.arm(node);
        }
    }
}
