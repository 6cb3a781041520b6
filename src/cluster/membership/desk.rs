//! What was asked of the tree and is not answered yet, and what is to be handed out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::output::Output;
use crate::cluster::identity::MemberState;
use crate::cluster::paths::{BROKERS, LEADER, SLOTS, below};
use crate::cluster::tickets::TicketSource;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Request, Ticket};

/// Why something was asked.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Asked {
    /// That a fixed znode is there.
    Fixed(&'static str),
    /// To be told of changes below it.
    Watch(&'static str),
    /// The slot map.
    Slots,
    /// Which brokers there are, before this is one of them.
    Around,
    /// What one of those says.
    Neighbour(String),
    /// To have the own znode.
    Register(MemberState),
    /// Who has the name.
    Holder,
    /// That the own znode shows this.
    State(MemberState),
    /// To leave.
    Leave,
    /// How often a broker has registered.
    Registrations,
    /// Which brokers there are.
    Names,
    /// What one of them says.
    Member(String),
    /// Who wants to lead.
    Contenders,
    /// To stand in that line.
    Lock,
    /// That an old place in that line ends.
    OldLock,
    /// That a heartbeat is committed.
    Beat { sent: Tick },
    /// Whose the znode of the heartbeat is.
    BeatHolder,
    /// To have it anew.
    BeatAnew,
    /// That a new map is written.
    Steer,
    /// Whether znodes may have a time to live.
    TtlProbe,
    /// That the probe ends.
    TtlProbeEnd,
}

/// Questions and outputs.
#[derive(Debug)]
pub(super) struct Desk {
    tickets: TicketSource,
    pending: BTreeMap<Ticket, Asked>,
    /// What has changed since it was asked: the answer may be older than the change.
    again: BTreeSet<Asked>,
    outputs: VecDeque<Output>,
}

impl Desk {
    pub(super) fn new(tickets: TicketSource) -> Self {
        Self { tickets, pending: BTreeMap::new(), again: BTreeSet::new(), outputs: VecDeque::new() }
    }

    pub(super) fn into_tickets(self) -> TicketSource {
        self.tickets
    }

    pub(super) fn ask(&mut self, asked: Asked, request: Request) {
        let ticket = self.tickets.draw();
        self.pending.insert(ticket, asked);
        self.say(Output::Submit(ticket, request));
    }

    /// Reads something, and reads it again if that was asked already and not answered yet.
    pub(super) fn read(&mut self, asked: Asked) {
        let Some(request) = asked.reading() else { return };
        if self.is_asked(&asked) {
            self.outdate(asked);
        } else {
            self.ask(asked, request);
        }
    }

    /// What may have been asked for has changed. An answer on its way may be older than that: answers
    /// and what watches tell come by two ways.
    pub(super) fn outdate(&mut self, asked: Asked) {
        if self.is_asked(&asked) {
            self.again.insert(asked);
        }
    }

    /// Whether an answer is on its way.
    pub(super) fn is_asked(&self, asked: &Asked) -> bool {
        self.pending.values().any(|pending| pending == asked)
    }

    /// What the answer with this ticket is the answer to; nothing if nobody waits for it any more.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<Asked> {
        let asked = self.pending.remove(&ticket)?;
        if self.again.remove(&asked) {
            self.read(asked.clone());
        }
        Some(asked)
    }

    /// Nobody waits for any answer any more.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
        self.again.clear();
    }

    pub(super) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.outputs.is_empty()
    }
}

impl Asked {
    /// The request, where it is one that only reads.
    fn reading(&self) -> Option<Request> {
        match self {
            Self::Slots => Some(Request::Get(SLOTS.to_owned())),
            Self::Registrations => Some(Request::Get(BROKERS.to_owned())),
            Self::Names | Self::Around => Some(Request::List(BROKERS.to_owned())),
            Self::Member(name) | Self::Neighbour(name) => Some(Request::Get(below(BROKERS, name))),
            Self::Contenders => Some(Request::List(LEADER.to_owned())),
            Self::Fixed(_)
            | Self::Watch(_)
            | Self::Register(_)
            | Self::Holder
            | Self::State(_)
            | Self::Leave
            | Self::Lock
            | Self::OldLock
            | Self::Beat { .. }
            | Self::BeatHolder
            | Self::BeatAnew
            | Self::Steer
            | Self::TtlProbe
            | Self::TtlProbeEnd => None,
        }
    }
}
