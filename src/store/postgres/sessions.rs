//! Sessions: who has them, and their wills.

use super::group::{Fence, Group, Run};
use super::pending::uid;
use crate::ports::auth::SessionUser;
use crate::ports::store::{
    Epoch, OwnerId, SessionId, SessionLife, SessionRecord, SessionRef, Slots, StoredWill,
};
use crate::store::codec::{epoch_bytes, millis, owner_bytes, user_bytes};
use crate::store::key::text_key;
use crate::store::retry::Failure;
use crate::store::row::{message_expiry, message_flags, message_id, properties_bytes};

impl Group<'_> {
    pub(super) async fn put_session(
        &mut self,
        session: SessionRef,
        (client_id, user): (&str, &SessionUser),
        slot: u16,
        (life, sent_below): (SessionLife, Option<u64>),
        run: &mut Run,
    ) -> Result<(), Failure> {
        let (key, text) = text_key(client_id);
        let new = Fence {
            owner: owner_bytes(run.owner).to_vec(),
            epoch: epoch_bytes(session.epoch).to_vec(),
        };
        let former = self.session_of_key(&key).await?;
        let ended = "SELECT 1 FROM ended_session WHERE uid = $1";
        let is_fenced = self.fence(session.id).is_some_and(|stored| !stored.gives_way_to(&new))
            || former.as_ref().is_some_and(|(_, stored)| !stored.gives_way_to(&new))
            || !self.query(ended, &[&uid(session.id)]).await?.is_empty();
        if is_fenced {
            run.fence(session);
            return Ok(());
        }
        if let Some((former, _)) = former.filter(|(former, _)| *former != session.id) {
            self.end_session(former).await?;
        }
        let slot = i16::try_from(slot).unwrap_or(i16::MAX);
        let interval = i64::from(life.expiry_interval_secs);
        let expires_at = life.expires_at_millis.map(millis);
        self.execute(
            PUT_SESSION,
            &[
                &uid(session.id),
                &key,
                &text,
                &slot,
                &new.owner,
                &new.epoch,
                &interval,
                &expires_at,
                &user_bytes(user),
                &sent_below.map(u64::cast_signed),
            ],
        )
        .await?;
        self.set_fence(session.id, Some(new));
        Ok(())
    }

    /// The Session of a client and who has it, who keeps it until the transaction ends.
    async fn session_of_key(&self, key: &[u8]) -> Result<Option<(SessionId, Fence)>, Failure> {
        let sql = "SELECT uid, owner, epoch FROM session WHERE client_key = $1 FOR UPDATE";
        let rows = self.query(sql, &[&key]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
        Ok(Some((id, Fence::of_row(row, 1)?)))
    }

    pub(super) async fn take_session(
        &mut self,
        client_id: &str,
        epoch: Epoch,
        run: &mut Run,
    ) -> Result<Option<Box<SessionRecord>>, Failure> {
        let (key, _) = text_key(client_id);
        let Some((session, stored)) = self.session_of_key(&key).await? else { return Ok(None) };
        let new =
            Fence { owner: owner_bytes(run.owner).to_vec(), epoch: epoch_bytes(epoch).to_vec() };
        if !stored.gives_way_to(&new) {
            run.fence(SessionRef { id: session, epoch });
            return Ok(None);
        }
        self.execute(TAKE_SESSIONS, &[&new.owner, &new.epoch, &vec![uid(session)]]).await?;
        self.set_fence(session, Some(new));
        Ok(self.session(session).await?.map(Box::new))
    }

    pub(super) async fn take_sessions(
        &mut self,
        former: Option<OwnerId>,
        slots: &Slots,
        epoch: Epoch,
        limit: u32,
        owner: OwnerId,
    ) -> Result<u32, Failure> {
        let slots: Option<Vec<i16>> = match slots {
            Slots::All => None,
            Slots::Only(slots) => {
                Some(slots.iter().filter_map(|slot| i16::try_from(*slot).ok()).collect())
            }
        };
        let (owner, epoch) = (owner_bytes(owner).to_vec(), epoch_bytes(epoch).to_vec());
        let former = former.map(|former| owner_bytes(former).to_vec());
        let rows = i64::from(limit);
        let wanted = self.query(WANTED_SESSIONS, &[&epoch, &rows, &former, &slots]).await?;
        let wanted = wanted.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        let taken = self.execute(TAKE_SESSIONS, &[&owner, &epoch, &wanted]).await?;
        self.look_again().await?;
        Ok(u32::try_from(taken).unwrap_or(limit))
    }

    pub(super) async fn end_session(&mut self, session: SessionId) -> Result<(), Failure> {
        let key = uid(session);
        self.execute("DELETE FROM session WHERE uid = $1", &[&key]).await?;
        self.execute("DELETE FROM will WHERE session = $1", &[&key]).await?;
        let sql = "INSERT INTO ended_session (uid) VALUES ($1) ON CONFLICT DO NOTHING";
        self.execute(sql, &[&key]).await?;
        self.set_fence(session, None);
        Ok(())
    }

    pub(super) async fn put_will(
        &mut self,
        session: SessionId,
        will: &StoredWill,
    ) -> Result<(), Failure> {
        let message = &will.message;
        let properties = properties_bytes(message).map(|bytes| bytes.to_vec());
        self.execute(
            PUT_WILL,
            &[
                &uid(session),
                &i64::from(will.delay_interval_secs),
                &will.fires_at_millis.map(millis),
                &message_id(message.id),
                &message.publisher.cast_signed(),
                &message_flags(message),
                &message_expiry(message),
                &message.topic.as_str(),
                &properties,
                &&message.payload[..],
            ],
        )
        .await?;
        Ok(())
    }
}

const PUT_SESSION: &str = "INSERT INTO session
    (uid, client_key, client_id, slot, owner, epoch, expiry_interval, expires_at, user_name,
        sent_below, sent_epoch)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $6)
    ON CONFLICT (uid) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,
        expiry_interval = excluded.expiry_interval, expires_at = excluded.expires_at,
        user_name = excluded.user_name, sent_below = excluded.sent_below,
        sent_epoch = excluded.sent_epoch";
/// What is not known to have been sent is what may have been: see `QueueEnds::sent_below_at_most`.
const TAKE_SESSIONS: &str = "UPDATE session SET owner = $1, epoch = $2, sent_epoch = $2,
    sent_below = least(
        coalesce(CASE WHEN sent_epoch = epoch THEN sent_below END,
            (SELECT min(sequence) FROM pointer WHERE session = uid AND state <> 2) + 65535, 1),
        coalesce((SELECT max(sequence) FROM pointer WHERE session = uid), 0) + 1)
    WHERE uid = ANY($3::bigint[])";
const WANTED_SESSIONS: &str = "SELECT uid FROM session WHERE epoch < $1
    AND ($3::bytea IS NULL OR owner = $3) AND ($4::smallint[] IS NULL OR slot = ANY($4))
    ORDER BY uid LIMIT $2 FOR UPDATE";
const PUT_WILL: &str =
    "INSERT INTO will (session, delay, fires_at, id, publisher, flags, expires_at,
    topic, properties, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (session) DO UPDATE SET delay = excluded.delay, fires_at = excluded.fires_at,
        id = excluded.id, publisher = excluded.publisher, flags = excluded.flags,
        expires_at = excluded.expires_at, topic = excluded.topic,
        properties = excluded.properties, payload = excluded.payload";
