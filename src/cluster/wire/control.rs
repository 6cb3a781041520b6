//! The frames of the control stream: a byte that says which, then its fields in the order of their
//! declaration.

use bytes::BytesMut;

use crate::cluster::frame::{
    Adopted, Claim, ControlFrame, DigestQuestion, Fate, Grant, Handover, Held, InterestEntry,
    Outcome, PartDigest, RetainedMessage, RetainedValue, Revoke, Token, Whereabouts,
};
use crate::cluster::identity::BootId;
use crate::cluster::slot_record::{Home, SlotRecord};
use crate::cluster::wire::WireError;
use crate::cluster::wire::primitive::{Length, Reader, Sink};
use crate::cluster::wire::publish::{read_properties, write_properties};
use crate::cluster::wire::will::{read_will, write_will};
use crate::mqtt::{ReasonCode, TopicFilter, TopicName};
use crate::ports::auth::SessionUser;

/// Appends `frame` to `out`, its length included. A list in it has at most
/// [`ENTRIES_MAX`](super::ENTRIES_MAX) entries.
pub fn encode_control(frame: &ControlFrame, out: &mut BytesMut) {
    let mut length = Length(0);
    write(frame, &mut length);
    out.reserve(length.0 + 5);
    out.varint(length.0);
    write(frame, out);
}

fn write(frame: &ControlFrame, sink: &mut impl Sink) {
    sink.u8(tag(frame));
    match frame {
        ControlFrame::InterestSnapshot
        | ControlFrame::RetainedComplete
        | ControlFrame::InterestWanted => {}
        ControlFrame::InterestAdded { version, entries } => {
            sink.u64(*version);
            sink.list(entries, |sink, entry| {
                sink.u8(entry.qos.bits());
                sink.u8(entry.weight);
                sink.string(entry.filter.as_str());
            });
        }
        ControlFrame::InterestRemoved { version, filters } => {
            sink.u64(*version);
            write_filters(filters, sink);
        }
        ControlFrame::InterestComplete { version, checksum } => {
            sink.u64(*version);
            sink.u64(*checksum);
        }
        ControlFrame::InterestApplied { version } => sink.u64(*version),
        ControlFrame::Done(outcomes) => sink.list(outcomes, write_outcome),
        ControlFrame::RetainedWanted { after } => {
            sink.string(after.as_ref().map_or("", TopicName::as_str));
        }
        ControlFrame::Retained(value) | ControlFrame::Latest(value) => {
            write_retained(value, sink);
        }
        ControlFrame::DigestsWanted(question) => {
            sink.u64(question.number);
            sink.u64(question.lost_at_millis);
        }
        ControlFrame::Digests { number, parts } => {
            sink.u64(*number);
            sink.list(parts, |sink, part| {
                sink.u64(part.count);
                sink.u64(part.sum);
            });
        }
        ControlFrame::Will(frame) => write_will(frame, sink),
        ControlFrame::RetainedMore { after } => sink.string(after.as_str()),
        ControlFrame::Claim(claim) => {
            sink.u64(claim.claim);
            sink.string(&claim.client_id);
            sink.boolean(claim.wants_session);
            write_known_user(&claim.user, sink);
        }
        ControlFrame::Grant(grant) => write_grant(grant, sink),
        ControlFrame::ClaimRefused { claim, reason } => {
            sink.u64(*claim);
            sink.words(reason);
        }
        ControlFrame::Revoke(revoke) => write_revoke(revoke, sink),
        ControlFrame::Foreign { claim, holder } => {
            sink.u64(*claim);
            write_known_user(holder, sink);
        }
        ControlFrame::Handover(handover) => {
            sink.u64(handover.claim);
            sink.string(&handover.client_id);
            write_token(handover.token, sink);
            sink.boolean(handover.is_last);
            sink.bytes(&handover.state);
        }
        ControlFrame::Released { client_id, token }
        | ControlFrame::Settled { client_id, token } => {
            sink.string(client_id);
            write_token(*token, sink);
        }
        ControlFrame::Report { epoch, held } => {
            sink.i64(*epoch);
            sink.list(held, write_held);
        }
        ControlFrame::ReportComplete { epoch } => sink.i64(*epoch),
        ControlFrame::Ping { version, checksum, has_lease, cluster_millis } => {
            sink.u64(*version);
            sink.u64(*checksum);
            sink.boolean(*has_lease);
            sink.u64(*cluster_millis);
        }
        ControlFrame::SlotsWanted { after } => sink.i64(*after),
        ControlFrame::Slots(record) => {
            sink.i64(record.home.czxid);
            sink.i64(record.home.ctime_millis);
            sink.i64(record.mzxid);
            sink.bytes(&record.content);
        }
        ControlFrame::Adopted(adopted) => write_adopted(adopted, sink),
        ControlFrame::Mourned { dead, data } => write_mourned(*dead, *data, sink),
        ControlFrame::HandoverTaken { claim } | ControlFrame::HandoverDeclined { claim } => {
            sink.u64(*claim);
        }
        ControlFrame::MarkWanted { mark } => sink.u64(*mark),
        ControlFrame::Mark { mark, data } => {
            sink.u64(*mark);
            sink.u64(*data);
        }
    }
}

