//! Sending a number of messages ahead, and reading a burst of them to its end.

use std::{io::Write, net::TcpStream};

use crate::{
    burst::{BUFFER_LEN, Burst},
    clock,
    error::LoadError,
    frames::{PUBACK, Version},
    stamp::Stamp,
    wire::{self, Template},
};

/// Publishes the sequences of `range` with acknowledgement, some hundred at a time, and waits for their
/// acknowledgements.
pub(crate) fn publish(
    stream: &mut TcpStream,
    template: &Template,
    range: std::ops::Range<u64>,
) -> Result<(), LoadError> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut next = range.start;
    while next < range.end {
        let end = range.end.min(next + BATCH);
        let mut out = Vec::new();
        for sequence in next..end {
            template.append(&mut out, Stamp { flow: 0, sequence, sent: clock::now() });
        }
        stream.write_all(&out).map_err(LoadError::io("publishing ahead"))?;
        let mut owed = end - next;
        let mut reader = Burst::new(stream, &mut buffer, "publishing ahead");
        while owed > 0 {
            reader.read(|frame, _| {
                if frame.first == PUBACK {
                    owed = owed.saturating_sub(1);
                }
            })?;
        }
        next = end;
    }
    Ok(())
}

/// Reads messages, acknowledging those that ask for it, until `wanted` have come.
pub(crate) fn receive(
    stream: &mut TcpStream,
    wanted: u64,
    mut note: impl FnMut(Stamp),
) -> Result<(), LoadError> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut seen = 0;
    let mut reader = Burst::new(stream, &mut buffer, "reading a replay");
    while seen < wanted {
        let read = reader.read(|frame, out| {
            let Some(publish) = frame.is_publish().then(|| frame.publish(Version::V311)).flatten()
            else {
                return;
            };
            if publish.qos == 1 {
                wire::ack(out, PUBACK, publish.id);
            }
            seen += 1;
            if let Some(stamp) = Stamp::read(publish.payload) {
                note(stamp);
            }
        });
        match read {
            Err(LoadError::OutOfTime(_)) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

const BATCH: u64 = 200;
