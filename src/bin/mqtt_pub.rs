//! `mqtt_pub`.
fn main() {}
