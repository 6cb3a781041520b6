//! The frames about wills.

use crate::cluster::frame::WillFrame;
use crate::cluster::wire::WireError;
use crate::cluster::wire::primitive::{Reader, Sink};
use crate::cluster::wire::publish::{read_properties, write_properties};
use crate::mqtt::Will;

pub(super) fn write_will(frame: &WillFrame, sink: &mut impl Sink) {
    match frame {
        WillFrame::Keep { number, client_id, delay_secs, will } => {
            sink.u8(KEEP);
            sink.u64(*number);
            sink.string(client_id);
            sink.u64((*delay_secs).into());
            sink.string(will.topic.as_str());
            sink.u8(will.qos.bits());
            sink.boolean(will.retain);
            sink.boolean(will.properties.is_some());
            if let Some(properties) = &will.properties {
                write_properties(properties, sink);
            }
            sink.bytes(&will.payload);
        }
        WillFrame::Kept { number, is_kept } => {
            sink.u8(KEPT);
            sink.u64(*number);
            sink.boolean(*is_kept);
        }
        WillFrame::Gone(numbers) => {
            sink.u8(GONE);
            sink.list(numbers, |sink, number| sink.u64(*number));
        }
    }
}

pub(super) fn read_will(reader: &mut Reader<'_>) -> Result<WillFrame, WireError> {
    Ok(match reader.u8()? {
        KEEP => {
            let number = reader.u64()?;
            let client_id = reader.owned_string()?;
            let delay = u32::try_from(reader.u64()?);
            let delay_secs = delay.map_err(|_| WireError::Value("delay of a will"))?;
            let (topic, qos, retain) = (reader.topic()?, reader.qos()?, reader.boolean()?);
            let properties = if reader.boolean()? { Some(read_properties(reader)?) } else { None };
            let payload = reader.rest();
            let delay_interval_secs = delay_secs;
            let will = Will { topic, payload, qos, retain, delay_interval_secs, properties };
            WillFrame::Keep { number, client_id, delay_secs, will }
        }
        KEPT => WillFrame::Kept { number: reader.u64()?, is_kept: reader.boolean()? },
        GONE => WillFrame::Gone(reader.list(Reader::u64)?),
        _ => return Err(WireError::Value("frame about wills")),
    })
}

const KEEP: u8 = 0;
const KEPT: u8 = 1;
const GONE: u8 = 2;
