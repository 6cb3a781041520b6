//! What a broker that has died had retained, or deleted, and may not have told everybody.
//!
//! Every change goes to every broker from the one that it was published at. When that one dies, some may
//! have heard of it and others not, and nobody is left who would tell them: so everybody who knows of a
//! change tells all others, and the higher version wins as always. So does who came when the dead one was
//! gone and has it from somebody who may be dead by now as well. Of what is older than deletions are
//! remembered everybody has heard. What only the tree of znodes still knows is told by who finds it there:
//! others may be cut off from the tree for as long as it is kept.

use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::retained::{State, told};
use crate::broker::peers::tombstones::TOMBSTONE_MILLIS;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::lane::Lane;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;

/// What is still to be told, in the order in which brokers died.
#[derive(Default)]
pub(super) struct Legacies(Vec<Legacy>);

/// What one of them has left.
struct Legacy {
    dead: BootId,
    /// When it was last heard of, in milliseconds since 1970 on the cluster clock.
    heard_millis: u64,
    /// The latest changes first; `None` before they were looked for.
    topics: Option<Vec<TopicName>>,
    heirs: Vec<Heir>,
}

/// What may still be told in a turn.
struct Room {
    topics: usize,
    bytes: usize,
}

/// Who is told.
struct Heir {
    boot_id: BootId,
    /// How many of the topics it has been told of.
    told: usize,
    /// The last of the control frames that say so.
    last_seq: u64,
    /// How often what it was told had been given up by then.
    cuts: u64,
}

impl Turn<'_> {
    /// `dead` was declared dead: the others are to know what it had retained. They are told by
    /// [`Self::tell_legacies`].
    pub(super) fn inherit(&self, peers: &Peers, dead: &Peer) {
        peers.inherit_of(dead.boot_id(), dead.heard().at.min(self.now));
    }

    /// The same of one that was gone when we came: others may have told us what nobody else knows any more.
    pub(super) fn inherit_of_unmet(&self, peers: &Peers, dead: BootId) {
        peers.inherit_of(dead, self.now);
    }

    /// Whether a change is of a broker that died not long ago, and nobody has told us of it.
    pub(in crate::broker) fn is_left_behind(&self, peers: &Peers, value: &RetainedValue) -> bool {
        let RetainedValue { topic, version, .. } = value;
        let since = peers.cluster_millis(self.now).saturating_sub(TOMBSTONE_MILLIS);
        version.millis() >= since
            && peers.find(version.boot_id).is_none()
            && peers.retained.lock().is_later(topic, *version)
    }

    /// Takes what the tree of znodes says of a topic. If it is of a broker that has died, it may have had the
    /// time to write it there and not to tell everybody: the others are to know it.
    pub(super) fn merge_found(&mut self, peers: &Peers, value: RetainedValue) {
        let is_left_behind = self.is_left_behind(peers, &value);
        let (dead, topic) = (value.version.boot_id, value.topic.clone());
        self.merge_value(peers, value);
        if is_left_behind && !peers.inherit_topic(dead, topic) {
            self.shard.counters.retained_untold.increment();
        }
    }

    /// Tells peers that keep up some more of what the dead had retained. To be called now and then.
    pub(super) fn tell_legacies(&mut self, peers: &Peers) {
        let live = peers.live();
        let find = |boot_id| live.iter().find(|peer| peer.boot_id() == boot_id);
        let mut state = peers.retained.lock();
        let mut legacies = std::mem::take(&mut state.legacies.0);
        let mut room = Room { topics: TURN_TOPICS_MAX, bytes: TURN_BYTES_MAX };
        for Legacy { dead, heard_millis, topics, heirs } in &mut legacies {
            heirs.retain(|heir| find(heir.boot_id).is_some());
            if heirs.is_empty() {
                continue;
            }
            let topics =
                topics.get_or_insert_with(|| self.changed_by(&state, *dead, *heard_millis));
            heirs.retain_mut(|heir| {
                let Some(peer) = find(heir.boot_id) else { return false };
                heir.begin_again_if_lost(peer.lane());
                let untold = topics.get(heir.told..).unwrap_or_default();
                if !untold.is_empty() && peer.lane().has_control_room() {
                    heir.told += self.tell_some(peers, &state, (*dead, peer), untold, &mut room);
                    heir.last_seq = peer.lane().counts().offered.control;
                }
                heir.told < topics.len() || peer.lane().gone().control < heir.last_seq
            });
        }
        legacies.retain(|legacy| !legacy.heirs.is_empty());
        state.legacies.0 = legacies;
    }

    /// What `dead` changed in its last minutes, the latest first.
    fn changed_by(&self, state: &State, dead: BootId, heard_millis: u64) -> Vec<TopicName> {
        let since = heard_millis.saturating_sub(TOMBSTONE_MILLIS);
        let of_dead = |millis: u64, boot_id| boot_id == dead && millis >= since;
        let changed = state.versions.iter();
        let changed = changed.filter(|(_, version)| of_dead(version.millis(), version.boot_id));
        let mut changed: Vec<_> = changed.collect();
        changed.sort_unstable_by_key(|(_, version)| std::cmp::Reverse(**version));
        let untold = changed.len().saturating_sub(TOPICS_MAX);
        self.shard.counters.retained_untold.add(u64::try_from(untold).unwrap_or(u64::MAX));
        changed.into_iter().take(TOPICS_MAX).map(|(topic, _)| topic.clone()).collect()
    }

    /// Tells `heir` of these topics while there is room. Returns of how many.
    fn tell_some(
        &mut self,
        peers: &Peers,
        state: &State,
        (dead, heir): (BootId, &Peer),
        topics: &[TopicName],
        room: &mut Room,
    ) -> usize {
        let mut count = 0;
        for topic in topics {
            if room.topics == 0 || room.bytes == 0 {
                break;
            }
            count += 1;
            room.topics -= 1;
            // What has changed since then came from somebody who lives.
            let version = state.versions.get(topic).filter(|version| version.boot_id == dead);
            let Some(&version) = version else { continue };
            let layers = self.broker.retained.read().layers(topic.as_str(), self.now.as_millis());
            let value = match layers.lasting {
                Some(kept) => {
                    room.bytes = room.bytes.saturating_sub(kept.bytes_pinned);
                    told(peers, topic, &kept, version)
                }
                None if state.has_deletion(topic) => {
                    RetainedValue { topic: topic.clone(), version, message: None }
                }
                None => continue,
            };
            self.tell(heir, &ControlFrame::Retained(value));
        }
        count
    }
}

