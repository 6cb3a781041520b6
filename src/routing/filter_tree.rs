//! A map from Topic Filters to values, which finds all values whose filter matches a topic.
//!
//! A tree of levels. A level with a name is an edge in one hash table for the whole tree, keyed by
//! the parent and the name, and the name itself is in the node: following an edge reads the table
//! and the node, two or three cache lines, and needs no interning. `+` and `#` are fields of the
//! node. A node exists while it or one below it holds a value.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::{SmallVec, smallvec};

use super::level_name::{LevelName, LongNames};
use super::slab::{Id, Slab};

/// The map. The filters are strings without a share part whose wildcards stand where they may.
pub(super) struct FilterTree<T> {
    root: Id<Node<T>>,
    nodes: Slab<Node<T>>,
    edges: HashTable<Id<Node<T>>>,
    long_names: LongNames,
    len: usize,
    hashing: FixedState,
}

/// A cache line, if a value is sixteen bytes.
#[repr(align(64))]
struct Node<T> {
    name: LevelName,
    /// None in the root only.
    parent: Option<Id<Node<T>>>,
    /// How many edges with a name start here.
    named_children: u32,
    plus: Option<Id<Node<T>>>,
    /// The value of the filter that ends here.
    here: Option<T>,
    /// The value of the filter that ends with `#` below this level; it matches this level, too.
    below: Option<T>,
}

/// Which of the values of a node.
#[derive(Clone, Copy)]
enum Place {
    Here,
    Below,
}

/// A level of the topic looked for.
struct TopicLevel<'a> {
    name: &'a [u8],
    hash: u64,
}

impl<T> FilterTree<T> {
    pub(super) fn new(seed: u64) -> Self {
        let mut nodes = Slab::new();
        Self {
            root: nodes.insert(Node::new(LevelName::Nameless, None)),
            nodes,
            edges: HashTable::new(),
            long_names: LongNames::new(),
            len: 0,
            hashing: FixedState::with_seed(seed),
        }
    }

    /// The value of `filter`, made if there is none.
    pub(super) fn value_or_default(&mut self, filter: &str) -> &mut T
    where
        T: Default,
    {
        let mut at = self.root;
        let mut place = Place::Here;
        for level in filter.split('/') {
            match level {
                "#" => place = Place::Below,
                "+" => at = self.plus_or_new(at),
                name => at = self.child_or_new(at, name.as_bytes()),
            }
        }
        let value = self.nodes.at_mut(at).value_mut(place);
        self.len += usize::from(value.is_none());
        value.get_or_insert_default()
    }

    pub(super) fn value_mut(&mut self, filter: &str) -> Option<&mut T> {
        let (at, place) = self.locate(filter)?;
        self.nodes.at_mut(at).value_mut(place).as_mut()
    }

    pub(super) fn value(&self, filter: &str) -> Option<&T> {
        let (at, place) = self.locate(filter)?;
        self.nodes.at(at).value(place)
    }

    /// Takes the value of `filter` out, and the nodes that were there for it alone.
    pub(super) fn remove(&mut self, filter: &str) -> Option<T> {
        let (at, place) = self.locate(filter)?;
        let value = self.nodes.at_mut(at).value_mut(place).take()?;
        self.len -= 1;
        self.prune(at);
        Some(value)
    }

    /// Shows `visit` the value of every filter that matches `topic`. Wildcards in the first level
    /// match no `$` topic [MQTT-4.7.2-1].
    pub(super) fn visit_matches<'a>(&'a self, topic: &str, mut visit: impl FnMut(&'a T)) {
        let levels: SmallVec<[TopicLevel<'_>; 16]> = topic
            .as_bytes()
            .split(|&byte| byte == b'/')
            .map(|name| self.topic_level(name))
            .collect();
        let is_hidden = topic.starts_with('$');
        let mut pending: SmallVec<[(Id<Node<T>>, usize); 16]> = smallvec![(self.root, 0)];
        while let Some((at, depth)) = pending.pop() {
            let node = self.nodes.at(at);
            let wildcards_count = depth > 0 || !is_hidden;
            if wildcards_count && let Some(value) = &node.below {
                visit(value);
            }
            let Some(level) = levels.get(depth) else {
                if let Some(value) = &node.here {
                    visit(value);
                }
                continue;
            };
            if wildcards_count && let Some(plus) = node.plus {
                pending.push((plus, depth + 1));
            }
            if node.named_children > 0
                && let Some(child) = self.child(at, level.name, level.hash)
            {
                pending.push((child, depth + 1));
            }
        }
    }

    /// How many filters have a value.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many nodes there are beside the root.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The bytes held by the tree, without what its values own.
    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes() + self.long_names.memory_bytes() + self.edges.allocation_size()
    }

