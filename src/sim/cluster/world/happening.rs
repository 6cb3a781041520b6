//! What happens at a moment, and to whom.

use bytes::Bytes;

use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::mqtt::Packet;
use crate::ports::clock::Tick;
use crate::ports::coordination::CoordinationEvent;
use crate::ports::store::Completion;
use crate::sim::cluster::database::Handed;
use crate::sim::cluster::verdict::Complaint;
use crate::sim::cluster::world::World;

/// Something that happens at its time.
pub(super) enum Happening {
    /// A process wanted to be woken.
    Wake {
        node: usize,
        process: u32,
    },
    /// A request comes to the ensemble.
    Request {
        node: usize,
        number: u64,
    },
    /// The ensemble's words come to a broker; by which connection, if by any.
    Told {
        node: usize,
        number: Option<u64>,
        event: CoordinationEvent,
    },
    /// A broker tries to reach the ensemble.
    Reconnect {
        node: usize,
    },
    /// A batch comes to the database.
    AtDatabase {
        handed: Box<Handed>,
    },
    /// The database may be there again.
    DatabaseGoesOn {
        door: usize,
    },
    /// What the database says comes to a broker.
    DatabaseAnswers {
        door: usize,
        completion: Box<Completion>,
    },
    /// A server that was cut off lets its clients go.
    Unstale {
        node: usize,
        number: u64,
    },
    /// The ensemble looks for sessions to end.
    Sessions,
    /// The ensemble collects what it has found to have outlived its time, and looks again.
    Collect,
    /// The ensemble can be reached again.
    Restore,
    /// A link is to be dialled.
    Dial {
        link: usize,
        number: u64,
    },
    Hello {
        link: usize,
        number: u64,
        hello: Box<Hello>,
    },
    Welcome {
        link: usize,
        number: u64,
        welcome: Welcome,
    },
    Batch {
        link: usize,
        number: u64,
        bytes: Bytes,
    },
    Received {
        link: usize,
        number: u64,
        cursors: Cursors,
    },
    /// A process has something to send again, after it stood still.
    Pump {
        link: usize,
    },
    Up {
        connection: usize,
        bytes: Bytes,
    },
    UpEnd {
        connection: usize,
    },
    Down {
        connection: usize,
        packet: Box<Packet>,
    },
    DownEnd {
        connection: usize,
    },
    Timer {
        connection: usize,
        at: Tick,
    },
    Act {
        client: usize,
    },
    Fault,
    Resume {
        node: usize,
        process: u32,
    },
    Restart {
        node: usize,
    },
}

impl World {
    /// The machine whose process is to handle it.
    fn addressee(&mut self, happening: &Happening) -> Option<usize> {
        match happening {
            Happening::Wake { node, .. } | Happening::Told { node, .. } => Some(*node),
            Happening::DatabaseAnswers { door, .. } => {
                self.database.as_ref()?.owner(*door).map(|owner| owner.0)
            }
            Happening::Hello { link, .. } | Happening::Batch { link, .. } => {
                Some(self.link(*link).to)
            }
            Happening::Dial { link, .. }
            | Happening::Welcome { link, .. }
            | Happening::Received { link, .. }
            | Happening::Pump { link } => Some(self.link(*link).from),
            Happening::Up { connection, .. }
            | Happening::UpEnd { connection }
            | Happening::Timer { connection, .. } => Some(self.line(*connection).node),
            Happening::AtDatabase { .. }
            | Happening::DatabaseGoesOn { .. }
            | Happening::Request { .. }
            | Happening::Reconnect { .. }
            | Happening::Unstale { .. }
            | Happening::Sessions
            | Happening::Collect
            | Happening::Restore
            | Happening::Down { .. }
            | Happening::DownEnd { .. }
            | Happening::Act { .. }
            | Happening::Fault
            | Happening::Resume { .. }
            | Happening::Restart { .. } => None,
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) -> Result<(), Complaint> {
        if let Some(node) = self.addressee(&happening)
            && self.node(node).is_paused
        {
            self.node(node).stash.push_back(happening);
            return Ok(());
        }
        match happening {
            Happening::Wake { node, process } => self.wake(node, process),
            Happening::Request { node, number } => self.arrive_at_ensemble(node, number),
            Happening::Told { node, number, event } => self.be_told(node, number, &event),
            Happening::Reconnect { node } => self.reconnect(node),
            Happening::Unstale { node, number } => {
                if self.ensemble.way(node).number == number {
                    self.lose_ensemble(node, 50);
                }
            }
            Happening::AtDatabase { handed } => self.arrive_at_database(*handed),
            Happening::DatabaseGoesOn { door } => self.work_off(door),
            Happening::DatabaseAnswers { door, completion } => {
                self.hear_database(door, *completion);
            }
            Happening::Sessions => self.end_sessions(),
            Happening::Collect => return self.collect(),
            Happening::Restore => self.restore_ensemble(),
            Happening::Dial { link, number } => self.dial(link, number),
            Happening::Hello { link, number, hello } => self.arrive_hello(link, number, &hello),
            Happening::Welcome { link, number, welcome } => {
                return self.arrive_welcome(link, number, &welcome);
            }
            Happening::Batch { link, number, bytes } => self.arrive_batch(link, number, bytes),
            Happening::Received { link, number, cursors } => {
                return self.arrive_received(link, number, cursors);
            }
            Happening::Pump { link } => return self.pump(link),
            Happening::Up { connection, bytes } => {
                let line = self.line(connection);
                if !line.is_over {
                    line.endpoint.arrive(bytes);
                }
            }
            Happening::UpEnd { connection } => self.line(connection).endpoint.arrive_end(),
            Happening::Down { connection, packet } => {
                return self.arrive_down(connection, *packet);
            }
            Happening::DownEnd { connection } => self.arrive_end(connection),
            Happening::Timer { connection, at } => self.line(connection).endpoint.ring(at),
            Happening::Act { client } => self.act(client),
            Happening::Fault => self.draw_fault(),
            Happening::Resume { node, process } => return self.resume(node, process),
            Happening::Restart { node } => self.restart(node),
        }
        Ok(())
    }
}
