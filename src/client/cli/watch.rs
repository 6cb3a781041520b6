//! `-w`: one line of the terminal for each topic, with its latest message.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use rustix::{stdio::stdout, termios::tcgetwinsize};

use crate::mqtt::Publish;

/// The lines on the screen. Topics beyond the height of the terminal share the last line.
#[derive(Debug)]
pub(super) struct Watch {
    rows: HashMap<String, usize>,
    rows_max: usize,
    columns: usize,
}

impl Watch {
    /// An empty screen part.
    pub(super) fn new() -> Self {
        // A terminal that does not know its size says zero.
        let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        Self {
            rows: HashMap::new(),
            rows_max: usize::from(rows).saturating_sub(2).max(1),
            columns: usize::from(columns).max(20),
        }
    }

    /// Shows a message in the line of its topic.
    pub(super) fn show(&mut self, out: &mut impl Write, publish: &Publish) -> io::Result<()> {
        let line = self.line(publish);
        let height = self.rows.len();
        let row = match self.rows.get(&*publish.topic) {
            Some(row) => *row,
            None if height < self.rows_max => {
                self.rows.insert(publish.topic.to_string(), height);
                return writeln!(out, "{line}");
            }
            None => height - 1,
        };
        let up = height - row;
        write!(out, "\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r")
    }

    /// Topic and payload in one line of printable characters.
    fn line(&self, publish: &Publish) -> String {
        let payload = String::from_utf8_lossy(&publish.payload);
        let line = format!("{} {payload}", publish.topic);
        line.chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .take(self.columns - 1)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::QoS;

    fn show(watch: &mut Watch, topic: &str, payload: &str) -> String {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: topic.into(),
            packet_id: None,
            topic_alias: None,
            subscription_ids: smallvec::SmallVec::new(),
            properties: None,
            payload: payload.to_owned().into(),
        };
        let mut out = Vec::new();
        watch.show(&mut out, &publish).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_topic_keeps_its_line() {
        let mut watch = Watch { rows: HashMap::new(), rows_max: 2, columns: 20 };
        assert_eq!(show(&mut watch, "a", "1"), "a 1\n");
        assert_eq!(show(&mut watch, "b", "1\x1b["), "b 1 [\n");
        assert_eq!(show(&mut watch, "a", "2"), "\x1b[2A\r\x1b[2Ka 2\x1b[2B\r");
        assert_eq!(show(&mut watch, "c", "3"), "\x1b[1A\r\x1b[2Kc 3\x1b[1B\r");
    }
}