fn write_mourned(dead: BootId, data: u64, sink: &mut impl Sink) {
    sink.boot_id(dead);
    sink.u64(data);
}

fn write_adopted(adopted: &Adopted, sink: &mut impl Sink) {
    sink.boot_id(adopted.dead);
    sink.i64(adopted.epoch);
    sink.u64(adopted.version);
}

/// Reads the body of a frame.
pub(super) fn decode_control(reader: &mut Reader<'_>) -> Result<ControlFrame, WireError> {
    let tag = reader.u8()?;
    let frame = match tag {
        INTEREST_SNAPSHOT => ControlFrame::InterestSnapshot,
        INTEREST_ADDED => ControlFrame::InterestAdded {
            version: reader.u64()?,
            entries: reader.list(|reader| {
                Ok(InterestEntry {
                    qos: reader.qos()?,
                    weight: reader.u8()?,
                    filter: reader.filter()?,
                })
            })?,
        },
        INTEREST_REMOVED => ControlFrame::InterestRemoved {
            version: reader.u64()?,
            filters: reader.list(Reader::filter)?,
        },
        INTEREST_COMPLETE => {
            ControlFrame::InterestComplete { version: reader.u64()?, checksum: reader.u64()? }
        }
        INTEREST_APPLIED => ControlFrame::InterestApplied { version: reader.u64()? },
        DONE => ControlFrame::Done(reader.list(read_outcome)?),
        RETAINED => ControlFrame::Retained(read_retained(reader)?),
        DIGESTS_WANTED => {
            let (number, lost_at_millis) = (reader.u64()?, reader.u64()?);
            ControlFrame::DigestsWanted(DigestQuestion { number, lost_at_millis })
        }
        DIGESTS => ControlFrame::Digests {
            number: reader.u64()?,
            parts: reader
                .list(|reader| Ok(PartDigest { count: reader.u64()?, sum: reader.u64()? }))?,
        },
        WILL => ControlFrame::Will(Box::new(read_will(reader)?)),
        LATEST => ControlFrame::Latest(read_retained(reader)?),
        RETAINED_COMPLETE => ControlFrame::RetainedComplete,
        RETAINED_WANTED => {
            let after = reader.string()?;
            let is_first = after.is_empty();
            let topic = || TopicName::parse(after).map_err(|_| WireError::Value("topic"));
            ControlFrame::RetainedWanted { after: if is_first { None } else { Some(topic()?) } }
        }
        RETAINED_MORE => ControlFrame::RetainedMore { after: reader.topic()? },
        CLAIM | CLAIM_OF_USER => ControlFrame::Claim(Claim {
            claim: reader.u64()?,
            client_id: reader.owned_string()?,
            wants_session: reader.boolean()?,
            user: if tag == CLAIM_OF_USER { read_user(reader)? } else { SessionUser::Unknown },
        }),
        GRANT => ControlFrame::Grant(read_grant(reader)?),
        CLAIM_REFUSED => {
            ControlFrame::ClaimRefused { claim: reader.u64()?, reason: reader.owned_string()? }
        }
        REVOKE | REVOKE_FOR_USER => {
            ControlFrame::Revoke(read_revoke(reader, tag == REVOKE_FOR_USER)?)
        }
        FOREIGN => ControlFrame::Foreign { claim: reader.u64()?, holder: read_user(reader)? },
        HANDOVER => ControlFrame::Handover(Handover {
            claim: reader.u64()?,
            client_id: reader.owned_string()?,
            token: read_token(reader)?,
            is_last: reader.boolean()?,
            state: reader.rest(),
        }),
        RELEASED => {
            ControlFrame::Released { client_id: reader.owned_string()?, token: read_token(reader)? }
        }
        REPORT => ControlFrame::Report { epoch: reader.i64()?, held: reader.list(read_held)? },
        REPORT_COMPLETE => ControlFrame::ReportComplete { epoch: reader.i64()? },
        PING => ControlFrame::Ping {
            version: reader.u64()?,
            checksum: reader.u64()?,
            has_lease: reader.boolean()?,
            cluster_millis: reader.u64()?,
        },
        SETTLED => {
            ControlFrame::Settled { client_id: reader.owned_string()?, token: read_token(reader)? }
        }
        INTEREST_WANTED => ControlFrame::InterestWanted,
        SLOTS_WANTED => ControlFrame::SlotsWanted { after: reader.i64()? },
        SLOTS => ControlFrame::Slots(SlotRecord {
            home: Home { czxid: reader.i64()?, ctime_millis: reader.i64()? },
            mzxid: reader.i64()?,
            content: reader.rest(),
        }),
        ADOPTED => ControlFrame::Adopted(Adopted {
            dead: reader.boot_id()?,
            epoch: reader.i64()?,
            version: reader.u64()?,
        }),
        MOURNED => ControlFrame::Mourned { dead: reader.boot_id()?, data: reader.u64()? },
        HANDOVER_TAKEN => ControlFrame::HandoverTaken { claim: reader.u64()? },
        HANDOVER_DECLINED => ControlFrame::HandoverDeclined { claim: reader.u64()? },
        MARK_WANTED => ControlFrame::MarkWanted { mark: reader.u64()? },
        MARK => ControlFrame::Mark { mark: reader.u64()?, data: reader.u64()? },
        other => return Err(WireError::UnknownFrame(other)),
    };
    reader.finish()?;
    Ok(frame)
}

