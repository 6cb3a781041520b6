//! Configurations as text, and what they come to.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

/// A file that is gone when the test is.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mqttzoo-config-{}-{number}.toml", std::process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

fn surroundings(flags: &[&str], env: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        args: ["mqtt_broker"].iter().chain(flags).map(OsString::from).collect(),
        env: [("HOME", "/home/zoe")]
            .iter()
            .chain(env)
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        is_root: false,
    }
}

fn run(flags: &[&str], env: &[(&str, &str)]) -> Config {
    match load(&surroundings(flags, env)) {
        Ok((Request::Run(config), _)) => *config,
        other => panic!("{other:?}"),
    }
}

fn refused(flags: &[&str], env: &[(&str, &str)]) -> String {
    let error = load(&surroundings(flags, env)).expect_err("it should be refused").to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error
}

fn run_file(text: &str) -> Config {
    let file = File::with(text);
    run(&["--config", file.path().to_str().unwrap()], &[])
}

/// The message without the name of the file.
fn refused_file(text: &str) -> String {
    let file = File::with(text);
    let path = file.path().to_str().unwrap();
    refused(&["--config", path], &[]).replace(path, "FILE")
}

fn opened(config: &Config) -> Vec<String> {
    config.listeners.iter().map(ToString::to_string).collect()
}

#[test]
fn what_would_let_nobody_in_is_refused() {
    let text = refused(&["--packet-bytes-max", "127"], &[]);
    assert!(
        text.contains("packet_bytes_max is 127") && text.contains("the least is 128"),
        "{text}"
    );
    run(&["--packet-bytes-max", "128"], &[]);
    let text = refused(&["--ws-port", "8083", "--ws-path", "mqtt"], &[]);
    assert!(text.contains("the ws_path \"mqtt\": write \"/mqtt\""), "{text}");
    let text = refused_file("[[listener]]\nkind = 'ws'\nport = 1\nws_path = 'x/mqtt'\n");
    assert!(text.contains("write \"/x/mqtt\""), "{text}");
    run(&["--ws-port", "8083", "--ws-path", "/mqtt"], &[]);
}

#[test]
fn without_configuration_only_1883_listens_and_only_here() {
    let config = run(&[], &[]);
    assert_eq!(opened(&config), ["tcp 127.0.0.1:1883, [::1]:1883"]);
    assert!(config.listeners[0].allow_anonymous);
    assert!(config.listeners[0].has_default_hosts, "a machine without IPv6 still starts");
    assert_eq!(config.broker.data_dir, Path::new("/home/zoe/.local/state/mqttzoo"));
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = File::with("port = 1\ntls_port = 2\nws_port = 3\ncert = 'c'\nkey = 'k'");
    let config = run(
        &["--config", file.path().to_str().unwrap(), "--port", "100"],
        &[("MQTTZOO_PORT", "10"), ("MQTTZOO_TLS_PORT", "20")],
    );
    let listen = &config.listen;
    assert_eq!((listen.port, listen.tls_port, listen.ws_port), (Some(100), Some(20), Some(3)));
}

#[test]
fn the_environment_can_name_the_file() {
    let file = File::with("name = 'zoo'");
    let config = run(&[], &[("MQTTZOO_CONFIG", file.path().to_str().unwrap())]);
    assert_eq!(config.broker.name.as_deref(), Some("zoo"));
}

/// What some options need beside them.
const REQUIRED: [(&str, &str); 3] =
    [("MQTTZOO_CERT", "c"), ("MQTTZOO_KEY", "k"), ("MQTTZOO_QUEUE_BYTES_MAX", "80 MiB")];

