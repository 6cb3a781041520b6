//! What clients do in some runs and not in others.

use crate::mqtt::QoS;
use crate::sim::chance::{Chance, mixed};
use crate::sim::cluster::client::SimClient;
use crate::sim::cluster::ledger::{LATEST, RETAINED};
use crate::sim::cluster::persistent::Lasting;

/// What clients do beside what they do in every run, and what brokers are there for.
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Habits {
    /// Persistent ones come back to any broker, also while their connection to another one stands, or
    /// to two at a time.
    pub move_about: bool,
    /// Some publish retained messages, and some want them.
    pub retain: bool,
    /// Brokers register topics in use, pay for what stands in the tree, keep latest values there, and
    /// relay what no link carries; some clients publish such values, and some want them.
    pub register: bool,
    /// With that: there are no links, and everything is relayed.
    pub relay_all: bool,
}

impl Habits {
    /// None.
    pub const NONE: Self =
        Self { move_about: false, retain: false, register: false, relay_all: false };

    /// Those of the run of a seed. They are drawn apart: the rest of a run is as it is without them.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(mixed(seed ^ HABITS));
        Self {
            move_about: !chance.one_in(3),
            retain: chance.one_in(2),
            // Such a run takes several times as long as another one.
            register: chance.one_in(16),
            relay_all: chance.one_in(4),
        }
    }

    /// Gives them to clients.
    pub(super) fn teach(self, clients: &mut [SimClient], seed: u64) {
        let mut chance = Chance::new(mixed(seed ^ CLIENTS));
        for client in clients {
            let may_move = match client.lasting {
                Lasting::Connection => chance.one_in(4),
                Lasting::Broker => !chance.one_in(4),
                Lasting::Moving | Lasting::Stored => false,
            };
            if self.move_about && may_move {
                client.lasting = Lasting::Moving;
            }
            if self.retain {
                client.retains = chance.one_in(2);
                if chance.one_in(2) {
                    let qos = chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
                    client.wish_for(chance.pick(&RETAINED), qos);
                }
            }
            if self.register {
                client.keeps_latest = chance.one_in(2);
                if chance.one_in(2) {
                    client.wish_for(LATEST, QoS::AtLeastOnce);
                }
            }
        }
    }
}

const HABITS: u64 = 0x6861_6269_7473;
const CLIENTS: u64 = 0x636c_6965_6e74;