    fn plus_or_new(&mut self, parent: Id<Node<T>>) -> Id<Node<T>> {
        if let Some(plus) = self.nodes.at(parent).plus {
            return plus;
        }
        let plus = self.nodes.insert(Node::new(LevelName::Nameless, Some(parent)));
        self.nodes.at_mut(parent).plus = Some(plus);
        plus
    }

    fn child_or_new(&mut self, parent: Id<Node<T>>, name: &[u8]) -> Id<Node<T>> {
        let name_hash = self.name_hash(name);
        if let Some(child) = self.child(parent, name, name_hash) {
            return child;
        }
        let name = self.long_names.keep(name);
        let child = self.nodes.insert(Node::new(name, Some(parent)));
        self.nodes.at_mut(parent).named_children += 1;
        let (nodes, long_names, hashing) = (&self.nodes, &self.long_names, &self.hashing);
        self.edges.insert_unique(edge_hash(hashing, parent, name_hash), child, |&id| {
            let node = nodes.at(id);
            let parent = node.parent.expect("an edge leads to a node with a parent");
            edge_hash(hashing, parent, name_hash_with(hashing, long_names.bytes(&node.name)))
        });
        child
    }

    fn locate(&self, filter: &str) -> Option<(Id<Node<T>>, Place)> {
        let mut at = self.root;
        for level in filter.split('/') {
            match level {
                "#" => return Some((at, Place::Below)),
                "+" => at = self.nodes.at(at).plus?,
                name => at = self.child(at, name.as_bytes(), self.name_hash(name.as_bytes()))?,
            }
        }
        Some((at, Place::Here))
    }

    #[inline]
    fn child(&self, parent: Id<Node<T>>, name: &[u8], name_hash: u64) -> Option<Id<Node<T>>> {
        let is_wanted = |id: &Id<Node<T>>| {
            let node = self.nodes.at(*id);
            node.parent == Some(parent) && self.long_names.bytes(&node.name) == name
        };
        self.edges.find(edge_hash(&self.hashing, parent, name_hash), is_wanted).copied()
    }

    /// Frees `at` and the nodes above it as far as nothing needs them.
    fn prune(&mut self, mut at: Id<Node<T>>) {
        while let Node { parent: Some(parent), .. } = *self.nodes.at(at)
            && self.nodes.at(at).is_unused()
        {
            self.detach(parent, at);
            let node = self.nodes.remove(at);
            self.long_names.release(&node.name);
            at = parent;
        }
        if self.node_count() == 0 {
            self.release_memory();
        }
    }

    /// Of an empty tree.
    fn release_memory(&mut self) {
        let root = self.nodes.remove(self.root);
        self.root = self.nodes.insert(root);
        self.edges = HashTable::new();
    }

    fn detach(&mut self, parent: Id<Node<T>>, child: Id<Node<T>>) {
        if self.nodes.at(parent).plus == Some(child) {
            self.nodes.at_mut(parent).plus = None;
            return;
        }
        let name_hash = self.name_hash(self.long_names.bytes(&self.nodes.at(child).name));
        let hash = edge_hash(&self.hashing, parent, name_hash);
        let edge = self.edges.find_entry(hash, |&id| id == child);
        edge.expect("a node with a name is at the end of an edge").remove();
        self.nodes.at_mut(parent).named_children -= 1;
    }

    #[inline]
    fn topic_level<'a>(&self, name: &'a [u8]) -> TopicLevel<'a> {
        TopicLevel { name, hash: self.name_hash(name) }
    }

    #[inline]
    fn name_hash(&self, name: &[u8]) -> u64 {
        name_hash_with(&self.hashing, name)
    }
}

impl<T> Node<T> {
    fn new(name: LevelName, parent: Option<Id<Self>>) -> Self {
        Self { name, parent, named_children: 0, plus: None, here: None, below: None }
    }

    fn is_unused(&self) -> bool {
        self.here.is_none()
            && self.below.is_none()
            && self.plus.is_none()
            && self.named_children == 0
    }

    fn value(&self, place: Place) -> Option<&T> {
        match place {
            Place::Here => self.here.as_ref(),
            Place::Below => self.below.as_ref(),
        }
    }

    fn value_mut(&mut self, place: Place) -> &mut Option<T> {
        match place {
            Place::Here => &mut self.here,
            Place::Below => &mut self.below,
        }
    }
}

#[inline]
fn name_hash_with(hashing: &FixedState, name: &[u8]) -> u64 {
    let mut hasher = hashing.build_hasher();
    hasher.write(name);
    hasher.finish()
}

#[inline]
fn edge_hash<T>(hashing: &FixedState, parent: Id<Node<T>>, name_hash: u64) -> u64 {
    let mut hasher = hashing.build_hasher();
    hasher.write_u32(parent.number());
    hasher.write_u64(name_hash);
    hasher.finish()
}

const _: () = assert!(size_of::<Node<Box<[u8]>>>() == 64);
