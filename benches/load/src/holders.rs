//! Clients that hold many distinct filters together.

use crate::{
    error::LoadError,
    floor::Side,
    frames::Version,
    number::count,
    target::{Opening, Session, Target, hello},
    wire::{Start, digits},
};

/// The clients. Dropping them ends their Sessions.
#[derive(Debug)]
pub struct Holders(Vec<Session>);

impl Holders {
    /// Connects them. They hold nothing yet.
    ///
    /// # Errors
    /// One is refused.
    pub fn open(target: &Target) -> Result<Self, LoadError> {
        let open = |at| {
            target.open(&Opening {
                version: Version::V311,
                client_id: &format!("load-holder-{at}"),
                start: Start::Clean,
                hello: hello(Side::Subscriber, at, 0),
            })
        };
        Ok(Self((0..HOLDERS).map(open).collect::<Result<_, _>>()?))
    }

    /// Subscribes to so many filters in all, as many each; tells how many these are.
    ///
    /// # Errors
    /// A Subscription is refused.
    pub fn subscribe(&mut self, filters: u64) -> Result<u64, LoadError> {
        let each = filters / count(HOLDERS);
        for (at, session) in self.0.iter_mut().enumerate() {
            let filter = |number| format!("load/{at:02}/{}/+", digits(number));
            session.subscribe(&(0..each).map(filter).collect::<Vec<_>>(), 0)?;
        }
        Ok(each * count(HOLDERS))
    }
}

const HOLDERS: usize = 10;
