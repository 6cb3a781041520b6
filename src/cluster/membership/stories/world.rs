//! Several brokers and one tree, in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;

use super::super::Membership;
use super::super::output::{MembershipOptions, Output, PeerLease};
use super::super::vetting::Guard;
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::member_record::{self, Seal};
use crate::cluster::shown_time::ShownTime;
use crate::cluster::slots::SlotMap;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::cluster::znodes::Tree;
use crate::ports::clock::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Request, Ticket,
};

/// T of all stories: six seconds.
pub(super) const T: u64 = 6_000;

/// The brokers of a story, called by a letter, and what became of them.
pub(super) struct World {
    pub(super) tree: Tree,
    /// What the clock of the leading server is ahead.
    pub(super) server_ahead_millis: i64,
    pub(super) is_ensemble_up: bool,
    pub(super) now: Tick,
    pub(super) nodes: BTreeMap<char, Node>,
    /// Sessions of processes that are gone, and when they end.
    pub(super) ghosts: Vec<(i64, Tick)>,
    /// Whether composites do what they have to, and promises are checked.
    pub(super) is_checked: bool,
    /// What was said last, by whom to whom, and when.
    pub(super) said: BTreeMap<(char, BootId), (Tick, PeerLease)>,
    /// Pairs whose links are cut, each in order.
    pub(super) unlinked: BTreeSet<(char, char)>,
    /// Programs that speak other versions of the link protocol than ours.
    pub(super) wires: BTreeMap<char, WireVersions>,
    /// Which life has heard which.
    pub(super) heard: BTreeSet<(BootId, BootId)>,
    /// Of the last slot map of each life.
    pub(super) epochs: BTreeMap<BootId, i64>,
    /// Whoever was dead by any of them.
    pub(super) buried: BTreeSet<BootId>,
    pub(super) trace: String,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fault that a story switches on")]
pub(super) struct Node {
    pub(super) membership: Membership,
    pub(super) life: u8,
    pub(super) session: i64,
    pub(super) is_connected: bool,
    /// It gets no time, and nothing that it is told.
    pub(super) is_paused: bool,
    /// The process is gone.
    pub(super) is_dead: bool,
    /// Its requests are made, and their answers lost.
    pub(super) is_deaf: bool,
    /// The connection is lost behind the commit of the next request that has this in it.
    pub(super) cut_after: Option<String>,
    /// It has no clients any more.
    pub(super) has_let_go: bool,
    /// Answers wait.
    pub(super) is_slow: bool,
    /// What watches tell waits.
    pub(super) is_late: bool,
    pub(super) last_heard: Tick,
    /// When it last told the others how its lease stands.
    pub(super) pinged: Tick,
    pub(super) inbox: VecDeque<CoordinationEvent>,
    pub(super) late: VecDeque<CoordinationEvent>,
    pub(super) lease: Tick,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            tree: Tree::new(),
            server_ahead_millis: 0,
            is_ensemble_up: true,
            now: Tick::from_millis(1_000),
            nodes: BTreeMap::new(),
            ghosts: Vec::new(),
            is_checked: false,
            said: BTreeMap::new(),
            unlinked: BTreeSet::new(),
            wires: BTreeMap::new(),
            heard: BTreeSet::new(),
            epochs: BTreeMap::new(),
            buried: BTreeSet::new(),
            trace: String::new(),
        }
    }

    pub(super) fn without_ttl() -> Self {
        Self { tree: Tree::without_ttl(), ..Self::new() }
    }

    /// These brokers join. It leaves no trace, for stories in which that is no news.
    pub(super) fn join(&mut self, names: &str) {
        let verb = if self.is_checked { "start-if-down" } else { "start" };
        self.play_line(&format!("{verb} {names}"));
        self.play_line("run 10");
        self.trace.clear();
    }

    /// These brokers join and serve, without a trace.
    pub(super) fn serve(&mut self, names: &str) {
        self.join(names);
        self.play_line(&format!("set {names} up"));
        self.trace.clear();
    }

    /// Plays a story, a line per event, and returns what came of it.
    pub(super) fn play(mut self, story: &str) -> String {
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.play_line(line);
        }
        self.trace
    }

    /// Plays one event.
    pub(super) fn play_line(&mut self, line: &str) {
        writeln!(self.trace, "{line}").unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        self.event(&words);
        self.settle();
    }

    fn event(&mut self, words: &[&str]) {
        match words {
            ["run", millis] => self.run(millis.parse().unwrap()),
            ["outage"] => {
                self.is_ensemble_up = false;
                self.names().into_iter().for_each(|name| self.disconnect(name));
            }
            ["restore"] => {
                self.is_ensemble_up = true;
                self.tree.change_leader();
                // Another server leads, and gives every session its whole time again.
                self.nodes.values_mut().for_each(|node| node.last_heard = self.now);
                self.ghosts.iter_mut().for_each(|ghost| ghost.1 = self.now.plus_millis(T));
                self.names().into_iter().for_each(|name| self.connect(name));
            }
            ["lead", ahead_millis] => {
                self.tree.change_leader();
                self.server_ahead_millis = ahead_millis.parse().unwrap();
            }
            ["by-hand", "delete", path] => {
                self.by_hand(Change::Delete { path: (*path).to_owned(), version: None });
            }
            ["by-hand", "spoil", path] => {
                let (path, data) = ((*path).to_owned(), Bytes::from_static(b"spoilt"));
                self.by_hand(Change::Set { path, data, version: None });
            }
            ["unlink", one, other] => self.unlink(letter(one), letter(other)),
            ["link", one, other] => {
                self.unlinked.remove(&pair(letter(one), letter(other)));
            }
            ["wipe"] => self.wipe(),
            ["fill", count] => self.fill(count.parse().unwrap()),
            [verb, names, rest @ ..] => {
                names.split(',').for_each(|name| self.event_of(verb, letter(name), rest));
            }
            _ => panic!("no such event: {words:?}"),
        }
    }

    fn event_of(&mut self, verb: &str, name: char, rest: &[&str]) {
        let now = self.now;
        if self.is_checked && !self.is_sensible(verb, name) {
            return;
        }
        match verb {
            "speaks" => self.speaks(name, rest),
            "start" | "start-if-down" => self.start(name, rest),
            "renew" => self.renew(name, rest.first().map_or(T, |millis| millis.parse().unwrap())),
            "cut" => self.disconnect(name),
            "heal" => self.connect(name),
            "expire" => self.tree.expire(self.nodes[&name].session),
            "crash" => {
                let node = self.node(name);
                (node.is_dead, node.is_connected) = (true, false);
                let end = (node.session, now.plus_millis(T));
                self.ghosts.push(end);
            }
            "pause" => self.node(name).is_paused = true,
            "resume" => {
                self.node(name).is_paused = false;
                if !self.tree.is_open(self.nodes[&name].session) {
                    self.disconnect(name);
                    self.connect(name);
                }
            }
            "deaf" => self.node(name).is_deaf = true,
            "cut-after" => self.node(name).cut_after = Some(rest.join(" ")),
            "slow" => self.node(name).is_slow = true,
            "late" => self.node(name).is_late = true,
            // What it asks from now on waits again.
            "answer" => {
                let node = self.node(name);
                node.inbox.append(&mut node.late);
            }
            "deliver" => {
                let node = self.node(name);
                (node.is_late, node.is_slow) = (false, false);
                let late = std::mem::take(&mut node.late);
                node.inbox.extend(late);
            }
            "set" => {
                let state = match rest[0] {
                    "up" => MemberState::Up,
                    "draining" => MemberState::Draining,
                    other => panic!("no such state: {other}"),
                };
                self.node(name).membership.set_state(now, state);
            }
            "leave" => {
                let node = self.node(name);
                node.has_let_go = true;
                node.membership.leave(now);
            }
            "grant" => {
                let millis = rest[0].parse().unwrap();
                self.node(name).membership.set_session_timeout(now, millis);
            }
            "answered" => self.node(name).membership.name_holder_answered(),
            "reborn" => self.be_reborn(name),
            "hears" => self.hear(name, rest),
            "lease" => self.show_lease(name),
            "show" => self.show(name),
            other => panic!("no such event: {other}"),
        }
    }

    /// From its next life on the program of a broker is another one.
    fn speaks(&mut self, name: char, versions: &[&str]) {
        let [oldest, newest] = versions else { panic!("no such versions: {versions:?}") };
        let (oldest, newest) = (oldest.parse().unwrap(), newest.parse().unwrap());
        self.wires.insert(name, WireVersions { oldest, newest });
    }

    fn wire_of(&self, name: char) -> WireVersions {
        self.wires.get(&name).copied().unwrap_or(WireVersions::OURS)
    }

    fn start(&mut self, name: char, cut_after: &[&str]) {
        self.link_to_all(name);
        let life = self.nodes.get(&name).map_or(1, |node| node.life + 1);
        let tickets = TicketSource::new(Owner::Membership);
        let wire = self.wire_of(name);
        let node = Node {
            membership: membership(name, life, tickets, self.now, wire),
            life,
            session: 0,
            is_connected: false,
            is_paused: false,
            is_dead: false,
            is_deaf: false,
            cut_after: None,
            has_let_go: false,
            is_slow: false,
            is_late: false,
            last_heard: self.now,
            pinged: self.now,
            inbox: VecDeque::new(),
            late: VecDeque::new(),
            lease: self.now,
        };
        self.nodes.insert(name, node);
        if let ["cut-after", words @ ..] = cut_after {
            self.node(name).cut_after = Some(words.join(" "));
        }
        self.connect(name);
    }

    /// The client gives its session up before the ensemble does, `millis` from now.
    fn renew(&mut self, name: char, millis: u64) {
        let end = (self.nodes[&name].session, self.now.plus_millis(millis));
        self.ghosts.push(end);
        self.disconnect(name);
        let session = self.tree.open_session();
        let node = self.node(name);
        (node.session, node.is_connected) = (session, true);
        node.inbox.push_back(CoordinationEvent::Expired);
        node.inbox.push_back(CoordinationEvent::Connected { session, is_new: true });
    }

    /// Somebody has emptied the disks of all servers, which takes some time.
    fn wipe(&mut self) {
        self.server_ahead_millis += 1;
        self.names().into_iter().for_each(|name| self.disconnect(name));
        self.settle();
        let sessions = self.tree.open_session();
        self.tree = Tree::new();
        while self.tree.open_session() < sessions {}
        (1..=sessions).for_each(|session| self.tree.expire(session));
        self.names().into_iter().for_each(|name| self.connect(name));
    }

    /// Brokers that nobody runs.
    fn fill(&mut self, count: u8) {
        let session = self.tree.open_session();
        for number in 0..=count {
            let name = format!("x{number}");
            let member = Member {
                name: name.clone().into(),
                boot_id: BootId(u128::from(number)),
                link_address: String::new(),
                zone: String::new(),
                wire: WireVersions::OURS,
                state: MemberState::Joining,
            };
            let change = Change::Create {
                path: format!("/brokers/{name}"),
                data: member_record::encode(&member, None),
                mode: CreateMode::Ephemeral,
            };
            self.tree.apply(session, Request::Change(change), 0).unwrap();
        }
    }

    /// What a composite does with [`Output::DeclaredDead`].
    pub(super) fn be_reborn(&mut self, name: char) {
        self.link_to_all(name);
        let (now, wire) = (self.now, self.wire_of(name));
        let node = self.node(name);
        node.life += 1;
        let tickets = TicketSource::new(Owner::Membership);
        let mut former = std::mem::replace(
            &mut node.membership,
            membership(name, node.life, tickets, now, wire),
        );
        node.membership = membership(name, node.life, former.take_tickets(), now, wire);
        let session = node.session;
        if node.is_connected {
            node.inbox.push_back(CoordinationEvent::Connected { session, is_new: true });
        }
    }

    fn hear(&mut self, name: char, answers: &[&str]) {
        let answers: Vec<(BootId, PeerLease)> = answers
            .iter()
            .map(|answer| {
                let (who, lease) = answer.split_once('=').unwrap();
                let lease = match lease {
                    "yes" => PeerLease::Committed,
                    "no" => PeerLease::Uncommitted,
                    other => panic!("no such lease: {other}"),
                };
                (self.boot_id_of(letter(who)), lease)
            })
            .collect();
        let now = self.now;
        self.node(name).membership.peers_answer(now, &answers);
    }

    fn show_lease(&mut self, name: char) {
        let now = self.now;
        let node = self.node(name);
        let left = i64::try_from(node.lease.as_millis()).unwrap()
            - i64::try_from(now.as_millis()).unwrap();
        assert_eq!(node.lease, node.membership.lease_until());
        let own = node.membership.own_lease(now);
        let frozen = if node.membership.is_frozen(now) { ", frozen" } else { "" };
        self.say(name, &format!("lease {left} ms more, {own:?}{frozen}"));
    }

    fn show(&mut self, name: char) {
        let node = self.node(name);
        let present: Vec<String> = node.membership.present().map(written).collect();
        let suspect: Vec<String> = node.membership.suspect().map(written).collect();
        self.say(name, &format!("present {present:?} suspect {suspect:?}"));
    }

    fn by_hand(&mut self, change: Change) {
        let session = self.tree.open_session();
        self.tree.apply(session, Request::Change(change), 0).unwrap();
        self.tree.expire(session);
    }

    /// Lets time pass until `millis` from now, from one thing that is due to the next.
    fn run(&mut self, millis: u64) {
        let end = self.now.plus_millis(millis);
        self.settle();
        loop {
            let timeouts = self.nodes.values().filter(|node| node.is_running());
            let timeouts = timeouts.filter_map(|node| node.membership.next_timeout());
            let ends = self.nodes.values().filter(|node| self.tree.is_open(node.session));
            let ends = ends.filter(|node| !node.is_heard() && !node.is_dead);
            let ends = ends.map(Node::session_end);
            let ends = ends.chain(self.ghosts.iter().map(|(_, end)| *end));
            let pings = self.nodes.values().filter(|node| self.is_checked && node.is_running());
            let pings = pings.map(Node::ping_due);
            let next = timeouts.chain(ends.filter(|_| self.is_ensemble_up)).chain(pings).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            self.end_sessions();
            self.exchange_pings();
            self.spread_slots();
            let now = self.now;
            for node in self.nodes.values_mut().filter(|node| node.is_running()) {
                if node.membership.next_timeout().is_some_and(|at| at <= now) {
                    let wall_millis = wall_millis(now);
                    let shown = ShownTime { wall_millis, cluster_millis: None };
                    node.membership.handle_timeout(now, shown);
                }
            }
            self.settle();
        }
        self.now = end;
        self.end_sessions();
    }

    fn end_sessions(&mut self) {
        if self.is_ensemble_up {
            let now = self.now;
            for (session, _) in self.ghosts.extract_if(.., |(_, end)| *end <= now) {
                self.tree.expire(session);
            }
        }
        for node in self.nodes.values_mut() {
            if node.is_heard() {
                node.last_heard = self.now;
            } else if self.is_ensemble_up && !node.is_dead && node.session_end() <= self.now {
                self.tree.expire(node.session);
            }
        }
    }

    fn disconnect(&mut self, name: char) {
        let now = self.now;
        let node = self.node(name);
        if !node.is_connected {
            return;
        }
        node.is_connected = false;
        (node.is_deaf, node.cut_after) = (false, None);
        (node.is_late, node.is_slow) = (false, false);
        node.last_heard = now;
        node.inbox.clear();
        node.late.clear();
        node.inbox.push_back(CoordinationEvent::Disconnected);
        let session = node.session;
        self.tree.lose_changes(session);
    }

    fn connect(&mut self, name: char) {
        let node = &self.nodes[&name];
        if node.is_dead || node.is_connected || !self.is_ensemble_up {
            return;
        }
        let (former, is_new) = (node.session, !self.tree.is_open(node.session));
        let session = if is_new { self.tree.open_session() } else { former };
        self.tree.lose_changes(session);
        let now = self.now;
        let node = self.node(name);
        node.session = session;
        node.is_connected = true;
        node.last_heard = now;
        if is_new && former != 0 {
            node.inbox.push_back(CoordinationEvent::Expired);
        }
        node.inbox.push_back(CoordinationEvent::Connected { session, is_new });
    }

    /// Carries everything to where it goes until nothing moves.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let moved = self.names().into_iter().any(|name| self.step(name));
            if !moved {
                return;
            }
        }
        panic!("it does not come to rest:\n{}", self.trace);
    }

    fn step(&mut self, name: char) -> bool {
        self.gather_changes(name);
        let now = self.now;
        let node = self.node(name);
        if !node.is_running() {
            return false;
        }
        if let Some(output) = node.membership.poll_output() {
            self.carry_out(name, output);
            return true;
        }
        let Some(event) = node.inbox.pop_front() else { return false };
        node.membership.handle(now, &event);
        true
    }

    fn gather_changes(&mut self, name: char) {
        let session = self.nodes[&name].session;
        while let Some(change) = self.tree.next_change(session) {
            let node = self.node(name);
            if !node.is_connected {
                continue;
            }
            let line = if node.is_late { &mut node.late } else { &mut node.inbox };
            line.push_back(change);
        }
    }

    fn carry_out(&mut self, name: char, output: Output) {
        if self.is_checked {
            self.act(name, &output);
        }
        let words = match output {
            Output::Submit(ticket, request) => return self.submit(name, ticket, request),
            Output::Lease { until } => {
                self.node(name).lease = until;
                return;
            }
            Output::Heartbeat(_) => return,
            Output::MemberJoined(member) => format!("sees {} {:?}", written(&member), member.state),
            Output::MemberChanged(member) => {
                format!("sees that {} is {:?}", written(&member), member.state)
            }
            Output::MemberSuspect(boot_id) => format!("suspects {}", short(boot_id)),
            Output::MemberBack(boot_id) => format!("has {} back", short(boot_id)),
            Output::MemberDead(boot_id) => format!("buries {}", short(boot_id)),
            Output::Slots(map) => slots_written(&map),
            Output::Leading(true) => "leads".to_owned(),
            Output::Leading(false) => "does not lead any more".to_owned(),
            Output::Registered { listed, absent } => {
                let listed: Vec<String> = listed.iter().map(written).collect();
                let absent: Vec<String> = absent.into_iter().map(short).collect();
                format!("is registered; listed {listed:?} absent {absent:?}")
            }
            Output::NameTaken { holder } => format!("asks {}, who has its name", written(&holder)),
            Output::Fatal(words) => format!("stops: {words}"),
            Output::DeclaredDead => "learns that it is dead".to_owned(),
            Output::Left => "has left".to_owned(),
            Output::Withdrawn => "has withdrawn".to_owned(),
            Output::TtlMissing => "misses TTL nodes".to_owned(),
            Output::Trouble(words) => format!("complains: {words}"),
        };
        self.say(name, &words);
    }

    fn submit(&mut self, name: char, ticket: Ticket, request: Request) {
        let server_millis =
            i64::try_from(wall_millis(self.now)).unwrap() + self.server_ahead_millis;
        let node = &self.nodes[&name];
        let words = node.cut_after.as_deref().filter(|_| node.is_connected);
        let is_last = words.is_some_and(|words| format!("{request:?}").contains(words));
        let outcome = if node.is_connected {
            self.tree.apply(node.session, request, server_millis)
        } else {
            Err(CoordinationError::ConnectionLost)
        };
        if is_last && outcome.is_ok() {
            self.say(name, "is cut off before it hears that this was committed");
            return self.disconnect(name);
        }
        self.gather_changes(name);
        let node = self.node(name);
        if !node.is_deaf {
            let line = if node.is_slow { &mut node.late } else { &mut node.inbox };
            line.push_back(CoordinationEvent::Answered { ticket, outcome });
        }
    }

    fn say(&mut self, name: char, words: &str) {
        let (now, life) = (self.now.as_millis(), self.nodes[&name].life);
        writeln!(self.trace, "    {now:>5} {name}{life} {words}").unwrap();
    }

    pub(super) fn node(&mut self, name: char) -> &mut Node {
        self.nodes.get_mut(&name).unwrap()
    }

    /// Which life of it there is.
    pub(super) fn boot_id_of(&self, name: char) -> BootId {
        boot_id(name, self.nodes[&name].life)
    }

    pub(super) fn names(&self) -> Vec<char> {
        self.nodes.keys().copied().collect()
    }
}

