//! The one task of a shard that looks after everybody who is parked there.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll};
use tokio::io::unix::AsyncFd;

use crate::gateway::mqtt::driver::Link;
use crate::gateway::mqtt::parking::ParkingPlace;
use crate::ports::clock::Tick;

/// Sends connections back to tasks of their own: those whose socket has something, those who are
/// called, and those whose time is up.
pub(super) async fn attend<L: Link>(place: Arc<ParkingPlace<L>>, mut watch: AsyncFd<Poll>) {
    let closing = Closing(place);
    let place = &closing.0;
    let mut events = Events::with_capacity(RESUMED_MAX);
    loop {
        place.answer_calls(RESUMED_MAX);
        let alarm = place.heed_deadlines(RESUMED_MAX);
        tokio::select! {
            () = place.called() => {}
            () = ring(place, alarm) => {}
            Ok(mut readable) = watch.readable_mut() => {
                if look(readable.get_inner_mut(), &mut events).is_ok() && events.is_empty() {
                    readable.clear_ready();
                }
                for event in &events {
                    place.answer_socket(event.token().0);
                }
            }
        }
        // Those who are back have their turns before more come.
        tokio::task::yield_now().await;
    }
}

fn look(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    events.clear();
    poll.poll(events, Some(Duration::ZERO))
}

/// Waits for a moment, or for ever.
async fn ring<L: Link>(place: &ParkingPlace<L>, alarm: Option<Tick>) {
    match alarm {
        Some(at) => tokio::time::sleep_until(place.clock().instant_at(at)).await,
        None => pending().await,
    }
}

/// The attendant goes when its shard ends: so does everybody it looks after.
struct Closing<L: Link>(Arc<ParkingPlace<L>>);

impl<L: Link> Drop for Closing<L> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Connections sent back of one kind before the others have their turn.
const RESUMED_MAX: usize = 256;