impl Heir {
    fn new(boot_id: BootId) -> Self {
        Self { boot_id, told: 0, last_seq: 0, cuts: 0 }
    }

    /// What it was told and has not received it never will when the stream was cut.
    fn begin_again_if_lost(&mut self, lane: &Lane) {
        let cuts = lane.counts().cuts;
        if cuts != self.cuts {
            *self = Self { cuts, ..Self::new(self.boot_id) };
        }
    }
}

impl Legacies {
    /// One of all of `live` that has not been begun, to which topics of `dead` may be added.
    fn unbegun(&mut self, dead: BootId, live: usize) -> Option<&mut Vec<TopicName>> {
        let is_unbegun = |one: &&mut Legacy| {
            let is_told = |heir: &Heir| heir.told > 0 || heir.last_seq > 0;
            one.dead == dead && one.heirs.len() == live && !one.heirs.iter().any(is_told)
        };
        self.0.iter_mut().filter(is_unbegun).find_map(|one| one.topics.as_mut())
    }

    /// Nothing of it is ours to tell: we were dead ourselves.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Peers {
    /// The others are to know what a broker had retained that was last heard of then.
    pub(in crate::broker) fn inherit_of(&self, dead: BootId, heard_at: Tick) {
        let heard_millis = self.cluster_millis(heard_at);
        let heirs = self.heirs();
        let legacy = Legacy { dead, heard_millis, topics: None, heirs };
        self.retained.lock().legacies.0.push(legacy);
    }

    /// The others are to know what a broker that is dead had retained for one topic. `false` when there is
    /// too much to be told.
    fn inherit_topic(&self, dead: BootId, topic: TopicName) -> bool {
        let heirs = self.heirs();
        let legacies = &mut self.retained.lock().legacies;
        if let Some(topics) = legacies.unbegun(dead, heirs.len()) {
            let has_room = topics.len() < TOPICS_MAX;
            topics.extend(has_room.then_some(topic));
            return has_room;
        }
        legacies.0.push(Legacy { dead, heard_millis: 0, topics: Some(vec![topic]), heirs });
        true
    }

    /// Everybody else, told of nothing yet.
    fn heirs(&self) -> Vec<Heir> {
        self.live().iter().map(|peer| Heir::new(peer.boot_id())).collect()
    }

    /// Whether there is something to be told of what brokers had retained that are dead.
    #[must_use]
    pub fn has_legacies(&self) -> bool {
        !self.retained.lock().legacies.0.is_empty()
    }
}

/// Topics of one broker that others are told of: of the latest changes somebody is most likely not to
/// have heard.
const TOPICS_MAX: usize = 16_384;
/// Topics and bytes that others are told at a time.
const TURN_TOPICS_MAX: usize = 4_096;
const TURN_BYTES_MAX: usize = 4 * 1_024 * 1_024;
