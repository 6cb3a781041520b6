//! Processes: started, woken, killed, stopped; and what they want done.

use crate::cluster::lane::LaneOptions;
use crate::ports::coordination::CoordinationEvent;
use crate::sim::cluster::link::Link;
use crate::sim::cluster::process::{Effect, Process, Start};
use crate::sim::cluster::verdict::Complaint;
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    pub(super) fn restart(&mut self, node: usize) {
        if self.node(node).process.is_some() {
            return;
        }
        self.node(node).starts += 1;
        let start = Start {
            node,
            number: self.node(node).starts,
            now: self.now,
            seed: self.chance.draw(),
            lane: LaneOptions {
                data_bytes_max: self.plan.data_bytes_max,
                control_bytes_max: self.plan.control_bytes_max,
            },
            skew_millis: self.chance.below(self.plan.skew_millis + 1),
            plant: self.plant,
            has_clock: self.habits.retain || self.terms.is_some(),
            terms: self.terms,
            store: self.database.as_ref().map(|it| it.connect(node, self.starts(node))),
        };
        let process = Box::new(Process::new(start));
        self.say(format_args!("b{node} starts as {:?}", process.boot_id));
        self.node(node).process = Some(process);
        self.at(self.now + 5, Happening::Reconnect { node });
        self.arm(node);
    }

    fn starts(&self, node: usize) -> u32 {
        self.nodes.get(node).map_or(0, |node| node.starts)
    }

    pub(super) fn wake(&mut self, node: usize, number: u32) {
        let now = self.now;
        let Some(process) = self.process(node).filter(|process| process.number == number) else {
            return;
        };
        process.wake_at = None;
        process.pass_time(now);
        self.arm(node);
    }

    /// Sees to it that the process is woken when it wants to be.
    pub(super) fn arm(&mut self, node: usize) {
        let now = self.now;
        let Some(process) = self.process(node) else { return };
        let due = process.next_due(now);
        if process.wake_at.is_none_or(|at| at > due) {
            process.wake_at = Some(due);
            let number = process.number;
            self.at(due.max(now + 1), Happening::Wake { node, process: number });
        }
    }

    /// Does what a process wants done. `true` when there was something.
    pub(super) fn carry_out(&mut self, node: usize) -> bool {
        let Some(process) = self.process(node) else { return false };
        let effects = std::mem::take(&mut process.effects);
        let from_boot = process.boot_id;
        let has_any = !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Submit(ticket, request) => {
                    let way = self.ensemble.way(node);
                    let (number, is_connected) = (way.number, way.is_connected);
                    if is_connected {
                        self.ensemble.submit(node, ticket, request, self.now);
                        let at = self.now + self.tree_delay(node);
                        let way = self.ensemble.way(node);
                        way.request_at = way.request_at.max(at);
                        let at = way.request_at;
                        self.at(at, Happening::Request { node, number });
                    } else {
                        let outcome =
                            Err(crate::ports::coordination::CoordinationError::ConnectionLost);
                        let event = CoordinationEvent::Answered { ticket, outcome };
                        let number = None;
                        self.at(self.now + 1, Happening::Told { node, number, event });
                    }
                }
                Effect::Open(member, lane) => {
                    let to = member.name.trim_start_matches('b').parse().unwrap_or(0);
                    let number = self.links.len();
                    let ends = ((node, from_boot), (to, member.boot_id));
                    let link = Link::new(number, &self.ready_links, ends.0, ends.1, lane);
                    self.links.push(link);
                    self.at(self.now + 1, Happening::Dial { link: number, number: 0 });
                }
                Effect::Close(boot_id) => {
                    for link in &mut self.links {
                        if link.from == node && link.to_boot == boot_id {
                            link.is_closed = true;
                        }
                    }
                }
                Effect::CutLink(boot_id) => {
                    let is_it = |link: &Link| link.from == node && link.to_boot == boot_id;
                    if let Some(link) = self.links.iter().rposition(is_it) {
                        self.break_link(link, 0);
                    }
                }
                Effect::LaneChanged(lane) => self.count_lane(lane),
                Effect::Registered => self.spare_the_lonely(),
                Effect::LetGo(kept) => {
                    self.say(format_args!("b{node} lets its clients go: no lease, {kept} kept"));
                    *self.tally.entry("sessions kept without a lease").or_default() += kept as u64;
                    self.ledger.end_connections(from_boot, self.now);
                }
                Effect::Say(words) => self.say(format_args!("b{node} {words}")),
            }
        }
        if has_any {
            self.arm(node);
        }
        has_any
    }

    pub(super) fn crash(&mut self, node: usize) {
        let is_paused = self.node(node).is_paused;
        let Some(process) = self.node(node).process.take() else { return };
        self.say(format_args!("b{node} is killed"));
        self.ledger.end_life(process.boot_id, self.now);
        self.note_forgotten();
        self.ensemble.abandon(node, self.now, is_paused);
        let owner = self.node(node);
        owner.is_paused = false;
        owner.stash.clear();
        for link in 0..self.links.len() {
            let late = self.now + self.chance.pick(&[0, 0, 20, 200]);
            let found = self.link(link);
            if found.from == node && !found.is_closed {
                found.break_off(late);
                found.is_closed = true;
            } else if found.to == node && !found.is_closed {
                found.break_off(0);
                let number = found.number;
                self.tell_link(link, false);
                self.at(self.now + 20, Happening::Dial { link, number });
            }
        }
        for connection in 0..self.lines.len() {
            if self.line(connection).node == node && !self.line(connection).is_over {
                self.line(connection).is_over = true;
                self.at(self.now + 2, Happening::DownEnd { connection });
            }
        }
        let after = self.chance.pick(&[100, 1_000, 2_500, 6_000]);
        self.at(self.now + after, Happening::Restart { node });
    }

    pub(super) fn resume(&mut self, node: usize, process: u32) -> Result<(), Complaint> {
        let is_same = self.process(node).is_some_and(|one| one.number == process);
        if !is_same || !self.node(node).is_paused {
            return Ok(());
        }
        self.say(format_args!("b{node} goes on"));
        self.node(node).is_paused = false;
        let session = self.ensemble.way(node).session;
        if session != 0 && !self.ensemble.tree.is_open(session) {
            self.lose_ensemble(node, 10);
        }
        // Before anything that comes in this moment: nothing overtakes on a socket.
        for happening in std::mem::take(&mut self.node(node).stash) {
            self.happen(happening)?;
        }
        self.arm(node);
        Ok(())
    }
}