fn tag(frame: &ControlFrame) -> u8 {
    match frame {
        ControlFrame::InterestSnapshot => INTEREST_SNAPSHOT,
        ControlFrame::InterestAdded { .. } => INTEREST_ADDED,
        ControlFrame::InterestRemoved { .. } => INTEREST_REMOVED,
        ControlFrame::InterestComplete { .. } => INTEREST_COMPLETE,
        ControlFrame::InterestApplied { .. } => INTEREST_APPLIED,
        ControlFrame::Done(_) => DONE,
        ControlFrame::Retained(_) => RETAINED,
        ControlFrame::Latest(_) => LATEST,
        ControlFrame::Will(_) => WILL,
        ControlFrame::DigestsWanted(_) => DIGESTS_WANTED,
        ControlFrame::Digests { .. } => DIGESTS,
        ControlFrame::RetainedComplete => RETAINED_COMPLETE,
        ControlFrame::RetainedWanted { .. } => RETAINED_WANTED,
        ControlFrame::RetainedMore { .. } => RETAINED_MORE,
        ControlFrame::Claim(Claim { user: SessionUser::Known(_), .. }) => CLAIM_OF_USER,
        ControlFrame::Claim(_) => CLAIM,
        ControlFrame::Grant(_) => GRANT,
        ControlFrame::ClaimRefused { .. } => CLAIM_REFUSED,
        ControlFrame::Revoke(Revoke { user: SessionUser::Known(_), .. }) => REVOKE_FOR_USER,
        ControlFrame::Revoke(_) => REVOKE,
        ControlFrame::Foreign { .. } => FOREIGN,
        ControlFrame::Handover(_) => HANDOVER,
        ControlFrame::Released { .. } => RELEASED,
        ControlFrame::Report { .. } => REPORT,
        ControlFrame::ReportComplete { .. } => REPORT_COMPLETE,
        ControlFrame::Settled { .. } => SETTLED,
        ControlFrame::Ping { .. } => PING,
        ControlFrame::InterestWanted => INTEREST_WANTED,
        ControlFrame::SlotsWanted { .. } => SLOTS_WANTED,
        ControlFrame::Slots(_) => SLOTS,
        ControlFrame::Adopted(_) => ADOPTED,
        ControlFrame::Mourned { .. } => MOURNED,
        ControlFrame::HandoverTaken { .. } => HANDOVER_TAKEN,
        ControlFrame::HandoverDeclined { .. } => HANDOVER_DECLINED,
        ControlFrame::MarkWanted { .. } => MARK_WANTED,
        ControlFrame::Mark { .. } => MARK,
    }
}

