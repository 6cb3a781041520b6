//! What fits into a field of a packet: every string and every binary value of MQTT has at most 65,535
//! bytes.

use super::{
    common_options::CommonOptions, property::PropertyOption, start_error::StartError,
    url::ServerUrl,
};
use crate::mqtt::{Connect, FIELD_BYTES_MAX};

/// Checks the value of one option.
pub(super) fn check_field(option: &str, value: &[u8]) -> Result<(), StartError> {
    if value.len() <= FIELD_BYTES_MAX {
        return Ok(());
    }
    let len = value.len();
    Err(StartError::usage(format!(
        "{option}: it has {len} bytes, and a field of MQTT has at most {FIELD_BYTES_MAX}"
    )))
}

/// Checks what both programs send, by the options that it comes from.
pub(super) fn check_common(options: &CommonOptions) -> Result<(), StartError> {
    for property in &options.behaviour.user_property {
        check_field("-Y", property.name.as_bytes())?;
        check_field("-Y", property.value.as_bytes())?;
    }
    for property in &options.behaviour.property {
        check_property(property)?;
    }
    Ok(())
}

fn check_property(property: &PropertyOption) -> Result<(), StartError> {
    let option = format!("-D {} {}", property.command, property.identifier);
    check_field(&option, property.value.as_bytes())?;
    check_field(&option, property.second.as_deref().unwrap_or_default().as_bytes())
}

/// Checks what a CONNECT is made of.
pub(super) fn check_connect(
    connect: &Connect,
    options: &CommonOptions,
    url: &ServerUrl,
) -> Result<(), StartError> {
    let id_option = if options.connect.id.is_some() { "-i" } else { "-I" };
    check_field(id_option, connect.client_id.as_bytes())?;
    let user_option = if options.connect.username.is_some() { "-u" } else { "-L" };
    check_field(user_option, connect.user_name.as_deref().unwrap_or_default().as_bytes())?;
    let password_option = match &options.connect {
        given if given.password_file.is_some() => "--password-file",
        given if given.pw.is_none() && url.password.is_some() => "-L",
        _ => "-P",
    };
    check_field(password_option, connect.password.as_deref().unwrap_or_default())?;
    let will_payload = connect.will.as_ref().map(|will| &*will.payload);
    check_field("--will-payload", will_payload.unwrap_or_default())
}
