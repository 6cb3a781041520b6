//! What goes wrong, once it has been drawn.

use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::faults::Fault;
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    pub(super) fn draw_fault(&mut self) {
        let Some(millis) = self.plan.fault_millis else { return };
        if self.is_calm {
            return;
        }
        let again = self.chance.between(millis / 4, millis * 2);
        self.at(self.now + again, Happening::Fault);
        let fault = self.chance.pick(&self.plan.kinds.clone());
        let node = self.chance.place(self.nodes.len());
        let other = self.chance.place(self.nodes.len());
        let short_or_long = self.chance.pick(&[
            200,
            1_000,
            SESSION_MILLIS,
            SESSION_MILLIS * 3 / 2,
            SESSION_MILLIS * 3,
        ]);
        let until = self.now + short_or_long;
        self.note(fault as u64);
        self.say(format_args!("{fault:?} b{node} b{other} {short_or_long}"));
        match fault {
            Fault::LinkBreaks => {
                self.count("links broken");
                if !self.links.is_empty() {
                    let link = self.chance.place(self.links.len());
                    let late = self.chance.pick(&[0, 0, 50, 500]);
                    self.break_link(link, late);
                }
            }
            Fault::LinkCut => self.cut(node, other, until),
            Fault::TreeBreaks => {
                self.count("connections to the ensemble lost");
                let again = self.chance.pick(&[1, 20, 200]);
                self.lose_ensemble(node, again);
            }
            Fault::TreeCut => {
                self.count("ways to the ensemble cut");
                self.ensemble.way(node).blocked_until = until;
                self.lose_ensemble(node, 100);
            }
            Fault::TreeStale => self.make_stale(node),
            Fault::TreeSlow => {
                self.count("ways to the ensemble slow");
                let extra = self.chance.pick(&[100, 500, 1_500]);
                self.ensemble.way(node).slow = (until, extra);
            }
            Fault::TreeLeads => {
                self.count("leaders of the ensemble changed");
                self.ensemble.tree.change_leader();
                self.ensemble.ahead_millis =
                    self.chance.pick(&[-3_600_000, -700, 0, 400, 3_600_000]);
                for node in 0..self.nodes.len() {
                    let again = self.chance.between(10, 300);
                    self.lose_ensemble(node, again);
                }
            }
            Fault::TreeOutage => {
                if self.ensemble.is_up {
                    self.count("outages of the ensemble");
                    for node in 0..self.nodes.len() {
                        self.lose_ensemble(node, 100);
                    }
                    self.ensemble.is_up = false;
                    self.at(until, Happening::Restore);
                }
            }
            Fault::TreeCollects => self.collect_too_early(),
            Fault::DatabaseDown | Fault::DatabaseSlow | Fault::DatabaseInDoubt => {
                self.trouble_database(fault, until);
            }
            Fault::Crash => {
                if self.process(node).is_some() {
                    self.count("processes killed");
                    self.crash(node);
                }
            }
            Fault::Pause => {
                if let Some(process) = self.process(node) {
                    let process = process.number;
                    self.count("processes stopped");
                    self.node(node).is_paused = true;
                    self.at(until, Happening::Resume { node, process });
                }
            }
        }
    }

    fn trouble_database(&mut self, fault: Fault, until: u64) {
        let extra = self.chance.pick(&[20, 100, 700]);
        let often = self.chance.pick(&[2, 10]);
        let Some(database) = &mut self.database else { return };
        let what = if fault == Fault::DatabaseDown {
            database.down_until = until;
            "outages of the database"
        } else if fault == Fault::DatabaseSlow {
            database.slow = (until, extra);
            "database slow"
        } else {
            database.doubtful = (until, often);
            "commits in doubt"
        };
        self.count(what);
    }

    fn cut(&mut self, from: usize, to: usize, until: u64) {
        self.count("links cut");
        let is_both = self.chance.one_in(2);
        self.cuts.insert((from, to), until);
        if is_both {
            self.cuts.insert((to, from), until);
        }
        self.break_cut_links();
    }

    /// Two brokers cannot reach each other until somebody says otherwise.
    pub(super) fn cut_for_good(&mut self, one: usize, other: usize) {
        self.cuts.insert((one, other), u64::MAX);
        self.cuts.insert((other, one), u64::MAX);
        self.break_cut_links();
    }

    fn break_cut_links(&mut self) {
        for link in 0..self.links.len() {
            let (a, b) = (self.link(link).from, self.link(link).to);
            if self.is_cut(a, b) {
                let late = self.chance.pick(&[0, 0, 30]);
                self.break_link(link, late);
            }
        }
    }

    /// The server that a broker talks to is cut off and does not know it yet.
    fn make_stale(&mut self, node: usize) {
        let tree = self.ensemble.tree.clone();
        let way = self.ensemble.way(node);
        if way.is_connected && way.stale.is_none() {
            way.stale = Some(Box::new(tree));
            let number = way.number;
            self.count("followers cut off");
            let after = self.chance.between(200, SESSION_MILLIS * 9 / 10);
            self.at(self.now + after, Happening::Unstale { node, number });
        }
    }
}
