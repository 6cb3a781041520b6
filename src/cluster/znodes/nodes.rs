//! The znodes themselves: what one change does to them, and how it is taken back.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ports::coordination::{Change, ChangeKind, CoordinationError, CreateMode, Reply, Stat};

/// One znode and all below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Znode {
    pub(super) data: Bytes,
    pub(super) stat: Stat,
    /// How long it lives without a change, where that is bounded.
    pub(super) ttl_millis: Option<u64>,
    pub(super) children: BTreeMap<Box<str>, Znode>,
    /// Goes up with each child that comes or goes: the number of the next sequential one.
    child_changes: u32,
}

/// All znodes, from the root.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    root: Znode,
    count: usize,
}

/// When, and by whom, something is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) zxid: i64,
    pub(super) millis: i64,
    pub(super) session: i64,
}

/// A change that was made: what to answer, whom to tell, and how to take it back.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) reply: Reply,
    pub(super) effect: Option<Effect>,
    undo: Undo,
}

/// What others see of a change.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) path: String,
    pub(super) kind: ChangeKind,
    /// The session that the znode belongs to; 0 for a persistent one.
    pub(super) owner: i64,
}

/// The way back.
#[derive(Debug)]
enum Undo {
    Nothing,
    Remove { path: String },
    Restore { path: String, data: Bytes, stat: Stat },
    PutBack { path: String, node: Box<Znode> },
}

impl Nodes {
    /// How many there are, the root not counted.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The znode at `path`.
    pub(super) fn find(&self, path: &str) -> Result<&Znode, CoordinationError> {
        let mut node = &self.root;
        for name in names(path)? {
            node = node.children.get(name).ok_or(CoordinationError::NoNode)?;
        }
        Ok(node)
    }

    fn find_mut(&mut self, path: &str) -> Result<&mut Znode, CoordinationError> {
        let mut node = &mut self.root;
        for name in names(path)? {
            node = node.children.get_mut(name).ok_or(CoordinationError::NoNode)?;
        }
        Ok(node)
    }

    /// Makes one change.
    pub(super) fn make(&mut self, change: Change, at: Moment) -> Result<Made, CoordinationError> {
        match change {
            Change::Check { path, version } => {
                expect_version(self.find(&path)?, Some(version))?;
                Ok(Made { reply: Reply::Done, effect: None, undo: Undo::Nothing })
            }
            Change::Create { path, data, mode } => self.create(path, data, mode, at),
            Change::Set { path, data, version } => self.set(path, data, version, at),
            Change::Delete { path, version } => self.delete(path, version),
        }
    }

    fn create(
        &mut self,
        path: String,
        data: Bytes,
        mode: CreateMode,
        at: Moment,
    ) -> Result<Made, CoordinationError> {
        bounded(&data)?;
        let (parent_path, name) = split(&path)?;
        let parent = self.find_mut(parent_path)?;
        if parent.stat.ephemeral_owner != 0 {
            return Err(other("an ephemeral znode has no children"));
        }
        let (path, name) = match mode {
            CreateMode::EphemeralSequential => {
                let number = parent.child_changes;
                (format!("{path}{number:010}"), format!("{name}{number:010}"))
            }
            CreateMode::Persistent
            | CreateMode::PersistentWithTtl { .. }
            | CreateMode::Ephemeral => {
                let name = name.to_owned();
                (path, name)
            }
        };
        if name.is_empty() {
            return Err(other("a znode needs a name"));
        }
        if parent.children.contains_key(name.as_str()) {
            return Err(CoordinationError::NodeExists);
        }
        let node = Znode::new(data, mode, at);
        let stat = node.stat;
        parent.children.insert(name.into_boxed_str(), node);
        parent.child_changes += 1;
        self.count += 1;
        Ok(Made {
            reply: Reply::Created { path: path.clone(), stat },
            effect: Some(Effect::new(&path, ChangeKind::Created, stat)),
            undo: Undo::Remove { path },
        })
    }

    fn set(
        &mut self,
        path: String,
        data: Bytes,
        version: Option<i32>,
        at: Moment,
    ) -> Result<Made, CoordinationError> {
        bounded(&data)?;
        let node = self.find_mut(&path)?;
        expect_version(node, version)?;
        let former_stat = node.stat;
        let former_data = std::mem::replace(&mut node.data, data);
        node.stat.mzxid = at.zxid;
        node.stat.mtime_millis = at.millis;
        node.stat.version += 1;
        Ok(Made {
            reply: Reply::Changed(node.stat),
            effect: Some(Effect::new(&path, ChangeKind::DataChanged, node.stat)),
            undo: Undo::Restore { path, data: former_data, stat: former_stat },
        })
    }