#[test]
fn every_option_can_be_given_in_all_three_ways() {
    for group in Config::default().sections() {
        for row in group.options() {
            let (text, toml) = match row.form {
                "PORT" | "N" | "SECONDS" | "PERCENT" => ("7", "7"),
                "SIZE" => ("70 MiB", "'70 MiB'"),
                "ADDR" => ("127.0.0.7", "'127.0.0.7'"),
                "BOOL" => ("true", "true"),
                "LEVEL" => ("debug", "'debug'"),
                "FORMAT" => ("json", "'json'"),
                "WAY" => ("znodes", "'znodes'"),
                "POLICY" => ("disconnect", "'disconnect'"),
                "BARRIER" => ("bounded", "'bounded'"),
                "MODE" => ("require", "'require'"),
                "PLACE" => ("file", "'file'"),
                "WHERE" => ("database", "'database'"),
                "WHEN" => ("enqueued", "'enqueued'"),
                "FILTER=WHEN" => ("a/#=accepted", "'a/#=accepted'"),
                "N:FILTER" => ("7:some/#", "'7:some/#'"),
                _ => ("/some/where", "'/some/where'"),
            };
            let (name, variable) = (format!("--{}={text}", row.flag()), row.variable());
            let table = group.table().map_or_else(String::new, |table| format!("[{table}]\n"));
            let file = File::with(&format!("{table}{} = {toml}", row.key));
            let config_flag = format!("--config={}", file.path().display());
            let others: Vec<_> =
                REQUIRED.into_iter().filter(|(required, _)| *required != variable).collect();
            let with_one = [&others[..], &[(variable.as_str(), text)]].concat();
            let from_flag = run(&[&name], &others);
            assert_eq!(from_flag, run(&[], &with_one), "{}", row.key);
            assert_eq!(from_flag, run(&[&config_flag], &others), "{}", row.key);
            let value = |config: &Config| {
                let sections = config.sections();
                let mut rows = sections.iter().flat_map(|group| group.options());
                rows.find(|one| one.key == row.key).unwrap().value
            };
            assert_ne!(value(&from_flag), row.value, "{} kept its default", row.key);
        }
    }
}

#[test]
fn names_are_distinct_across_groups() {
    let config = Config::default();
    let rows: Vec<_> = config.sections().iter().flat_map(|group| group.options()).collect();
    let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.key).collect();
    assert_eq!(names.len(), rows.len());
}

