//! Questions to a broker's administration port, and to a ZooKeeper server.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Status and body of `GET path` on a loopback port.
///
/// # Errors
/// Nobody answers, or not with HTTP.
pub fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let question = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = ask(port, question.as_bytes())?;
    parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The answer of a ZooKeeper server to one of its four-letter words.
///
/// # Errors
/// Nobody answers.
pub fn four_letters(port: u16, word: &str) -> io::Result<String> {
    ask(port, word.as_bytes())
}

fn ask(port: u16, question: &[u8]) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(question)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

const ANSWER_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((200, "{}".to_owned())));
        assert_eq!(parse("ruok"), None);
    }
}