impl Node {
    pub(super) fn is_running(&self) -> bool {
        !self.is_dead && !self.is_paused
    }

    /// Whether the ensemble hears its pings.
    fn is_heard(&self) -> bool {
        self.is_running() && self.is_connected
    }

    pub(super) fn ping_due(&self) -> Tick {
        self.membership.ping_due(self.pinged)
    }

    fn session_end(&self) -> Tick {
        self.last_heard.plus_millis(T)
    }
}

fn membership(
    name: char,
    life: u8,
    tickets: TicketSource,
    now: Tick,
    wire: WireVersions,
) -> Membership {
    let options = MembershipOptions {
        name: name.to_string().into(),
        link_address: format!("{name}:1884"),
        zone: String::new(),
        wire,
        session_timeout_millis: T,
    };
    let mut membership = Membership::new(options, boot_id(name, life), tickets, now);
    membership.set_guard(Box::new(Kind::of(name)));
    membership
}

/// The last of the letters is of another cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Ours,
    Theirs,
}

impl Kind {
    fn of(name: char) -> Self {
        if name < 'f' { Self::Ours } else { Self::Theirs }
    }
}

impl Guard for Kind {
    fn seal(&self, _: &str, _: BootId) -> Seal {
        Seal { cluster: format!("{self:?}"), ..Seal::default() }
    }

