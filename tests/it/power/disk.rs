//! What a disk may hold after the power was cut: all that was synced, and of the rest what chance left.
//!
//! A file keeps what it had at its last fsync; of what was written to it since, any sectors may be there.
//! Names are those of the directory's last fsync, and a beginning of what became of them since.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What was written down of a process, in its order.
pub(super) struct Journal {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// Where each step ends in the file.
    ends: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Create { name: String, file: u64 },
    Write { file: u64, offset: usize, bytes: Range<usize> },
    Truncate { file: u64, len: usize },
    Sync { file: u64 },
    Rename { from: String, to: String },
    Unlink { name: String },
    SyncDirectory,
}

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsynced {
    Lost,
    Kept,
    /// Some of it, by a seed.
    Some(u64),
}

/// A disk while the journal is played.
#[derive(Default)]
struct Disk {
    files: Vec<Contents>,
    /// Which of them an inode is now: inodes are given again.
    inodes: BTreeMap<u64, usize>,
    names: BTreeMap<String, usize>,
    renamed: Vec<Naming>,
}

#[derive(Default)]
struct Contents {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Range<usize>),
    Truncate(usize),
}

enum Naming {
    Link(String, usize),
    Move(String, String),
    Remove(String),
}

impl Journal {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (mut steps, mut ends, mut at) = (Vec::new(), Vec::new(), 0);
        while at < bytes.len() {
            steps.push(step(&bytes, &mut at));
            ends.push(at as u64);
        }
        Self { bytes, steps, ends }
    }

    /// How many steps there are before, and after, each fsync.
    pub(super) fn boundaries(&self) -> Vec<usize> {
        let is_sync = |step: &Step| matches!(step, Step::Sync { .. } | Step::SyncDirectory);
        let syncs = self.steps.iter().enumerate().filter(|(_, step)| is_sync(step));
        syncs.flat_map(|(place, _)| [place, place + 1]).collect()
    }

    /// Where the first `steps` of it end in the file.
    pub(super) fn end_of(&self, steps: usize) -> u64 {
        steps.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Puts into `directory` what a disk holds of the first `steps` of it.
    pub(super) fn cut(&self, steps: usize, unsynced: Unsynced, directory: &Path) {
        let mut disk = Disk::default();
        for step in &self.steps[..steps] {
            disk.take(step, &self.bytes);
        }
        let mut chance = Chance::of(unsynced);
        for (name, file) in disk.names_left(&mut chance) {
            let contents = disk.files[file].left(&self.bytes, &mut chance);
            std::fs::write(directory.join(name), contents).unwrap();
        }
    }
}

impl Disk {
    fn take(&mut self, step: &Step, journal: &[u8]) {
        match step {
            Step::Create { name, file } => {
                self.files.push(Contents::default());
                self.inodes.insert(*file, self.files.len() - 1);
                self.renamed.push(Naming::Link(name.clone(), self.files.len() - 1));
            }
            Step::Write { file, offset, bytes } => {
                self.of(*file).pending.push(Change::Write(*offset, bytes.clone()));
            }
            Step::Truncate { file, len } => self.of(*file).pending.push(Change::Truncate(*len)),
            Step::Sync { file } => {
                let contents = self.of(*file);
                for change in std::mem::take(&mut contents.pending) {
                    change.apply(&mut contents.synced, journal, &mut Chance::Always);
                }
            }
            Step::Rename { from, to } => {
                self.renamed.push(Naming::Move(from.clone(), to.clone()));
            }
            Step::Unlink { name } => self.renamed.push(Naming::Remove(name.clone())),
            Step::SyncDirectory => {
                for naming in std::mem::take(&mut self.renamed) {
                    naming.apply(&mut self.names);
                }
            }
        }
    }

    fn of(&mut self, inode: u64) -> &mut Contents {
        let file = self.inodes[&inode];
        &mut self.files[file]
    }

    fn names_left(&self, chance: &mut Chance) -> BTreeMap<String, usize> {
        let mut names = self.names.clone();
        for naming in self.renamed.iter().take_while(|_| chance.keeps()) {
            naming.apply(&mut names);
        }
        names
    }
}

impl Contents {
    fn left(&self, journal: &[u8], chance: &mut Chance) -> Vec<u8> {
        let mut contents = self.synced.clone();
        for change in &self.pending {
            change.apply(&mut contents, journal, chance);
        }
        contents
    }
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>, journal: &[u8], chance: &mut Chance) {
        match self {
            Self::Truncate(len) if chance.keeps() => contents.resize(*len, 0),
            Self::Truncate(_) => {}
            Self::Write(offset, bytes) => {
                let (mut at, mut from) = (*offset, bytes.start);
                while from < bytes.end {
                    let part = (SECTOR - at % SECTOR).min(bytes.end - from);
                    if chance.keeps() {
                        contents.resize(contents.len().max(at + part), 0);
                        contents[at..at + part].copy_from_slice(&journal[from..from + part]);
                    }
                    (at, from) = (at + part, from + part);
                }
            }
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Move(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

/// Whether a piece is there.
enum Chance {
    Always,
    Never,
    Mixed(u64),
}

impl Chance {
    fn of(unsynced: Unsynced) -> Self {
        match unsynced {
            Unsynced::Lost => Self::Never,
            Unsynced::Kept => Self::Always,
            Unsynced::Some(seed) => Self::Mixed(seed),
        }
    }

    fn keeps(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Mixed(state) => {
                // SplitMix64.
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (mixed ^ (mixed >> 31)) & 1 == 1
            }
        }
    }
}

/// One record of `journal.c`.
fn step(bytes: &[u8], at: &mut usize) -> Step {
    let mut take = |count: usize| {
        *at += count;
        *at - count..*at
    };
    let number = |place: Range<usize>| {
        let field = &bytes[place];
        let mut whole = [0; 8];
        whole[..field.len()].copy_from_slice(field);
        u64::from_ne_bytes(whole)
    };
    let size = |number: u64| usize::try_from(number).unwrap();
    let (kind, name_len) = (number(take(4)), number(take(4)));
    let (file, offset, bytes_len) = (number(take(8)), number(take(8)), number(take(8)));
    let name = |place: Range<usize>| {
        let path = std::str::from_utf8(&bytes[place]).unwrap();
        Path::new(path).file_name().map_or("", |name| name.to_str().unwrap()).to_owned()
    };
    let from = name(take(size(name_len)));
    let rest = take(size(bytes_len));
    match kind {
        1 => Step::Create { name: from, file },
        2 => Step::Write { file, offset: size(offset), bytes: rest },
        3 => Step::Truncate { file, len: size(offset) },
        4 => Step::Sync { file },
        5 => Step::Rename { from, to: name(rest) },
        6 => Step::Unlink { name: from },
        7 => Step::SyncDirectory,
        other => panic!("there is no kind {other}"),
    }
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