#[test]
fn every_secret_can_stand_in_a_file_of_its_own() {
    for group in Config::default().sections() {
        for row in group.options() {
            if group.has(&format!("{}_file", row.key)) {
                continue;
            }
            let names_a_secret = ["password", "secret", "token"]
                .iter()
                .any(|word| row.key.split('_').any(|part| part == *word));
            assert!(!names_a_secret || row.key.ends_with("_file"), "{}", row.key);
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_line_and_suggestion() {
    assert_eq!(
        refused_file("name = 'a'\nprot = 1"),
        "FILE, line 2: unknown key `prot`: did you mean `port`?"
    );
    assert_eq!(
        refused_file("[limits]\n\nqueue_byte_max = 1"),
        "FILE, line 3: unknown key `queue_byte_max`: did you mean `queue_bytes_max`?"
    );
    assert_eq!(
        refused_file("[[listener]]\nknid = 'tcp'"),
        "FILE, line 2: unknown key `knid`: did you mean `kind`?"
    );
    assert_eq!(refused_file("xylophone = 1"), "FILE, line 1: unknown key `xylophone`");
    assert_eq!(
        refused_file("[limit]\nqueue_bytes_max = 1"),
        "FILE, line 1: unknown key `limit`: did you mean `limits`?"
    );
    assert_eq!(
        refused_file("[[listeners]]\nport = 1"),
        "FILE, line 1: unknown key `listeners`: did you mean `listener`?"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_sent_to_the_right_one() {
    assert_eq!(
        refused_file("in_flight_max = 1"),
        "FILE, line 1: unknown key `in_flight_max`: it belongs under [limits]"
    );
    assert_eq!(
        refused_file("[limits]\nport = 1"),
        "FILE, line 2: unknown key `port`: it belongs to the top level, above the first [table]"
    );
}

#[test]
fn a_value_that_makes_no_sense_is_refused_where_it_stands() {
    assert_eq!(
        refused_file("\nport = 'tcp'"),
        "FILE, line 2: port: `tcp` is not a number from 0 to 65535, or off"
    );
    assert_eq!(
        refused(&["--in-flight-max", "0"], &[]),
        "flag --in-flight-max: in_flight_max: `0` is not a number from 1 to 65535"
    );
    assert_eq!(
        refused(&[], &[("MQTTZOO_LOG", "loud")]),
        "environment variable MQTTZOO_LOG: log: `loud` is not one of error, warn, info, debug, \
         trace, off"
    );
    assert_eq!(
        refused_file("[limits]\npacket_bytes_max = { a = 1 }"),
        "FILE, line 2: packet_bytes_max: a table is not expected here"
    );
    assert_eq!(refused_file("limits = 1"), "FILE, line 1: limits: it is a table: write [limits]");
    assert_eq!(
        refused_file("listener = 1"),
        "FILE, line 1: listener: write [[listener]] for each listener"
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let message = refused_file("name = 'a'\nport 1883");
    assert!(message.starts_with("FILE, line 2: not valid TOML: "), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    assert_eq!(
        refused(&["--config", "/nowhere/at/all.toml"], &[]),
        "cannot read the configuration file /nowhere/at/all.toml: check --config and its \
         permissions"
    );
}

#[test]
fn a_mistyped_flag_is_refused_in_one_line() {
    let message = refused(&["--prot", "1"], &[]);
    assert!(message.contains("'--prot'") && message.contains("'--port'"), "{message}");
    assert!(message.ends_with("(--help lists the flags)"), "{message}");
}

#[test]
fn flags_of_things_not_built_yet_are_refused() {
    for flag in ["--gateways", "--queue-port", "--tinymq-port"] {
        refused(&[flag, "1"], &[]);
    }
}

#[test]
fn an_unknown_variable_is_a_warning_with_a_suggestion() {
    let (_, warnings) = load(&surroundings(&[], &[("MQTTZOO_PROT", "1")])).unwrap();
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["environment variable MQTTZOO_PROT is unknown and ignored: did you mean `MQTTZOO_PORT`?"]
    );
}

#[test]
fn what_kubernetes_sets_is_passed_over_with_one_line() {
    let env = [
        ("MQTTZOO_PORT", "tcp://10.0.0.1:1883"),
        ("MQTTZOO_SERVICE_HOST", "10.0.0.1"),
        ("MQTTZOO_PORT_1883_TCP_ADDR", "10.0.0.1"),
        ("MQTTZOO_WS_PORT", "8083"),
    ];
    let (request, warnings) = load(&surroundings(&[], &env)).unwrap();
    let Request::Run(config) = request else { panic!("it should run") };
    assert_eq!((config.listen.port, config.listen.ws_port), (Some(1883), Some(8083)));
    assert!(matches!(&warnings[..], [Warning::KubernetesVariables(_)]));
}

#[test]
fn an_empty_variable_counts_as_absent() {
    assert_eq!(run(&[], &[("MQTTZOO_PORT", "")]), run(&[], &[]));
}

#[test]
fn a_listener_that_others_reach_must_say_who_may_come_in() {
    assert_eq!(
        refused(&["--host", "0.0.0.0"], &[]),
        "listener tcp 0.0.0.0:1883 would let nobody in: set allow_anonymous = true \
         (--allow-anonymous) to let everybody in, or password_file (--password-file FILE) to let \
         in those who know a password"
    );
    for said in
        [&["--allow-anonymous"][..], &["--allow-anonymous=true"], &["--allow-anonymous", "true"]]
    {
        let args = [&["--host", "0.0.0.0"], said, &["--port", "1884"]].concat();
        assert!(run(&args, &[]).listeners[0].allow_anonymous, "{said:?}");
    }
    let with_passwords = run(&["--host", "::", "--password-file", "users"], &[]);
    assert!(!with_passwords.listeners[0].allow_anonymous);
    let mutual = ["--host=::", "--port=off", "--tls-port=0", "--cert=c", "--key=k", "--cafile=a"];
    assert!(!run(&mutual, &[]).listeners[0].allow_anonymous);
    for said in [&["--allow-anonymous=false"][..], &["--allow-anonymous", "false"]] {
        let refusal = refused(said, &[]);
        assert!(refusal.contains("would let nobody in"), "not even on loopback when it is said so");
    }
}

#[test]
fn a_password_file_ends_anonymous_access_on_loopback_too() {
    assert!(!run(&["--password-file", "users"], &[]).listeners[0].allow_anonymous);
    let both = run(&["--password-file", "users", "--allow-anonymous"], &[]);
    assert!(both.listeners[0].allow_anonymous);
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    assert_eq!(
        refused(&["--tls-port", "8883", "--cert", "c"], &[]),
        "the tls listener needs a certificate and its key: give --cert FILE and --key FILE"
    );
}

#[test]
fn what_is_shown_to_zookeeper_is_a_certificate_its_key_and_over_tls() {
    let files = ["--zookeeper-cafile=a", "--zookeeper-cert=c", "--zookeeper-key=k"];
    for given in [&files[..], &files[..1], &[]] {
        let _accepted = run(&[&["--zookeeper", "z"], given].concat(), &[]);
    }
    for given in [&files[..2], &files[1..], &files[1..2], &files[2..]] {
        let refusal = refused(&[&["--zookeeper", "z"], given].concat(), &[]);
        assert!(refusal.contains("belong together, and to zookeeper_cafile"), "{refusal}");
    }
}

#[test]
fn listener_tables_inherit_what_they_do_not_say() {
    let config = run_file(
        "cert = 'c'\nkey = 'k'\nallow_anonymous = true\n\
         [limits]\npacket_bytes_max = '2 MiB'\npublish_rate_max = 9\n\
         [[listener]]\nkind = 'wss'\nport = 8084\nhost = ['0.0.0.0']\ncert = 'own'\n\
         packet_bytes_max = 1000\n\
         [[listener]]\nkind = 'unix'\npath = '/run/b'\nproxy_protocol = true",
    );
    assert_eq!(opened(&config), ["wss 0.0.0.0:8084", "unix /run/b"]);
    let (wss, unix) = (&config.listeners[0], &config.listeners[1]);
    let files = TlsFiles { cert: "own".into(), key: "k".into(), cafile: None };
    assert_eq!((&wss.tls, &unix.tls), (&Some(files), &None));
    assert_eq!(wss.limits.packet_bytes_max, ByteSize(1_000));
    assert_eq!(unix.limits.packet_bytes_max, ByteSize::mib(2));
    assert_eq!(wss.limits.publish_rate_max, config.limits.publish_rate_max);
    assert_eq!((wss.proxy_protocol, unix.proxy_protocol), (false, true));
}

#[test]
fn listener_tables_replace_the_default_port() {
    let config = run_file("[[listener]]\nkind = 'ws'\nport = 8083");
    assert_eq!(opened(&config), ["ws 127.0.0.1:8083, [::1]:8083"]);
    let config = run_file("port = 0\n[[listener]]\nkind = 'ws'\nport = 0\nhost = ['127.0.0.1']");
    assert_eq!(opened(&config), ["tcp 127.0.0.1:0, [::1]:0", "ws 127.0.0.1:0"]);
}

#[test]
fn two_listeners_in_one_place_are_refused() {
    assert_eq!(
        refused(&["--ws-port", "1883"], &[]),
        "two listeners share 127.0.0.1:1883: give one of them another port or path"
    );
}

#[test]
fn a_listener_table_needs_a_place() {
    assert!(refused_file("[[listener]]\nkind = 'tls'\ncert = 'c'\nkey = 'k'").contains("a port"));
    assert!(refused_file("[[listener]]\nkind = 'unix'\nport = 1").contains("a path"));
    assert!(refused(&["--port", "off"], &[]).starts_with("no listener is left"));
}

#[test]
fn a_packet_must_fit_the_queue_it_may_wait_in() {
    assert!(refused(&["--queue-bytes-max", "1 KiB"], &[]).contains("would fit no queue"));
    assert!(refused(&["--packet-bytes-max", "1 GiB"], &[]).contains("no packet of MQTT is larger"));
}

#[test]
fn the_printed_configuration_gives_the_same_again() {
    let text = "name = 'a \"zoo\"'\nport = 'off'\nunix = '/run/b'\nhost = 'localhost'\n\
                [limits]\nqueue_bytes_max = 70000001\nin_flight_max = 0x10\n\
                [[listener]]\nkind = 'ws'\nport = 0\nin_flight_max = 3";
    let file = File::with(text);
    let config_flag = format!("--config={}", file.path().display());
    let config = run(&[&config_flag], &[]);
    let (request, _) = load(&surroundings(&[&config_flag, "--print-config"], &[])).unwrap();
    let Request::Show(printed) = request else { panic!("it should print") };
    assert!(printed.contains("line 6"), "it says where a value is from: {printed}");
    assert_eq!(run_file(&printed), config);
    let (Request::Show(defaults), _) = load(&surroundings(&["--print-config"], &[])).unwrap()
    else {
        panic!("it should print")
    };
    assert_eq!(run_file(&defaults), run(&[], &[]));
}

#[test]
fn the_data_directory_is_found_in_the_surroundings() {
    let mut with_xdg = surroundings(&[], &[("XDG_STATE_HOME", "/state")]);
    assert_eq!(with_xdg.data_dir(), Some(PathBuf::from("/state/mqttzoo")));
    with_xdg.is_root = true;
    assert_eq!(with_xdg.data_dir(), Some(PathBuf::from("/var/lib/mqttzoo")));
    let nowhere = Surroundings { args: vec!["mqtt_broker".into()], ..Surroundings::default() };
    assert!(matches!(load(&nowhere), Err(ConfigError::NoDataDir)));
}

#[test]
fn passwd_is_understood() {
    let request = |flags| load(&surroundings(flags, &[])).map(|(request, _)| request);
    let expected = |is_deletion| Passwd { file: "users".into(), user: "alice".into(), is_deletion };
    assert_eq!(request(&["passwd", "users", "alice"]).unwrap(), Request::Passwd(expected(false)));
    assert_eq!(
        request(&["passwd", "-D", "users", "alice"]).unwrap(),
        Request::Passwd(expected(true))
    );
    assert!(request(&["passwd", "users"]).is_err());
}

#[test]
fn help_shows_examples_and_every_option() {
    let (Request::Show(help), _) = load(&surroundings(&["--help"], &[])).unwrap() else {
        panic!("it should show")
    };
    assert!(help.contains("Examples:"));
    for group in Config::default().sections() {
        for row in group.options() {
            assert!(help.contains(&format!("--{}", row.flag())), "{}", row.key);
            assert!(help.contains(&row.variable()), "{}", row.key);
        }
    }
    let (Request::Show(version), _) = load(&surroundings(&["--version"], &[])).unwrap() else {
        panic!("it should show")
    };
    assert_eq!(version, format!("mqtt_broker {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_database_is_given_whole_or_in_parts() {
    assert!(!run(&[], &[]).database.is_given());
    for flags in [&["--db", "host=db"][..], &["--db-host", "db"], &["--db-name", "m"]] {
        assert!(run(flags, &[]).database.is_given(), "{flags:?}");
    }
    let with_password = run(&["--db", "host=db"], &[("MQTTZOO_DB_PASSWORD", "p")]).database;
    assert_eq!(with_password.db_password.unwrap().reveal(), "p");
    for (flags, parts) in [
        (&["--db", "host=db", "--db-user", "m"][..], ["db ", "db_user"]),
        (&["--db-password", "p", "--db-password-file", "f"], ["db_password ", "db_password_file"]),
        (&["--no-database", "--db", "host=db"], ["no_database", "db:"]),
        (&["--no-database", "--db-name", "m"], ["no_database", "db_name"]),
        (&["--db-sslmode", "sometimes"], ["sometimes", "verify-full"]),
    ] {
        let said = refused(flags, &[]);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn passwords_are_not_printed() {
    let flags = ["--db", "postgres://m:geheim@db/m", "--db-password", "geheim", "--print-config"];
    let Ok((Request::Show(text), _)) = load(&surroundings(&flags, &[])) else { panic!() };
    assert!(text.contains("db = \"(not shown)\"") && !text.contains("geheim"), "{text}");
}