fn write_filters<S: Sink>(filters: &[TopicFilter], sink: &mut S) {
    sink.list(filters, |sink, filter| sink.string(filter.as_str()));
}

fn write_outcome<S: Sink>(sink: &mut S, outcome: &Outcome) {
    sink.u64(outcome.first);
    sink.varint(usize::try_from(outcome.count).expect("32 bits fit"));
    match &outcome.fate {
        Fate::Enqueued => sink.u8(ENQUEUED),
        Fate::NoMatch => sink.u8(NO_MATCH),
        Fate::GroupsMoved(groups) => {
            sink.u8(GROUPS_MOVED);
            write_filters(groups, sink);
        }
        Fate::Refused(reason_code) => {
            sink.u8(REFUSED);
            sink.u8(reason_code.as_u8());
        }
        Fate::Again => sink.u8(AGAIN),
    }
}

fn read_outcome(reader: &mut Reader<'_>) -> Result<Outcome, WireError> {
    let first = reader.u64()?;
    let count = reader.varint()?;
    if first == 0 || count == 0 || first.checked_add(u64::from(count)).is_none() {
        return Err(WireError::Value("range of an outcome"));
    }
    let fate = match reader.u8()? {
        ENQUEUED => Fate::Enqueued,
        NO_MATCH => Fate::NoMatch,
        GROUPS_MOVED => Fate::GroupsMoved(reader.list(Reader::filter)?),
        REFUSED => {
            let reason_code = ReasonCode::from_u8(reader.u8()?);
            Fate::Refused(reason_code.ok_or(WireError::Value("Reason Code"))?)
        }
        AGAIN => Fate::Again,
        _ => return Err(WireError::Value("fate")),
    };
    Ok(Outcome { first, count, fate })
}

fn write_retained(value: &RetainedValue, sink: &mut impl Sink) {
    sink.string(value.topic.as_str());
    sink.version(value.version);
    let Some(message) = &value.message else { return sink.u8(0) };
    sink.u8(IS_THERE
        | message.qos.bits() << 1
        | if message.properties.is_some() { RETAINED_HAS_PROPERTIES } else { 0 }
        | if message.expires_at_millis.is_some() { RETAINED_HAS_EXPIRY } else { 0 });
    if let Some(millis) = message.expires_at_millis {
        sink.u64(millis);
    }
    if let Some(properties) = &message.properties {
        write_properties(properties, sink);
    }
    sink.bytes(&message.payload);
}

fn read_retained(reader: &mut Reader<'_>) -> Result<RetainedValue, WireError> {
    let topic = reader.topic()?;
    let version = reader.version()?;
    let flags = reader.u8()?;
    if flags & IS_THERE == 0 {
        return Ok(RetainedValue { topic, version, message: None });
    }
    let qos = crate::mqtt::QoS::from_bits(flags >> 1 & 0b11).ok_or(WireError::Value("QoS"))?;
    let has = |flag| flags & flag != 0;
    let expires_at_millis = if has(RETAINED_HAS_EXPIRY) { Some(reader.u64()?) } else { None };
    let properties =
        if has(RETAINED_HAS_PROPERTIES) { Some(read_properties(reader)?) } else { None };
    let message = RetainedMessage { payload: reader.rest(), properties, qos, expires_at_millis };
    Ok(RetainedValue { topic, version, message: Some(message) })
}

fn write_grant(grant: &Grant, sink: &mut impl Sink) {
    sink.u64(grant.claim);
    sink.string(&grant.client_id);
    write_token(grant.token, sink);
    sink.boolean(grant.from.is_some());
    if let Some(from) = grant.from {
        sink.boot_id(from);
    }
}

fn read_grant(reader: &mut Reader<'_>) -> Result<Grant, WireError> {
    Ok(Grant {
        claim: reader.u64()?,
        client_id: reader.owned_string()?,
        token: read_token(reader)?,
        from: if reader.boolean()? { Some(reader.boot_id()?) } else { None },
    })
}

fn write_revoke(revoke: &Revoke, sink: &mut impl Sink) {
    sink.string(&revoke.client_id);
    write_token(revoke.token, sink);
    sink.boot_id(revoke.to);
    sink.u64(revoke.claim);
    sink.boolean(revoke.wants_session);
    write_known_user(&revoke.user, sink);
}

