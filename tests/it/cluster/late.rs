//! What somebody gets who subscribes late.

use std::time::{Duration, Instant};

use crate::conformance::{Client, Publish};

/// What a new Subscription is sent, up to a message that is published then.
#[track_caller]
pub(crate) fn first_messages(client: &mut Client, filter: &str) -> Vec<Publish> {
    client.subscribe(filter, 1).unwrap();
    let marker = format!("marker/{}", client.fresh_id());
    client.subscribe(&marker, 0).unwrap();
    client.publish(&marker, "end", 0).unwrap();
    let mut found = Vec::new();
    loop {
        let message = client.message().unwrap();
        if message.topic == marker.as_bytes() {
            break;
        }
        client.settle(&message).unwrap();
        found.push(message);
    }
    client.unsubscribe(&[filter, &marker]).unwrap();
    found
}

/// The topics and texts of messages, in order.
pub(crate) fn texts(messages: &[Publish]) -> Vec<(String, String)> {
    let text =
        |message: &Publish| (String::from_utf8(message.topic.clone()).unwrap(), message.text());
    let mut texts: Vec<_> = messages.iter().map(text).collect();
    texts.sort();
    texts
}

/// Looks until these are there: for what no answer promises.
#[track_caller]
pub(crate) fn wait_for(mut look: impl FnMut() -> Vec<(String, String)>, expected: &[(&str, &str)]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = look();
        let shown: Vec<_> = found.iter().map(|(topic, text)| (&**topic, &**text)).collect();
        if shown == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {expected:?}");
    }
}
