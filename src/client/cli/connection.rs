//! From the command line to an endpoint and a session.

use std::{num::NonZeroU16, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    common_options::{CommonOptions, ConnectOptions, TlsFlags},
    field::{check_common, check_connect},
    property::PacketProperties,
    start_error::StartError,
    url::{ServerUrl, decode, split_port},
};
use crate::{
    client::{
        endpoint::{Address, Endpoint, Proxy},
        session::SessionOptions,
        tls::{TlsFiles, TlsOptions},
    },
    mqtt::{
        Connect, ConnectProperties, Disconnect, MessageProperties, ProtocolVersion, QoS,
        ReasonCode, TopicName, Will,
    },
};

/// Everything both programs derive from the common options.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) session: SessionOptions,
    pub(super) properties: PacketProperties,
    pub(super) topics: Vec<String>,
}

impl Plan {
    /// Checks the options against each other and reads the files they name.
    pub(super) fn new(
        options: &CommonOptions,
        inflight_max: NonZeroU16,
    ) -> Result<Self, StartError> {
        if let Some(complaint) = options.unsupported.complaint() {
            return Err(StartError::Usage(complaint));
        }
        let url = options.connect.url.as_deref().map(ServerUrl::parse).transpose()?;
        let url = url.unwrap_or_default();
        check_common(options)?;
        let properties =
            PacketProperties::new(&options.behaviour.property).map_err(StartError::usage)?;
        let mut topics = options.behaviour.topic.clone();
        topics.extend(url.topic.clone());
        Ok(Self {
            endpoint: endpoint(options, &url)?,
            session: session(options, &url, &properties, inflight_max)?,
            properties,
            topics,
        })
    }

    /// The DISCONNECT of a normal end.
    pub(super) fn disconnect(&self) -> Disconnect {
        let mut disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        disconnect.user_properties.clone_from(&self.properties.disconnect);
        disconnect.session_expiry_interval_secs = self.properties.disconnect_session_expiry;
        disconnect
    }
}

fn endpoint(options: &CommonOptions, url: &ServerUrl) -> Result<Endpoint, StartError> {
    let ConnectOptions { host, port, unix, ws, bind, proxy, .. } = &options.connect;
    let is_websocket = *ws || url.is_websocket;
    let port = port.or(url.port);
    let is_tls = url.is_tls || asks_for_tls(&options.tls) || port == Some(8883);
    let default_port = match (is_tls, is_websocket) {
        (false, false) => 1883,
        (true, false) => 8883,
        (false, true) => 8083,
        (true, true) => 8084,
    };
    let named = Some(url.host.clone()).filter(|host| !host.is_empty());
    let address = match unix {
        Some(path) => Address::Unix(path.clone()),
        None => Address::Tcp {
            host: host.clone().or(named).unwrap_or_else(|| "localhost".to_owned()),
            port: port.unwrap_or(default_port),
        },
    };
    Ok(Endpoint {
        address,
        tls: is_tls.then(|| tls(&options.tls)).transpose()?,
        websocket_path: is_websocket.then(|| "/mqtt".to_owned()),
        bind: *bind,
        proxy: proxy.as_deref().map(parse_proxy).transpose()?,
    })
}

fn asks_for_tls(flags: &TlsFlags) -> bool {
    flags.tls
        || flags.cafile.is_some()
        || flags.capath.is_some()
        || flags.cert.is_some()
        || flags.tls_use_os_certs
}

fn tls(flags: &TlsFlags) -> Result<TlsOptions, StartError> {
    let files = TlsFiles {
        cafile: flags.cafile.clone(),
        capath: flags.capath.clone(),
        uses_os_certs: flags.tls_use_os_certs,
        cert: flags.cert.clone(),
        key: flags.key.clone(),
        alpn: flags.tls_alpn.clone(),
        version: flags.tls_version,
        is_insecure: flags.insecure,
    };
    Ok(TlsOptions { config: files.load()?, server_name: flags.sni.clone() })
}

fn parse_proxy(url: &str) -> Result<Proxy, StartError> {
    let wrong = || {
        StartError::usage(format!(
            "--proxy {url}: it is socks5h://[username[:password]@]host[:port]"
        ))
    };
    let rest = url.strip_prefix("socks5h://").ok_or_else(wrong)?;
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let (host, port) = split_port(place.trim_end_matches('/')).ok_or_else(wrong)?;
    let credentials = login.map(|login| {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        (decode(user), decode(password))
    });
    Ok(Proxy { host: host.to_owned(), port: port.unwrap_or(1080), credentials })
}

