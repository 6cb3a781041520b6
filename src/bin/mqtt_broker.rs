//! `mqtt_broker`.
fn main() {}