    fn delete(&mut self, path: String, version: Option<i32>) -> Result<Made, CoordinationError> {
        let node = self.find(&path)?;
        expect_version(node, version)?;
        if !node.children.is_empty() {
            return Err(CoordinationError::NotEmpty);
        }
        let (parent_path, name) = split(&path)?;
        let parent = self.find_mut(parent_path)?;
        let node = parent.children.remove(name).ok_or(CoordinationError::NoNode)?;
        parent.child_changes += 1;
        self.count -= 1;
        Ok(Made {
            reply: Reply::Done,
            effect: Some(Effect::new(&path, ChangeKind::Deleted, node.stat)),
            undo: Undo::PutBack { path, node: Box::new(node) },
        })
    }

    /// Takes back what [`Self::make`] has made last.
    pub(super) fn take_back(&mut self, made: Made) {
        match made.undo {
            Undo::Nothing => {}
            Undo::Remove { path } => {
                self.on_parent(&path, |parent, name| {
                    parent.children.remove(name);
                });
                self.count -= 1;
            }
            Undo::Restore { path, data, stat } => {
                let node = self.find_mut(&path).expect("it was there a moment ago");
                node.data = data;
                node.stat = stat;
            }
            Undo::PutBack { path, node } => {
                self.on_parent(&path, |parent, name| {
                    parent.children.insert(name.into(), *node);
                });
                self.count += 1;
            }
        }
    }

    fn on_parent(&mut self, path: &str, change: impl FnOnce(&mut Znode, &str)) {
        let (parent_path, name) = split(path).expect("the path was good a moment ago");
        let parent = self.find_mut(parent_path).expect("it was there a moment ago");
        change(parent, name);
        parent.child_changes -= 1;
    }

    /// The paths of up to `most` znodes that have outlived their time, in order.
    pub(super) fn outlived(&self, millis: i64, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        gather_outlived(&self.root, &mut String::new(), millis, most, &mut found);
        found
    }
}

/// Depth is that of the tree our own paths make; nobody else creates them.
fn gather_outlived(
    node: &Znode,
    path: &mut String,
    millis: i64,
    most: usize,
    found: &mut Vec<String>,
) {
    for (name, child) in &node.children {
        if found.len() >= most {
            return;
        }
        let before = path.len();
        path.push('/');
        path.push_str(name);
        if child.has_outlived(millis) {
            found.push(path.clone());
        }
        gather_outlived(child, path, millis, most, found);
        path.truncate(before);
    }
}

impl Znode {
    fn new(data: Bytes, mode: CreateMode, at: Moment) -> Self {
        let (ttl_millis, ephemeral_owner) = match mode {
            CreateMode::Persistent => (None, 0),
            CreateMode::PersistentWithTtl { ttl_millis } => (Some(ttl_millis), 0),
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => (None, at.session),
        };
        let stat = Stat {
            czxid: at.zxid,
            mzxid: at.zxid,
            ctime_millis: at.millis,
            mtime_millis: at.millis,
            version: 0,
            ephemeral_owner,
        };
        Self { data, stat, ttl_millis, children: BTreeMap::new(), child_changes: 0 }
    }

    fn has_outlived(&self, millis: i64) -> bool {
        let age = u64::try_from(millis.saturating_sub(self.stat.mtime_millis)).unwrap_or(0);
        self.children.is_empty() && self.ttl_millis.is_some_and(|ttl_millis| age > ttl_millis)
    }
}

impl Effect {
    fn new(path: &str, kind: ChangeKind, stat: Stat) -> Self {
        Self { path: path.to_owned(), kind, owner: stat.ephemeral_owner }
    }
}

/// The names along a path, from the root.
fn names(path: &str) -> Result<impl Iterator<Item = &str>, CoordinationError> {
    let rest = path.strip_prefix('/').ok_or_else(|| other("a path begins with a slash"))?;
    if !rest.is_empty() && rest.split('/').any(str::is_empty) {
        return Err(other("a path has no empty names"));
    }
    Ok(rest.split('/').filter(|name| !name.is_empty()))
}

/// The path of the parent, and the name below it.
fn split(path: &str) -> Result<(&str, &str), CoordinationError> {
    match path.rsplit_once('/') {
        Some(("", "")) => Err(other("the root is not to be made or ended")),
        Some(("", name)) => Ok(("/", name)),
        Some((parent, name)) => Ok((parent, name)),
        None => Err(other("a path begins with a slash")),
    }
}

fn expect_version(node: &Znode, version: Option<i32>) -> Result<(), CoordinationError> {
    match version {
        Some(version) if version != node.stat.version => Err(CoordinationError::BadVersion),
        Some(_) | None => Ok(()),
    }
}

fn bounded(data: &Bytes) -> Result<(), CoordinationError> {
    if data.len() > DATA_BYTES_MAX {
        return Err(other("a znode holds less than a mebibyte"));
    }
    Ok(())
}

fn other(words: &str) -> CoordinationError {
    CoordinationError::Other(words.to_owned())
}

/// What `jute.maxbuffer` allows a whole request, unless somebody changed it.
const DATA_BYTES_MAX: usize = 0xf_ffff;