/// What is not known takes no room: the type of the frame says so.
fn write_known_user(user: &SessionUser, sink: &mut impl Sink) {
    let SessionUser::Known(name) = user else { return };
    sink.boolean(name.is_some());
    sink.string(name.as_deref().unwrap_or_default());
}

fn read_user(reader: &mut Reader<'_>) -> Result<SessionUser, WireError> {
    let is_named = reader.boolean()?;
    let name = reader.owned_string()?;
    Ok(SessionUser::Known(is_named.then(|| name.into())))
}

fn read_revoke(reader: &mut Reader<'_>, has_user: bool) -> Result<Revoke, WireError> {
    Ok(Revoke {
        client_id: reader.owned_string()?,
        token: read_token(reader)?,
        to: reader.boot_id()?,
        claim: reader.u64()?,
        wants_session: reader.boolean()?,
        user: if has_user { read_user(reader)? } else { SessionUser::Unknown },
    })
}

fn write_held<S: Sink>(sink: &mut S, held: &Held) {
    sink.string(&held.client_id);
    write_token(held.token, sink);
    match held.whereabouts {
        Whereabouts::Here => sink.u8(HERE),
        Whereabouts::Coming { claim } => {
            sink.u8(COMING);
            sink.u64(claim);
        }
        Whereabouts::Going => sink.u8(GOING),
    }
}

fn read_held(reader: &mut Reader<'_>) -> Result<Held, WireError> {
    Ok(Held {
        client_id: reader.owned_string()?,
        token: read_token(reader)?,
        whereabouts: match reader.u8()? {
            HERE => Whereabouts::Here,
            COMING => Whereabouts::Coming { claim: reader.u64()? },
            GOING => Whereabouts::Going,
            _ => return Err(WireError::Value("whereabouts")),
        },
    })
}

fn write_token(token: Token, sink: &mut impl Sink) {
    sink.u64(token.era);
    sink.i64(token.epoch);
    sink.u64(token.counter);
}

fn read_token(reader: &mut Reader<'_>) -> Result<Token, WireError> {
    Ok(Token { era: reader.u64()?, epoch: reader.i64()?, counter: reader.u64()? })
}

const INTEREST_SNAPSHOT: u8 = 1;
const INTEREST_ADDED: u8 = 2;
const INTEREST_REMOVED: u8 = 3;
const INTEREST_COMPLETE: u8 = 4;
const INTEREST_APPLIED: u8 = 5;
const DONE: u8 = 6;
const RETAINED: u8 = 7;
const RETAINED_COMPLETE: u8 = 8;
const CLAIM: u8 = 9;
const GRANT: u8 = 10;
const CLAIM_REFUSED: u8 = 11;
const REVOKE: u8 = 12;
const HANDOVER: u8 = 13;
const RELEASED: u8 = 14;
const REPORT: u8 = 15;
const REPORT_COMPLETE: u8 = 16;
const PING: u8 = 17;
const INTEREST_WANTED: u8 = 18;
const RETAINED_WANTED: u8 = 19;
const RETAINED_MORE: u8 = 20;
const HANDOVER_TAKEN: u8 = 21;
const HANDOVER_DECLINED: u8 = 22;
const MARK_WANTED: u8 = 23;
const MARK: u8 = 24;
const SETTLED: u8 = 25;
const LATEST: u8 = 40;
const WILL: u8 = 41;
const DIGESTS_WANTED: u8 = 42;
const DIGESTS: u8 = 43;
const SLOTS_WANTED: u8 = 44;
const SLOTS: u8 = 45;
const ADOPTED: u8 = 46;
const MOURNED: u8 = 47;
const CLAIM_OF_USER: u8 = 48;
const REVOKE_FOR_USER: u8 = 49;
const FOREIGN: u8 = 50;

const HERE: u8 = 0;
const COMING: u8 = 1;
const GOING: u8 = 2;

const ENQUEUED: u8 = 0;
const NO_MATCH: u8 = 1;
const GROUPS_MOVED: u8 = 2;
const REFUSED: u8 = 3;
const AGAIN: u8 = 4;

const IS_THERE: u8 = 1;
const RETAINED_HAS_PROPERTIES: u8 = 1 << 3;
const RETAINED_HAS_EXPIRY: u8 = 1 << 4;
