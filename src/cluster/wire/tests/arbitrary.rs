//! Frames and handshakes of every kind.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::frame::{
    Adopted, Claim, ControlFrame, Cursors, DigestQuestion, Fate, Grant, Handover, Held, Hello,
    InterestEntry, Outcome, PartDigest, PublishFrame, RefusalCode, RetainedMessage, RetainedValue,
    Revoke, StreamKind, Token, Welcome, Whereabouts, Whom, WillFrame,
};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::slot_record::{Home, SlotRecord};
use crate::cluster::version::Version;
use crate::mqtt::{MessageProperties, QoS, ReasonCode, TopicFilter, TopicName, UserProperty, Will};
use crate::ports::auth::SessionUser;

pub(super) fn publish() -> impl Strategy<Value = PublishFrame> {
    let whom = select(vec![Whom::Everybody, Whom::Stored, Whom::Unstored]);
    let flags = (qos(), any::<bool>(), any::<bool>(), whom, any::<[u64; 2]>());
    let extras = (option::of(properties()), option::of(any::<u64>()), option::of(version()));
    let groups = vec(filter(), 0..3);
    (topic(), vec(any::<u8>(), 0..300), flags, extras, groups).prop_map(
        |(topic, payload, flags, (properties, expires_at_millis, version), groups)| {
            let (qos, retain, is_for_subscribers, whom, [publisher, message_id]) = flags;
            let message_id = if qos > QoS::AtMostOnce { message_id } else { 0 };
            PublishFrame {
                topic,
                payload: payload.into(),
                properties,
                qos,
                retain,
                publisher,
                message_id,
                expires_at_millis,
                version,
                is_for_subscribers,
                whom,
                groups: groups.into(),
            }
        },
    )
}

pub(super) fn control() -> impl Strategy<Value = ControlFrame> {
    let told = prop_oneof![retained(), wills(), digests(), slots(), ping()];
    prop_oneof![interest(), ownership(), outcomes(), told]
}

fn interest() -> impl Strategy<Value = ControlFrame> {
    let entry = (filter(), qos(), any::<u8>()).prop_map(|(filter, qos, weight)| InterestEntry {
        filter,
        qos,
        weight,
    });
    let added = (any::<u64>(), vec(entry, 0..5))
        .prop_map(|(version, entries)| ControlFrame::InterestAdded { version, entries });
    let removed = (any::<u64>(), vec(filter(), 0..5))
        .prop_map(|(version, filters)| ControlFrame::InterestRemoved { version, filters });
    prop_oneof![
        added,
        removed,
        Just(ControlFrame::InterestSnapshot),
        Just(ControlFrame::InterestWanted),
        any::<(u64, u64)>()
            .prop_map(|(version, checksum)| ControlFrame::InterestComplete { version, checksum }),
        any::<u64>().prop_map(|version| ControlFrame::InterestApplied { version }),
    ]
}

fn ownership() -> impl Strategy<Value = ControlFrame> {
    let parts = (any::<u64>(), text(), token(), option::of(boot_id()), any::<bool>());
    let state = vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    let whereabouts = prop_oneof![
        Just(Whereabouts::Here),
        any::<u64>().prop_map(|claim| Whereabouts::Coming { claim }),
        Just(Whereabouts::Going),
    ];
    let held = (text(), token(), whereabouts).prop_map(|(client_id, token, whereabouts)| Held {
        client_id,
        token,
        whereabouts,
    });
    let user = prop_oneof![
        Just(SessionUser::Unknown),
        Just(SessionUser::Known(None)),
        text().prop_map(|name| SessionUser::Known(Some(name.into()))),
    ];
    (parts, boot_id(), state, vec(held, 0..4), (0..10, user)).prop_map(
        |((claim, client_id, token, from, flag), to, state, held, (which, user))| match which {
            0 => ControlFrame::Claim(Claim { claim, client_id, wants_session: flag, user }),
            1 => ControlFrame::Grant(Grant { claim, client_id, token, from }),
            2 => ControlFrame::ClaimRefused { claim, reason: client_id },
            3 => ControlFrame::Revoke(Revoke {
                client_id,
                token,
                to,
                claim,
                wants_session: flag,
                user,
            }),
            4 => ControlFrame::Handover(Handover { claim, client_id, token, is_last: flag, state }),
            5 => ControlFrame::Released { client_id, token },
            6 => ControlFrame::Report { epoch: token.epoch, held },
            7 => ControlFrame::Settled { client_id, token },
            8 => {
                ControlFrame::Foreign { claim, holder: SessionUser::Known(Some(client_id.into())) }
            }
            _ => ControlFrame::ReportComplete { epoch: token.epoch },
        },
    )
}

