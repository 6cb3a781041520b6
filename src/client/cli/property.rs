//! `-D COMMAND IDENTIFIER VALUE`: MQTT 5 properties, packet by packet.

use std::{num::NonZeroU16, num::NonZeroU32, str::FromStr};

use bytes::Bytes;
use bytestring::ByteString;

use super::argv::SEPARATOR;
use crate::mqtt::{ConnectProperties, MessageProperties, TopicName, UserProperty};

/// What `-D` asked for, sorted by packet.
#[derive(Clone, Debug, Default)]
pub(super) struct PacketProperties {
    pub(super) connect: ConnectProperties,
    pub(super) has_session_expiry: bool,
    pub(super) publish: MessageProperties,
    pub(super) topic_alias: Option<NonZeroU16>,
    pub(super) subscribe: Vec<UserProperty>,
    pub(super) subscription_id: Option<u32>,
    pub(super) unsubscribe: Vec<UserProperty>,
    pub(super) disconnect: Vec<UserProperty>,
    pub(super) disconnect_session_expiry: Option<u32>,
    pub(super) will: MessageProperties,
    pub(super) will_delay: Option<u32>,
}

/// One `-D`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PropertyOption {
    pub(super) command: String,
    pub(super) identifier: String,
    pub(super) value: String,
    /// The second half of a User Property.
    pub(super) second: Option<String>,
}

impl FromStr for PropertyOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(SEPARATOR).map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(command), Some(identifier), Some(value), second) => {
                Ok(Self { command, identifier, value, second })
            }
            _ => Err("it takes COMMAND IDENTIFIER VALUE, and user-property two values".to_owned()),
        }
    }
}

impl PacketProperties {
    /// Sorts the options; the error says which one is wrong.
    pub(super) fn new(options: &[PropertyOption]) -> Result<Self, String> {
        let mut sorted = Self::default();
        for option in options {
            let PropertyOption { command, identifier, value, .. } = option;
            sorted
                .apply(option)
                .map_err(|reason| format!("-D {command} {identifier} {value}: {reason}"))?;
        }
        Ok(sorted)
    }

    fn apply(&mut self, option: &PropertyOption) -> Result<(), String> {
        match option.command.to_ascii_lowercase().as_str() {
            "connect" => self.apply_connect(option),
            "publish" if option.identifier == "topic-alias" => {
                self.topic_alias = Some(number(&option.value)?);
                Ok(())
            }
            "publish" => apply_message(&mut self.publish, option),
            "will" if option.identifier == "will-delay-interval" => {
                self.will_delay = Some(number(&option.value)?);
                Ok(())
            }
            "will" => apply_message(&mut self.will, option),
            "subscribe" if option.identifier == "subscription-identifier" => {
                self.subscription_id = Some(number::<NonZeroU32>(&option.value)?.get());
                Ok(())
            }
            "subscribe" => apply_user(&mut self.subscribe, option),
            "unsubscribe" => apply_user(&mut self.unsubscribe, option),
            "disconnect" if option.identifier == "session-expiry-interval" => {
                self.disconnect_session_expiry = Some(number(&option.value)?);
                Ok(())
            }
            "disconnect" => apply_user(&mut self.disconnect, option),
            "auth" | "puback" | "pubrec" | "pubrel" | "pubcomp" => {
                Err("this packet is sent without properties here".to_owned())
            }
            _ => Err("there is no such packet to give properties to".to_owned()),
        }
    }

    fn apply_connect(&mut self, option: &PropertyOption) -> Result<(), String> {
        let connect = &mut self.connect;
        let value = &option.value;
        match option.identifier.as_str() {
            "authentication-data" => {
                connect.authentication_data = Some(Bytes::copy_from_slice(value.as_bytes()));
            }
            "authentication-method" => connect.authentication_method = Some(string(value)),
            "maximum-packet-size" => connect.maximum_packet_size = Some(number(value)?),
            "receive-maximum" => connect.receive_maximum = Some(number(value)?),
            "request-problem-information" => connect.request_problem_information = bit(value)?,
            "request-response-information" => connect.request_response_information = bit(value)?,
            "session-expiry-interval" => {
                connect.session_expiry_interval_secs = Some(number(value)?);
                self.has_session_expiry = true;
            }
            "topic-alias-maximum" => connect.topic_alias_maximum = number(value)?,
            _ => return apply_user(&mut connect.user_properties, option),
        }
        Ok(())
    }
}

fn apply_message(into: &mut MessageProperties, option: &PropertyOption) -> Result<(), String> {
    let value = &option.value;
    match option.identifier.as_str() {
        "content-type" => into.content_type = Some(string(value)),
        "correlation-data" => {
            into.correlation_data = Some(Bytes::copy_from_slice(value.as_bytes()));
        }
        "message-expiry-interval" => into.message_expiry_interval_secs = Some(number(value)?),
        "payload-format-indicator" => into.payload_format_is_utf8 = Some(bit(value)?),
        "response-topic" => {
            let topic = TopicName::parse(string(value)).map_err(|error| error.to_string())?;
            into.response_topic = Some(topic);
        }
        _ => return apply_user(&mut into.user_properties, option),
    }
    Ok(())
}

fn apply_user(into: &mut Vec<UserProperty>, option: &PropertyOption) -> Result<(), String> {
    if option.identifier != "user-property" {
        return Err("this packet has no such property".to_owned());
    }
    let second = option.second.as_deref().ok_or("a user property has a name and a value")?;
    into.push(UserProperty { name: string(&option.value), value: string(second) });
    Ok(())
}

/// `NAME=VALUE` of `-Y`.
pub(super) fn parse_user_property(text: &str) -> Result<UserProperty, String> {
    let (name, value) = text.split_once('=').ok_or("it is KEY=VALUE")?;
    Ok(UserProperty { name: string(name), value: string(value) })
}

fn string(text: &str) -> ByteString {
    ByteString::from(text)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "the value is not a number this property can have".to_owned())
}

fn bit(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("the value is 0 or 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str) -> Result<PacketProperties, String> {
        let option = command.replace(' ', &SEPARATOR.to_string()).parse()?;
        PacketProperties::new(&[option])
    }

    #[test]
    fn properties_are_sorted_by_packet() {
        assert_eq!(
            check("connect receive-maximum 7").unwrap().connect.receive_maximum.unwrap().get(),
            7
        );
        assert_eq!(check("PUBLISH content-type x").unwrap().publish.content_type.unwrap(), "x");
        assert_eq!(check("will will-delay-interval 3").unwrap().will_delay, Some(3));
        assert_eq!(check("subscribe user-property a b").unwrap().subscribe.len(), 1);
    }

    #[test]
    fn a_property_in_the_wrong_place_is_refused() {
        for command in [
            "publish receive-maximum 1",
            "connect receive-maximum 0",
            "connect content-type x",
            "disconnect user-property a",
            "puback user-property a b",
            "nonsense user-property a b",
            "publish",
        ] {
            assert!(check(command).is_err(), "{command}");
        }
    }
}
