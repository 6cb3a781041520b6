//! `-L`: user, password, host, port and topic in one URL.

use super::start_error::StartError;

/// What a URL says; what it does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) is_tls: bool,
    pub(super) is_websocket: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) topic: Option<String>,
}

impl ServerUrl {
    /// Parses `mqtt(s)://` or `ws(s)://[user[:password]@]host[:port][/topic]`.
    pub(super) fn parse(url: &str) -> Result<Self, StartError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(url, "no scheme"))?;
        let (is_tls, is_websocket) = match scheme {
            "mqtt" => (false, false),
            "mqtts" => (true, false),
            "ws" => (false, true),
            "wss" => (true, true),
            _ => return Err(wrong(url, "the scheme is mqtt, mqtts, ws or wss")),
        };
        let (authority, topic) = match rest.split_once('/') {
            Some((authority, topic)) => (authority, Some(topic.to_owned())),
            None => (rest, None),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            Some(Ok((user, password))) => (Some(decode(user)), Some(decode(password))),
            Some(Err(user)) => (Some(decode(user)), None),
            None => (None, None),
        };
        let (host, port) = split_port(place).ok_or_else(|| wrong(url, "the port is no number"))?;
        if host.is_empty() {
            return Err(wrong(url, "no host"));
        }
        let topic = topic.filter(|topic| !topic.is_empty());
        Ok(Self { is_tls, is_websocket, user, password, host: host.to_owned(), port, topic })
    }
}

/// Splits `host:port`; an IPv6 address with a port stands in brackets.
pub(super) fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = after.strip_prefix(':').map(str::parse).transpose().ok()?;
        return (after.is_empty() || port.is_some()).then_some((host, port));
    }
    match place.split_once(':') {
        None => Some((place, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Decodes `%XX`; anything else stays.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wrong(url: &str, reason: &str) -> StartError {
    StartError::usage(format!(
        "-L {url}: {reason}; it is mqtt(s)://[username[:password]@]host[:port]/topic"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_optional_but_the_host() {
        let url = ServerUrl::parse("mqtt://h").unwrap();
        assert_eq!(url, ServerUrl { host: "h".into(), ..ServerUrl::default() });
        let url = ServerUrl::parse("mqtts://u%40x:p%3A:w@[::1]:99/a/b").unwrap();
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("u@x"), Some("p::w")));
        assert_eq!((&*url.host, url.port, url.is_tls), ("::1", Some(99), true));
        assert_eq!(url.topic.as_deref(), Some("a/b"));
        assert!(ServerUrl::parse("wss://h/t").unwrap().is_websocket);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in ["h", "http://h/t", "mqtt://", "mqtt://h:x/t", "mqtt://[::1/t"] {
            assert!(ServerUrl::parse(url).is_err(), "{url}");
        }
    }
}
