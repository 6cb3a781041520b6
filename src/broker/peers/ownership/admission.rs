//! A connection that waits until its broker may have its Client Identifier.

use std::task::Waker;

use parking_lot::Mutex;

use crate::ports::auth::SessionUser;

/// Shared by the connection, which waits, and the claim that its broker has made.
#[derive(Debug)]
pub struct Admission(Mutex<State>);

#[derive(Debug)]
enum State {
    Waiting(Waker),
    Settled(Admitted),
    Taken,
}

/// What waiting came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admitted {
    /// The Client Identifier is this broker's, and its Session here, if there is one.
    Here,
    /// A newer connection wants it.
    Superseded,
    /// The Session is this other user's, and stays where it is.
    Foreign(SessionUser),
    /// The broker that coordinates it says no, in these words.
    Refused(String),
}

impl Admission {
    pub(super) fn new(waker: &Waker) -> Self {
        Self(Mutex::new(State::Waiting(waker.clone())))
    }

    /// What it has come to; `waker` is kept while it waits.
    #[must_use]
    pub fn poll(&self, waker: &Waker) -> Option<Admitted> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting(_) => {
                *state = State::Waiting(waker.clone());
                None
            }
            State::Settled(admitted) => Some(admitted),
            State::Taken => Some(Admitted::Superseded),
        }
    }

    /// Whom to wake.
    pub(super) fn settle(&self, admitted: Admitted) -> Option<Waker> {
        match std::mem::replace(&mut *self.0.lock(), State::Settled(admitted)) {
            State::Waiting(waker) => Some(waker),
            State::Settled(_) | State::Taken => None,
        }
    }
}