fn session(
    options: &CommonOptions,
    url: &ServerUrl,
    properties: &PacketProperties,
    inflight_max: NonZeroU16,
) -> Result<SessionOptions, StartError> {
    let ConnectOptions { protocol_version, disable_clean_session, keepalive, .. } = options.connect;
    let version = protocol_version.unwrap_or(ProtocolVersion::V5);
    if options.connect.id.as_deref() == Some("") {
        let words = "-i is empty: leave it out, and the server chooses a Client Identifier";
        return Err(StartError::usage(words));
    }
    let client_id = client_id(&options.connect, version);
    if disable_clean_session && client_id.is_empty() {
        let words = "-c continues the session of a client: say which one with -i ID";
        return Err(StartError::usage(words));
    }
    let user_name = options.connect.username.clone().or_else(|| url.user.clone());
    let password = password(&options.connect)?
        .or_else(|| url.password.clone().map(|password| Bytes::from(password.into_bytes())));
    if password.is_some() && user_name.is_none() && version != ProtocolVersion::V5 {
        let words = "-P without -u: before MQTT 5 a password needs a user name";
        return Err(StartError::usage(words));
    }
    let connect = Connect {
        protocol_version: version,
        clean_start: !disable_clean_session,
        keep_alive_secs: keepalive,
        client_id,
        will: will(options, properties)?,
        user_name: user_name.map(ByteString::from),
        password,
        properties: connect_properties(&options.connect, properties),
    };
    check_connect(&connect, options, url)?;
    Ok(SessionOptions {
        connect,
        inflight_max,
        connack_within: CONNACK_WITHIN,
        falls_back: protocol_version.is_none(),
    })
}

/// An empty one lets the server choose, which 3.1 does not know.
fn client_id(options: &ConnectOptions, version: ProtocolVersion) -> ByteString {
    let process_id = std::process::id();
    match (&options.id, &options.id_prefix) {
        (Some(id), _) => id.as_str().into(),
        (None, Some(prefix)) => format!("{prefix}{process_id}").into(),
        (None, None) if version == ProtocolVersion::V31 => format!("mqttzoo-{process_id}").into(),
        (None, None) => ByteString::new(),
    }
}

fn password(options: &ConnectOptions) -> Result<Option<Bytes>, StartError> {
    if let Some(path) = &options.password_file {
        let text = std::fs::read(path)
            .map_err(|source| StartError::File { path: path.display().to_string(), source })?;
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        return Ok(Some(Bytes::copy_from_slice(line)));
    }
    Ok(options.pw.as_ref().map(|password| Bytes::copy_from_slice(password.as_bytes())))
}

fn connect_properties(
    options: &ConnectOptions,
    properties: &PacketProperties,
) -> ConnectProperties {
    let mut connect = properties.connect.clone();
    if let Some(secs) = options.session_expiry_interval {
        connect.session_expiry_interval_secs = Some(secs);
    } else if options.disable_clean_session && !properties.has_session_expiry {
        connect.session_expiry_interval_secs = Some(u32::MAX);
    }
    connect
}

fn will(
    options: &CommonOptions,
    properties: &PacketProperties,
) -> Result<Option<Box<Will>>, StartError> {
    let Some(topic) = &options.will.will_topic else { return Ok(None) };
    let topic = TopicName::parse(topic.as_str().into())
        .map_err(|error| StartError::usage(format!("--will-topic {topic}: {error}")))?;
    let payload = options.will.will_payload.as_ref();
    Ok(Some(Box::new(Will {
        topic,
        payload: payload.map_or_else(Bytes::new, |it| Bytes::copy_from_slice(it.as_bytes())),
        qos: options.will.will_qos.unwrap_or(QoS::AtMostOnce),
        retain: options.will.will_retain,
        delay_interval_secs: options.will.will_delay.or(properties.will_delay).unwrap_or(0),
        properties: shared(&properties.will),
    })))
}

/// `None` when there are none, as packets have it.
pub(super) fn shared(properties: &MessageProperties) -> Option<Arc<MessageProperties>> {
    (*properties != MessageProperties::default()).then(|| Arc::new(properties.clone()))
}

/// How long a server may take to answer the CONNECT.
const CONNACK_WITHIN: Duration = Duration::from_secs(20);
