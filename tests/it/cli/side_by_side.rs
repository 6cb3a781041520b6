//! The same command lines through their programs and ours, against their broker and ours: four times
//! the same bytes.

use std::{fs, path::Path, thread};

use super::{PUB, SUB, options::is_installed, run_with};
use crate::harness::{Broker, Mosquitto, fresh_dir};

/// Each row: commands separated by `;`. `$T` is a topic of its own, `$I` a Client Identifier, `$F` a
/// file with bytes that are no text; `< word` puts the word on the standard input, where `_` stands
/// for an end of line.
const TABLE: &str = r#"
pub -t $T -m hello -r ; sub -t $T -C 1
pub -t $T -m hello -r ; sub -t $T -C 1 -v
pub --topic $T --message hello --retain --qos 1 ; sub --topic $T -C 1 --verbose --qos 1
pub -t $T -m hello -r -q 2 ; sub -t $T -C 1 -q 2 -F '%q %r %t %p'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%j'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%j' --pretty
pub -t $T -m '{"x":1.0,"b":[1,2e3,null,true],"a":"\u00e9"}' -r ; sub -t $T -C 1 -F '%J'
pub -t $T -m '{"x":-0.5,"b":[],"a":{}}' -r ; sub -t $T -C 1 -F '%J' --pretty
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%J'
pub -t $T -m 'say "hi"	\' -r ; sub -t $T -C 1 -F '%j'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%x|%X|%6x|%4X|%-8x|'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%30t|%-30t|%.3t|%12.4t|'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%l|%5l|%05l|%-5l|%m|%3m'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%p|%3p|%8p|%-8p|%08p|'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%%|@@|\\|a\tb|\0\a\e\r\v|'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '[%A|%C|%D|%E|%F|%P|%R|%S]'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '[%3A|%4C|%5E|%02F|%2S]'
pub -t $T -m hello -r ; sub -t $T -C 1 -N
pub -t $T -m hello -r ; sub -t $T -C 1 -N -v
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%t@%'
pub -t $T -m hello -r ; sub -t $T -C 1 -F '%Z'
pub -t $T -m hello -r ; pub -t $T -n -r ; sub -t $T -W 1
pub -t $T -m hello -r ; sub -t $T -R -W 1
pub -t $T/a -m a -r ; pub -t $T/b -m b -r ; sub -t $T/# -T $T/a -C 1 -v
pub -t $T/a -m a -r ; sub -t $T/# --remove-retained -W 1 -v ; sub -t $T/# -W 1
pub -t $T -s -r < one_two_ ; sub -t $T -C 1
pub -t $T -f $F -r ; sub -t $T -C 1 -F '%l %x'
pub -t $T -f $F -r ; sub -t $T -C 1
sub -t $T -q 1 -c -i $I -E ; pub -t $T -l -q 1 < a__b_c ; sub -t $T -q 1 -c -i $I -C 4 -v
sub -t $T -q 1 -c -i $I -E ; pub -t $T -q 1 -m '' ; pub -t $T -m x -q 1 ; sub -t $T -q 1 -c -i $I -C 2
sub -t $T -q 1 -c -i $I -E ; pub -t $T -m x -q 1 --repeat 3 ; sub -t $T -q 1 -c -i $I -C 3 -F '%m %p'
sub -t $T -q 2 -c -i $I -E ; pub -t $T -m x -q 2 -M 2 --repeat 3 --repeat-delay 0.01 ; sub -t $T -q 2 -c -i $I -C 3
sub -t $T/a -t $T/b -q 1 -c -i $I -E ; pub -t $T/b -m x -q 1 ; pub -t $T/a -m y -q 1 ; sub -t $T/a -q 1 -c -i $I -C 2 -v
sub -t $T/a -t $T/b -q 1 -c -i $I -E ; sub -c -i $I -t $T/b -q 1 -U $T/a -W 1 ; pub -t $T/a -m x -q 1 ; pub -t $T/b -m y -q 1 ; sub -t $T/b -q 1 -c -i $I -C 1 -v
pub -V mqttv5 -t $T -m hello -r -D publish content-type text -D publish response-topic r/t -D publish correlation-data abc ; sub -V 5 -t $T -C 1 -F '%C|%6C|%-6C|%.2C|%R|%D'
pub -V 5 -t $T -m hello -r -D PUBLISH user-property a b -D publish user-property c d -D publish payload-format-indicator 1 ; sub -V 5 -t $T -C 1 -F '%P|%F|%3F|%03F'
pub -V 5 -t $T -m hello -r -D publish user-property a b ; sub -V 5 -t $T -C 1 -F '%j'
pub -V 5 -t $T -m hello -r -D publish content-type text ; sub -V 5 -t $T -C 1 -F '%j' --pretty
pub -V 5 -t $T -m hello -r -D publish payload-format-indicator 1 -D publish content-type text -D publish response-topic r -D publish correlation-data c -D publish user-property a b ; sub -V 5 -t $T -C 1 -F '%j' -D subscribe subscription-identifier 7
pub -V 5 -t $T -m hello -r -x 60 -i $I -D connect user-property a b -D disconnect user-property a b ; sub -V 5 -t $T -C 1 -D subscribe user-property a b
sub -V 5 -t $T -q 1 -c -i $I -x -1 -E ; pub -t $T -m x -q 1 ; sub -V 5 -t $T -q 1 -c -i $I -x 60 -C 1
pub -V 311 -t $T -m hello -r ; sub -V mqttv311 -t $T -C 1
pub -V mqttv31 -t $T -m hello -r -i $I ; sub -V 31 -t $T -C 1 -i $I
pub -t $T -m -5 -r -k 30 --nodelay --quiet -A 127.0.0.1 -I pre ; sub -t $T -C 1 --nodelay --quiet -k 30 -A 127.0.0.1 -I pre
pub -t $T -m hello -r --will-topic $T/will --will-payload gone --will-qos 1 --will-retain ; sub -t $T -C 1 --will-topic $T/will ; sub -t $T/will -W 1
pub -L mqtt://127.0.0.1:$P/$T -m hello -r ; sub -L mqtt://127.0.0.1:$P/$T -C 1
pub -t $T/# -m x
pub -t $T -m x -q 3
pub -t $T -m x -V 4
pub -t $T -m x -c
pub -t $T -m x -i a -I b
pub -t $T -m x -n
pub -t $T -f /nonexistent/file
pub -t $T -m x --nonsense
pub -t $T -m x extra
pub -t $T -m x --will-payload y
pub -t $T -m x -L http://nonsense
sub -t a/#/b
sub -t $T -C
sub -t $T -F '%'
sub -t $T -W 1
sub -t $T -k 4 -W 1
sub -t $T -k 0 -W 1
sub -t $T -i '' -W 1
pub -t $T -m x -k 4
pub -t $T -m x -i ''
"#;

