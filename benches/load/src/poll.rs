//! Readiness: a level-triggered epoll.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// Bytes to read, and room to write.
    ReadWrite,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token it was registered with.
    pub token: usize,
    /// Whether reading will not block (also at the end of the stream).
    pub readable: bool,
    /// Whether writing will not block.
    pub writable: bool,
}

/// A set of watched descriptors.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel refuses another descriptor.
    pub fn new() -> io::Result<Self> {
        let events = Vec::with_capacity(EVENTS_MAX);
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events })
    }

    /// Watches `fd` for bytes to read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&self, fd: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, event_data(token), flags(Interest::Read))?)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn change(&self, fd: impl AsFd, token: usize, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, event_data(token), flags(interest))?)
    }

    /// Waits for at most `time` and appends what is ready to `ready`.
    ///
    /// # Errors
    /// The kernel refuses; being interrupted is not an error.
    pub fn wait(&mut self, time: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        let time = crate::clock::timespec(time);
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                token: crate::number::index(event.data.u64()),
                readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
                writable: flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn event_data(token: usize) -> EventData {
    EventData::new_u64(crate::number::count(token))
}

fn flags(interest: Interest) -> EventFlags {
    match interest {
        Interest::Read => EventFlags::IN,
        Interest::ReadWrite => EventFlags::IN | EventFlags::OUT,
    }
}

const EVENTS_MAX: usize = 256;