fn outcomes() -> impl Strategy<Value = ControlFrame> {
    let fate = prop_oneof![
        Just(Fate::Enqueued),
        Just(Fate::NoMatch),
        vec(filter(), 0..3).prop_map(Fate::GroupsMoved),
        select(ReasonCode::ALL).prop_map(Fate::Refused),
        Just(Fate::Again),
    ];
    let outcome = (1..u64::from(u32::MAX), 1_u32.., fate)
        .prop_map(|(first, count, fate)| Outcome { first, count, fate });
    vec(outcome, 0..6).prop_map(ControlFrame::Done)
}

fn retained() -> impl Strategy<Value = ControlFrame> {
    let message =
        (vec(any::<u8>(), 0..50), option::of(properties()), qos(), option::of(any::<u64>()))
            .prop_map(|(payload, properties, qos, expires_at_millis)| RetainedMessage {
                payload: payload.into(),
                properties,
                qos,
                expires_at_millis,
            });
    let value = (topic(), version(), option::of(message))
        .prop_map(|(topic, version, message)| RetainedValue { topic, version, message });
    let frame = (value, any::<bool>()).prop_map(|(value, is_latest)| {
        if is_latest { ControlFrame::Latest(value) } else { ControlFrame::Retained(value) }
    });
    prop_oneof![4 => frame, 1 => Just(ControlFrame::RetainedComplete)]
}

fn wills() -> impl Strategy<Value = ControlFrame> {
    let will = (topic(), vec(any::<u8>(), 0..50), qos(), any::<bool>(), option::of(properties()));
    let keep = (any::<u64>(), text(), any::<u32>(), will).prop_map(
        |(number, client_id, delay_secs, (topic, payload, qos, retain, properties))| {
            let (payload, delay_interval_secs) = (payload.into(), delay_secs);
            let will = Will { topic, payload, qos, retain, delay_interval_secs, properties };
            WillFrame::Keep { number, client_id, delay_secs, will }
        },
    );
    let kept =
        any::<(u64, bool)>().prop_map(|(number, is_kept)| WillFrame::Kept { number, is_kept });
    let gone = vec(any::<u64>(), 0..5).prop_map(WillFrame::Gone);
    prop_oneof![keep, kept, gone].prop_map(|frame| ControlFrame::Will(Box::new(frame)))
}

fn digests() -> impl Strategy<Value = ControlFrame> {
    let question = any::<(u64, u64)>().prop_map(|(number, lost_at_millis)| {
        ControlFrame::DigestsWanted(DigestQuestion { number, lost_at_millis })
    });
    let part = any::<(u64, u64)>().prop_map(|(count, sum)| PartDigest { count, sum });
    let answer = (any::<u64>(), vec(part, 0..20))
        .prop_map(|(number, parts)| ControlFrame::Digests { number, parts });
    prop_oneof![question, answer]
}

