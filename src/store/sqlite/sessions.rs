//! Sessions: who has them, their Subscriptions, and their wills.

use std::sync::Arc;

use rusqlite::{params, params_from_iter, types::Value};

use super::group::{Fence, Group, Run, uid};
use crate::mqtt::TopicFilter;
use crate::ports::auth::SessionUser;
use crate::ports::store::{
    Epoch, OwnerId, SessionId, SessionLife, SessionRecord, SessionRef, Slots, StoredSubscription,
    StoredWill,
};
use crate::store::codec::{epoch_bytes, millis, options_bits, owner_bytes, user_bytes};
use crate::store::key::text_key;
use crate::store::retry::Failure;
use crate::store::row::{message_expiry, message_flags, message_id, properties_bytes};

impl Group<'_> {
    pub(super) fn put_session(
        &mut self,
        session: SessionRef,
        (client_id, user): (&Arc<str>, &SessionUser),
        slot: u16,
        (life, sent_below): (SessionLife, Option<u64>),
        run: &mut Run,
    ) -> Result<(), Failure> {
        let (key, text) = text_key(client_id);
        let former = self.session_of_key(&key)?;
        let new = Fence {
            owner: owner_bytes(run.owner).to_vec(),
            epoch: epoch_bytes(session.epoch).to_vec(),
        };
        for stored in [Some(session.id), former].into_iter().flatten() {
            if self.fence(stored)?.is_some_and(|stored| !stored.gives_way_to(&new)) {
                run.fence(session);
                return Ok(());
            }
        }
        let ended = "SELECT 1 FROM ended_session WHERE uid = ?1";
        if self.find::<i64>(ended, [uid(session.id)])?.is_some() {
            run.fence(session);
            return Ok(());
        }
        if let Some(former) = former.filter(|former| *former != session.id) {
            self.end_session(former)?;
        }
        let expires_at = life.expires_at_millis.map(millis);
        self.execute(
            PUT_SESSION,
            params![
                uid(session.id),
                key,
                text,
                slot,
                new.owner,
                new.epoch,
                life.expiry_interval_secs,
                expires_at,
                user_bytes(user),
                sent_below.map(u64::cast_signed)
            ],
        )?;
        self.set_fence(session.id, Some(new));
        Ok(())
    }

    fn session_of_key(&self, key: &[u8]) -> Result<Option<SessionId>, Failure> {
        let found: Option<i64> =
            self.find("SELECT uid FROM session WHERE client_key = ?1", [key])?;
        Ok(found.map(|uid| SessionId(uid.cast_unsigned())))
    }

    pub(super) fn take_session(
        &mut self,
        client_id: &str,
        epoch: Epoch,
        run: &mut Run,
    ) -> Result<Option<Box<SessionRecord>>, Failure> {
        let (key, _) = text_key(client_id);
        let Some(session) = self.session_of_key(&key)? else { return Ok(None) };
        let new =
            Fence { owner: owner_bytes(run.owner).to_vec(), epoch: epoch_bytes(epoch).to_vec() };
        if self.fence(session)?.is_some_and(|stored| !stored.gives_way_to(&new)) {
            run.fence(SessionRef { id: session, epoch });
            return Ok(None);
        }
        let sql = format!("UPDATE session SET {TO_NEW_OWNER} WHERE uid = ?3");
        self.execute(&sql, params![new.owner, new.epoch, uid(session)])?;
        self.set_fence(session, Some(new));
        Ok(self.session(session)?.map(Box::new))
    }

    pub(super) fn take_sessions(
        &mut self,
        former: Option<OwnerId>,
        slots: &Slots,
        epoch: Epoch,
        limit: u32,
        owner: OwnerId,
    ) -> Result<u32, Failure> {
        let of_slots = match slots {
            Slots::All => String::new(),
            Slots::Only(slots) => {
                let listed: Vec<_> = slots.iter().map(u16::to_string).collect();
                format!("AND slot IN ({})", listed.join(", "))
            }
        };
        let of_former = if former.is_some() { "AND owner = ?4" } else { "" };
        let sql = format!(
            "UPDATE session SET {TO_NEW_OWNER} WHERE uid IN
                (SELECT uid FROM session WHERE epoch < ?2 {of_former} {of_slots}
                 ORDER BY uid LIMIT ?3)"
        );
        let mut values: Vec<Value> = vec![
            owner_bytes(owner).to_vec().into(),
            epoch_bytes(epoch).to_vec().into(),
            limit.into(),
        ];
        values.extend(former.map(|former| Value::from(owner_bytes(former).to_vec())));
        let taken = self.connection().execute(&sql, params_from_iter(values))?;
        self.forget_fences();
        Ok(u32::try_from(taken).unwrap_or(limit))
    }

    pub(super) fn end_session(&mut self, session: SessionId) -> Result<(), Failure> {
        let key = [uid(session)];
        self.execute("DELETE FROM session WHERE uid = ?1", key)?;
        self.execute("DELETE FROM will WHERE session = ?1", key)?;
        self.execute("INSERT INTO ended_session (uid) VALUES (?1) ON CONFLICT DO NOTHING", key)?;
        self.set_fence(session, None);
        Ok(())
    }

    pub(super) fn put_subscription(
        &mut self,
        session: SessionId,
        subscription: &StoredSubscription,
    ) -> Result<(), Failure> {
        let (key, text) = text_key(subscription.filter.as_str());
        let options = options_bits(subscription.options);
        self.execute(PUT_SUBSCRIPTION, params![uid(session), key, text, options, subscription.id])?;
        Ok(())
    }

    pub(super) fn remove_subscription(
        &mut self,
        session: SessionId,
        filter: &TopicFilter,
    ) -> Result<(), Failure> {
        let (key, _) = text_key(filter.as_str());
        let sql = "DELETE FROM subscription WHERE session = ?1 AND filter_key = ?2";
        self.execute(sql, params![uid(session), key])?;
        Ok(())
    }

    pub(super) fn put_will(
        &mut self,
        session: SessionId,
        will: &StoredWill,
    ) -> Result<(), Failure> {
        let message = &will.message;
        self.execute(
            PUT_WILL,
            params![
                uid(session),
                will.delay_interval_secs,
                will.fires_at_millis.map(millis),
                message_id(message.id),
                message.publisher.cast_signed(),
                message_flags(message),
                message_expiry(message),
                message.topic.as_str(),
                properties_bytes(message).as_deref(),
                &message.payload[..],
            ],
        )?;
        Ok(())
    }
}