    fn objection(&self, name: &str, _: BootId, seal: &Seal) -> Option<String> {
        (seal.cluster != format!("{self:?}")).then(|| format!("{name} is of another cluster"))
    }
}

/// The first byte shows the letter and the life, which is what logs show of it.
pub(super) fn boot_id(name: char, life: u8) -> BootId {
    let letter = u128::from(u32::from(name) - u32::from('a') + 10);
    BootId(((letter << 4) + u128::from(life)) << 120)
}

fn letter(name: &str) -> char {
    name.chars().next().unwrap()
}

pub(super) fn pair(one: char, other: char) -> (char, char) {
    (one.min(other), one.max(other))
}

fn short(boot_id: BootId) -> String {
    boot_id.to_string()[..2].to_owned()
}

fn written(member: &Member) -> String {
    assert!(short(member.boot_id).starts_with(&*member.name));
    short(member.boot_id)
}

fn slots_written(map: &SlotMap) -> String {
    let members: Vec<String> = map
        .members()
        .iter()
        .map(|member| format!("{}:{}", short(*member), map.slots_of(*member)))
        .collect();
    let dead: Vec<String> = map.dead().map(short).collect();
    format!("has slots [{}] dead [{}]", members.join(" "), dead.join(" "))
}

fn wall_millis(now: Tick) -> u64 {
    1_700_000_000_000 + now.as_millis()
}
