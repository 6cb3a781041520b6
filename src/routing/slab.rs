//! A vector with stable, typed, four-byte ids and reuse of what was freed.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// The place of a `T` in its [`Slab`]. An `Option` of it is four bytes as well.
pub(super) struct Id<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// A number for hashing.
    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    fn from_position(position: usize) -> Self {
        let number = u32::try_from(position + 1).expect("a slab holds fewer than 2^32 values");
        Self(NonZeroU32::new(number).expect("one was added"), PhantomData)
    }

    #[inline]
    fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<T> Clone for Id<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The values. An id is valid from `insert` to `remove`; using it afterwards is a mistake of ours
/// and panics, unless the place has been given to another value.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    first_vacant: Option<Id<T>>,
    len: usize,
}

enum Slot<T> {
    Vacant { next: Option<Id<T>> },
    Occupied(T),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), first_vacant: None, len: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> Id<T> {
        self.len += 1;
        let Some(id) = self.first_vacant else {
            self.slots.push(Slot::Occupied(value));
            return Id::from_position(self.slots.len() - 1);
        };
        let slot = self.slots.get_mut(id.position()).expect("a vacant id is in range");
        match std::mem::replace(slot, Slot::Occupied(value)) {
            Slot::Vacant { next } => self.first_vacant = next,
            Slot::Occupied(_) => unreachable!("the list of vacant slots names vacant slots only"),
        }
        id
    }

    /// Takes the value out. The memory is given back when the last one goes.
    pub(super) fn remove(&mut self, id: Id<T>) -> T {
        let slot = self.slots.get_mut(id.position()).expect("an id is in range");
        match std::mem::replace(slot, Slot::Vacant { next: self.first_vacant }) {
            Slot::Vacant { .. } => unreachable!("an id in use names an occupied slot"),
            Slot::Occupied(value) => {
                self.first_vacant = Some(id);
                self.len -= 1;
                if self.len == 0 {
                    *self = Self::new();
                }
                value
            }
        }
    }

    #[inline]
    pub(super) fn at(&self, id: Id<T>) -> &T {
        match self.slots.get(id.position()) {
            Some(Slot::Occupied(value)) => value,
            Some(Slot::Vacant { .. }) | None => unreachable!("an id in use names a value"),
        }
    }

    #[inline]
    pub(super) fn at_mut(&mut self, id: Id<T>) -> &mut T {
        match self.slots.get_mut(id.position()) {
            Some(Slot::Occupied(value)) => value,
            Some(Slot::Vacant { .. }) | None => unreachable!("an id in use names a value"),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes of the slots, used or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_used_again_and_the_last_one_frees_all() {
        let mut slab = Slab::new();
        let one = slab.insert("one");
        let two = slab.insert("two");
        assert_eq!(slab.remove(one), "one");
        let three = slab.insert("three");
        assert_eq!(one, three);
        assert_eq!((*slab.at(two), *slab.at(three), slab.len()), ("two", "three", 2));
        slab.remove(two);
        slab.remove(three);
        assert_eq!((slab.len(), slab.memory_bytes()), (0, 0));
    }
}
