//! Events of the broker as log lines: one structured line for each connect and disconnect.

use crate::broker::event::Event;
use crate::mqtt::ReasonCode;

/// Logs one event.
pub fn log(event: &Event) {
    match event {
        Event::Connected { card, session_present } => tracing::info!(
            client_id = &*card.identity.client_id,
            user_name = card.identity.user_name.as_deref(),
            address = &*card.origin.address,
            listener = &*card.origin.listener,
            version = %card.version,
            keep_alive_secs = card.keep_alive_secs,
            session_expiry_secs = card.session_expiry_secs,
            session_present,
            "client connected"
        ),
        Event::Refused { origin, client_id, reason_code, reason } => tracing::info!(
            client_id = client_id.as_deref(),
            address = &*origin.address,
            listener = &*origin.listener,
            reason_code = format_args!("{:#04x}", *reason_code as u8),
            reason = reason.as_str(),
            "connection refused"
        ),
        Event::Foreign { origin, client_id, user, holder } => tracing::warn!(
            client_id = &**client_id,
            address = &*origin.address,
            listener = &*origin.listener,
            user_name = %user,
            session_of = %holder,
            "a client identifier was refused: its session belongs to another user. If it is to \
             change hands, end it: DELETE /clients/{client_id} at the admin port, or let its own \
             user connect with Clean Start and Session Expiry Interval 0 (Clean Session)"
        ),
        Event::Disconnected { card, reason_code, reason, dropped: _ } => {
            let client_id = &*card.identity.client_id;
            let address = &*card.origin.address;
            let reason = reason.as_str();
            if *reason_code == ReasonCode::Success {
                tracing::info!(client_id, address, reason, "client disconnected");
            } else {
                let reason_code = format_args!("{:#04x}", *reason_code as u8);
                tracing::info!(client_id, address, reason_code, reason, "client disconnected");
            }
        }
        Event::Silent { origin } => tracing::debug!(
            address = &*origin.address,
            listener = &*origin.listener,
            "connection ended before any byte"
        ),
        Event::Denied { card, action, topic, suppressed } => tracing::info!(
            client_id = &*card.identity.client_id,
            user_name = card.identity.user_name.as_deref(),
            action,
            topic = topic.as_str(),
            suppressed = (*suppressed > 0).then_some(suppressed),
            "not authorized"
        ),
        Event::PublishRefused { card, topic, reason, suppressed } => tracing::warn!(
            client_id = &*card.identity.client_id,
            topic = topic.as_str(),
            reason,
            suppressed = (*suppressed > 0).then_some(suppressed),
            "publish refused"
        ),
        Event::SubackLate { card, filter, brokers, is_sent, suppressed } => tracing::warn!(
            client_id = &*card.identity.client_id,
            filter = filter.as_str(),
            brokers = brokers.join(","),
            is_sent,
            suppressed = (*suppressed > 0).then_some(suppressed),
            "a SUBACK waits for other brokers"
        ),
        Event::OwnMessageMissed { topic, queues, suppressed } => tracing::warn!(
            topic = topic.as_str(),
            queues,
            suppressed = (*suppressed > 0).then_some(suppressed),
            "queues are full that a will or another message of the broker is missing in"
        ),
        // For the activity log alone: too much for a person to read.
        Event::Subscribed { .. }
        | Event::Unsubscribed { .. }
        | Event::Published { .. }
        | Event::SessionEnded { .. } => {}
    }
}