fn slots() -> impl Strategy<Value = ControlFrame> {
    let record = (any::<[i64; 3]>(), vec(any::<u8>(), 0..50)).prop_map(
        |([czxid, ctime_millis, mzxid], content)| {
            let home = Home { czxid, ctime_millis };
            ControlFrame::Slots(SlotRecord { home, mzxid, content: content.into() })
        },
    );
    let adopted = any::<(u128, i64, u64)>().prop_map(|(dead, epoch, version)| {
        ControlFrame::Adopted(Adopted { dead: BootId(dead), epoch, version })
    });
    let mourned = any::<(u128, u64)>()
        .prop_map(|(dead, data)| ControlFrame::Mourned { dead: BootId(dead), data });
    let wanted = any::<i64>().prop_map(|after| ControlFrame::SlotsWanted { after });
    prop_oneof![record, wanted, adopted, mourned]
}

fn ping() -> impl Strategy<Value = ControlFrame> {
    any::<(u64, u64, bool, u64)>().prop_map(|(version, checksum, has_lease, cluster_millis)| {
        ControlFrame::Ping { version, checksum, has_lease, cluster_millis }
    })
}

pub(super) fn hello() -> impl Strategy<Value = Hello> {
    let versions = any::<(u16, u16)>();
    (text(), text(), boot_id(), boot_id(), versions, any::<(u64, u64)>()).prop_map(
        |(cluster, name, boot_id, to, (oldest, newest), (control, data))| Hello {
            cluster,
            name,
            boot_id,
            to,
            wire: WireVersions { oldest, newest },
            gone: Cursors { control, data },
        },
    )
}

pub(super) fn welcome() -> impl Strategy<Value = Welcome> {
    let accepted = any::<(u16, u64, u64)>().prop_map(|(wire, control, data)| Welcome::Accepted {
        wire,
        received: Cursors { control, data },
    });
    let code = prop_oneof![
        Just(RefusalCode::Other),
        Just(RefusalCode::Mistrust),
        Just(RefusalCode::NotYet),
        Just(RefusalCode::WireVersion)
    ];
    let refused = (text(), boot_id(), code).prop_map(|(reason, boot_id, code)| Welcome::Refused {
        reason,
        boot_id,
        code,
    });
    prop_oneof![accepted, refused]
}

fn properties() -> impl Strategy<Value = Arc<MessageProperties>> {
    let texts = (option::of(text()), option::of(topic()), vec((text(), text()), 0..3));
    let others = (any::<Option<bool>>(), any::<Option<u32>>(), any::<Option<Vec<u8>>>());
    (texts, others).prop_map(|((content_type, response_topic, users), others)| {
        let (payload_format_is_utf8, message_expiry_interval_secs, correlation_data) = others;
        Arc::new(MessageProperties {
            payload_format_is_utf8,
            message_expiry_interval_secs,
            content_type: content_type.map(ByteString::from),
            response_topic,
            correlation_data: correlation_data.map(Bytes::from),
            user_properties: users
                .into_iter()
                .map(|(name, value)| UserProperty { name: name.into(), value: value.into() })
                .collect(),
        })
    })
}

pub(super) fn kind() -> impl Strategy<Value = StreamKind> {
    select(vec![StreamKind::Control, StreamKind::Data])
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), boot_id()).prop_map(|(time, boot_id)| Version { time, boot_id })
}

fn boot_id() -> impl Strategy<Value = BootId> {
    any::<u128>().prop_map(BootId)
}

fn token() -> impl Strategy<Value = Token> {
    any::<(u64, i64, u64)>().prop_map(|(era, epoch, counter)| Token { era, epoch, counter })
}

fn text() -> impl Strategy<Value = String> {
    "[a-z\u{E4}\u{10FFFF}+#/$]{0,9}"
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-z\u{E4}\u{10FFFF}/$]{1,20}".prop_map(|name| TopicName::try_from(name.as_str()).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    "([$]share/[a-z]{1,3}/)?[a-z]{1,9}(/[+])?(/#)?"
        .prop_map(|filter| TopicFilter::try_from(filter.as_str()).unwrap())
}
