//! `mqtt_sub`.
fn main() {}
