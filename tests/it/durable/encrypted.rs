//! A database that lets in only who comes encrypted and knows the password.

use std::fs;

use crate::harness::{Authority, Broker, Postgres};

const PASSWORD: &str = "geheim";

/// The arguments that lead to `server`.
fn arguments(server: &Postgres, others: &[&str]) -> Vec<String> {
    let port = server.port().to_string();
    let place = ["--db-host", "127.0.0.1", "--db-port", &port, "--db-name", "postgres"];
    let user = ["--db-user", "mqtt"];
    place.into_iter().chain(user).chain(others.iter().copied()).map(str::to_owned).collect()
}

/// A broker that takes no clients, and why.
fn check_refusal(server: &Postgres, others: &[&str], why: &str) {
    let mut broker = Broker::start_with(|_| arguments(server, others));
    broker.wait_for_log(why);
    assert!(broker.terminate().success());
    assert!(!broker.log().contains(PASSWORD), "{}", broker.log());
    assert_eq!(broker.count_in_log("accepts connections"), 0);
}

#[test]
fn a_database_is_believed_by_its_certificate_and_believes_a_password() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let Some(mut server) = Postgres::start() else { return };
    server.lock_up(&ours, PASSWORD);
    let (ca, other_ca) = (ours.path("ca.pem"), theirs.path("ca.pem"));

    let broker = Broker::start_with(|directory| {
        let file = directory.join("password");
        fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        let file = file.display().to_string();
        arguments(&server, &["--db-password-file", &file, "--db-cafile", &ca])
    });
    broker.wait_for_log("keeps Sessions in PostgreSQL at 127.0.0.1/postgres");
    broker.wait_for_log("accepts connections");
    assert!(!broker.log().contains(PASSWORD), "{}", broker.log());
    drop(broker);

    let stranger = ["--db-password", PASSWORD, "--db-cafile", &other_ca];
    check_refusal(&server, &stranger, "certificate");
    let in_the_clear = ["--db-password", PASSWORD, "--db-sslmode", "disable"];
    check_refusal(&server, &in_the_clear, "no pg_hba.conf entry");
    let wrong = ["--db-password", "falsch", "--db-sslmode", "require"];
    check_refusal(&server, &wrong, "password authentication failed");
}
