//! What a broker says of itself on its administration port.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Broker;

/// One scrape: `clients_connected`, `connections_refused_total{bound="half_open"}`, and their
/// values. The prefix of the project is left out.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// The value of one reading.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no reading is called {name}: {:#?}", self.0))
    }

    /// The sum of all readings of one name, whatever their labels.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let labelled = format!("{name}{{");
        let of_name = |key: &str| key == name || key.starts_with(&labelled);
        let values: Vec<u64> =
            self.0.iter().filter(|(key, _)| of_name(key)).map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no reading is called {name}: {:#?}", self.0);
        values.iter().sum()
    }
}

impl Broker {
    /// Asks for all readings. The broker was started with `--admin-port 0`.
    pub(crate) fn metrics(&self) -> Metrics {
        let text = self.admin("GET", "/metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let readings = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.strip_prefix("mqttzoo_")?;
            let name = name.strip_suffix("{}").unwrap_or(name);
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(readings.collect())
    }

    /// Waits until the reading `name` satisfies `is_wanted`.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, is_wanted: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metrics().value(name);
            if is_wanted(value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{name} stays at {value}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One request to the administration port; the body of the answer, which must be a success.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str) -> String {
        let (status, body) = self.ask_admin(method, path).expect("an answer comes");
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    /// One request to the administration port: status and body of the answer.
    pub(crate) fn ask_admin(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let port = self.ports().admin.expect("an administration port was asked for");
        ask_admin_at(port, method, path)
    }
}

/// The same of whoever has this administration port.
pub(crate) fn ask_admin_at(port: u16, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::other("the answer is no HTTP"))
}

const PATIENCE: Duration = Duration::from_secs(10);
