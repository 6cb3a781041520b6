//! The name of a topic level as a node of the filter tree keeps it.

use super::slab::{Id, Slab};

/// Twenty bytes: names of device ids and the like are in the node itself, so that a match reads
/// one cache line less per level.
pub(super) enum LevelName {
    /// The root, or a `+`.
    Nameless,
    /// A name that fits.
    Short { len: u8, bytes: [u8; SHORT_LEN_MAX] },
    /// A name kept elsewhere.
    Long(Id<Box<[u8]>>),
}

/// The names that do not fit into a node.
pub(super) struct LongNames {
    names: Slab<Box<[u8]>>,
    bytes: usize,
}

impl LongNames {
    pub(super) const fn new() -> Self {
        Self { names: Slab::new(), bytes: 0 }
    }

    /// Keeps `name`; [`Self::release`] it in the end.
    pub(super) fn keep(&mut self, name: &[u8]) -> LevelName {
        let mut bytes = [0; SHORT_LEN_MAX];
        let (Some(head), Ok(len)) = (bytes.get_mut(..name.len()), u8::try_from(name.len())) else {
            self.bytes += name.len();
            return LevelName::Long(self.names.insert(name.into()));
        };
        head.copy_from_slice(name);
        LevelName::Short { len, bytes }
    }

    pub(super) fn release(&mut self, name: &LevelName) {
        match name {
            LevelName::Long(id) => self.bytes -= self.names.remove(*id).len(),
            LevelName::Nameless | LevelName::Short { .. } => {}
        }
    }

    /// The name's bytes; none for the root and for a `+`.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, name: &'a LevelName) -> &'a [u8] {
        match name {
            LevelName::Nameless => &[],
            LevelName::Short { len, bytes } => {
                bytes.get(..usize::from(*len)).expect("a short name has its length")
            }
            LevelName::Long(id) => self.names.at(*id),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.names.memory_bytes() + self.bytes + self.names.len() * ALLOCATION_OVERHEAD
    }
}

const SHORT_LEN_MAX: usize = 18;
/// What an allocator adds to a small allocation, about.
const ALLOCATION_OVERHEAD: usize = 12;
const _: () = assert!(size_of::<LevelName>() == 20);