impl Fence {
    /// Whether a claim takes it: a newer one, or the same again.
    fn gives_way_to(&self, new: &Self) -> bool {
        self.epoch < new.epoch || self == new
    }
}

const PUT_SESSION: &str = "INSERT INTO session
    (uid, client_key, client_id, slot, owner, epoch, expiry_interval, expires_at, user_name,
        sent_below, sent_epoch)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?6)
    ON CONFLICT (uid) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,
        expiry_interval = excluded.expiry_interval, expires_at = excluded.expires_at,
        user_name = excluded.user_name, sent_below = excluded.sent_below,
        sent_epoch = excluded.sent_epoch";
/// What is not known to have been sent is what may have been: see `QueueEnds::sent_below_at_most`.
const TO_NEW_OWNER: &str = "owner = ?1, epoch = ?2, sent_epoch = ?2, sent_below = min(
    coalesce(CASE WHEN sent_epoch = epoch THEN sent_below END,
        (SELECT min(sequence) FROM pointer WHERE session = uid AND state <> 2) + 65535, 1),
    coalesce((SELECT max(sequence) FROM pointer WHERE session = uid), 0) + 1)";
const PUT_SUBSCRIPTION: &str = "INSERT INTO subscription
    (session, filter_key, filter, options, subscription_id) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (session, filter_key) DO UPDATE SET options = excluded.options,
        subscription_id = excluded.subscription_id";
const PUT_WILL: &str = "INSERT OR REPLACE INTO will (session, delay, fires_at, id, publisher,
    flags, expires_at, topic, properties, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
