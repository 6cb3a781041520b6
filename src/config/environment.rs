//! The environment variables of ours, and those that only look like it.

use std::ffi::OsString;

use super::{
    Config, ConfigError, Origin, Warning,
    draft::Setting,
    error::suggestion,
    option::{OptionRow, VARIABLE_PREFIX},
    value::Shape,
};

/// What the environment says.
#[derive(Default)]
pub(super) struct Environment {
    /// The configuration file, if it is named.
    pub(super) config_file: Option<String>,
    /// Options.
    pub(super) settings: Vec<Setting>,
    /// Variables that have our prefix and no meaning.
    pub(super) warnings: Vec<Warning>,
}

/// Finds the variables of ours among `variables`. An empty one counts as absent: that is how
/// container runtimes pass on what nobody has set.
pub(super) fn read(variables: &[(OsString, OsString)]) -> Result<Environment, ConfigError> {
    let rows: Vec<OptionRow> =
        Config::default().sections().iter().flat_map(|group| group.options()).collect();
    let mut environment = Environment::default();
    let mut from_kubernetes = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let Some(value) = value.to_str() else {
            return Err(ConfigError::Value {
                origin: Origin::Variable(name.to_owned()),
                key: "value".to_owned(),
                message: "it is not UTF-8".to_owned(),
            });
        };
        if is_from_kubernetes(name, value) {
            from_kubernetes.push(name.to_owned());
        } else if name == CONFIG_FILE {
            environment.config_file = Some(value.to_owned());
        } else if let Some(row) = rows.iter().find(|row| row.variable() == name) {
            environment.settings.push(setting(row, name, value));
        } else {
            let hint = suggestion(name, rows.iter().map(OptionRow::variable));
            environment.warnings.push(Warning::UnknownVariable { name: name.to_owned(), hint });
        }
    }
    if !from_kubernetes.is_empty() {
        from_kubernetes.sort();
        environment.warnings.push(Warning::KubernetesVariables(from_kubernetes));
    }
    Ok(environment)
}

fn setting(row: &OptionRow, name: &str, value: &str) -> Setting {
    let texts = match row.shape {
        Shape::Many => value.split(',').map(|one| one.trim().to_owned()).collect(),
        Shape::One | Shape::Switch => vec![value.to_owned()],
    };
    Setting { key: row.key.to_owned(), texts, origin: Origin::Variable(name.to_owned()) }
}

/// Kubernetes gives every pod the addresses of the Services of its namespace. For one named
/// `mqttzoo` or `mqttzoo-tls` the names have our prefix, and one of them is even `MQTTZOO_PORT`.
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    let is_port_part = name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        rest.split('_').next().is_some_and(|port| port.parse::<u16>().is_ok())
    });
    (is_address && name.ends_with("_PORT")) || is_service || is_port_part
}

const CONFIG_FILE: &str = "MQTTZOO_CONFIG";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_makes_are_told_from_ours() {
        for (name, value) in [
            ("MQTTZOO_PORT", "tcp://10.0.0.1:1883"),
            ("MQTTZOO_TLS_PORT", "tcp://10.0.0.1:8883"),
            ("MQTTZOO_SERVICE_HOST", "10.0.0.1"),
            ("MQTTZOO_SERVICE_PORT", "1883"),
            ("MQTTZOO_SERVICE_PORT_MQTT", "1883"),
            ("MQTTZOO_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
            ("MQTTZOO_PORT_1883_TCP_ADDR", "10.0.0.1"),
            ("MQTTZOO_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
        ] {
            assert!(is_from_kubernetes(name, value), "{name}");
        }
        for (name, value) in
            [("MQTTZOO_PORT", "1883"), ("MQTTZOO_HOST", "10.0.0.1"), ("MQTTZOO_PORTS", "1")]
        {
            assert!(!is_from_kubernetes(name, value), "{name}");
        }
    }
}