#[test]
fn the_same_command_lines_print_the_same_bytes() {
    if !is_installed("mosquitto_pub") || Mosquitto::version().is_none() {
        return;
    }
    let rows: Vec<_> = TABLE.lines().filter(|line| !line.is_empty()).collect();
    assert!(rows.len() >= 40, "the table has {} rows", rows.len());
    let (mosquitto, broker) = (Mosquitto::start(), Broker::start(&[]));
    let directory = fresh_dir("side-by-side");
    let file = directory.join("bytes");
    fs::write(&file, b"\x00\xff\xfe\n\x80 z").unwrap();

    let play = |port, programs| play_all(&rows, port, programs, &file);
    let [expected, others @ ..] = thread::scope(|scope| {
        [
            (mosquitto.port, Programs::Theirs),
            (mosquitto.port, Programs::Ours),
            (broker.port(), Programs::Theirs),
            (broker.port(), Programs::Ours),
        ]
        .map(|(port, programs)| scope.spawn(move || play(port, programs)))
        .map(|thread| thread.join().unwrap())
    });
    fs::remove_dir_all(&directory).unwrap();

    let names = ["ours at Mosquitto", "theirs at our broker", "ours at our broker"];
    let mut differences = Vec::new();
    for (name, played) in names.iter().zip(&others) {
        for ((row, expected), played) in rows.iter().zip(&expected).zip(played) {
            if expected != played {
                differences.push(format!("{row}\n  expected {expected}\n  {name} {played}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Programs {
    Theirs,
    Ours,
}

/// What each row printed, with the exit codes as success or failure.
fn play_all(rows: &[&str], port: u16, programs: Programs, file: &Path) -> Vec<String> {
    let play = |(number, row): (usize, &&str)| {
        // As long as the other programs', so that padding comes out the same.
        let owner = if programs == Programs::Ours { "ou" } else { "th" };
        let topic = format!("side/{number:02}/{owner}");
        let words = row
            .replace("$T", &topic)
            .replace("$I", &format!("{owner}{number:02}"))
            .replace("$F", &file.display().to_string())
            .replace("$P", &port.to_string());
        let printed: String =
            words.split(" ; ").map(|command| play(command, port, programs)).collect();
        without_time(&printed.replace(&topic, "TOPIC"))
    };
    rows.iter().enumerate().map(play).collect()
}

fn play(command: &str, port: u16, programs: Programs) -> String {
    let mut words = split(command);
    let stdin = words
        .iter()
        .position(|word| word == "<")
        .map_or_else(String::new, |at| words.split_off(at)[1].replace('_', "\n"));
    let program = words.remove(0);
    let program = match (programs, program.as_str()) {
        (Programs::Theirs, name) => format!("mosquitto_{name}"),
        (Programs::Ours, "pub") => PUB.to_owned(),
        (Programs::Ours, _) => SUB.to_owned(),
    };
    let port = port.to_string();
    let mut args = vec!["-p", &port];
    if words.iter().any(|word| word == "-L") {
        args.clear();
    }
    args.extend(words.iter().map(String::as_str));
    let ran = run_with(&program, &args, stdin.as_bytes());
    let end = if ran.status.success() { "ok" } else { "failed" };
    format!("{:?} {end}; ", String::from_utf8_lossy(&ran.stdout))
}

/// Words by spaces; what stands between single quotes is one word.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            ' ' if !is_quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Times differ: `"tst":"..."` is cut out.
fn without_time(printed: &str) -> String {
    let mut parts = printed.split("tst");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("tst");
        text.extend(part.split_once("+0000").map(|(_, rest)| rest));
    }
    text
}
