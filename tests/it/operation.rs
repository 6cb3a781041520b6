//! A broker as its operator meets it: signals, logs, and clients that knock at the wrong door.

mod doors;
mod environment;
mod logs;
mod signals;
mod stuck_log;
