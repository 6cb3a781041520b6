//! What was kept is there again, whatever was done to the files.

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::row::Kind;
use super::*;

/// A directory that is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("spool-{}-{number}", std::process::id()));
        let _none = fs::remove_dir_all(&path);
        Self(path)
    }

    fn spool(&self, boot: i64) -> Spool {
        let start = Start { boot, since_millis: boot.unsigned_abs(), broker: "b".into() };
        Spool::open(self.0.clone(), 1 << 30, start.into()).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _none = fs::remove_dir_all(&self.0);
    }
}

fn rows(numbers: std::ops::RangeInclusive<i64>) -> Vec<Row> {
    let row = |number| Row {
        number,
        preview: Some(vec![0xfe; 200].into()),
        ..Row::new(5, Kind::Published)
    };
    numbers.map(row).collect()
}

fn keep(spool: &mut Spool, numbers: std::ops::RangeInclusive<i64>) {
    assert!(matches!(spool.append(&rows(numbers)), Kept::Yes));
}

/// Boot and range of all that comes, and whether something is missing in front of it.
fn drain(spool: &mut Spool) -> Vec<(i64, i64, i64, Missing)> {
    let mut portions = Vec::new();
    while let Some(portion) = spool.front() {
        if let Some(first) = portion.rows.first() {
            portions.push((portion.start.boot, first.number, portion.last(), portion.before));
        }
        spool.advance();
    }
    assert!(spool.is_empty() && spool.bytes() == 0);
    portions
}

#[test]
fn rows_come_back_in_their_order_also_to_a_later_start() {
    let place = Place::new();
    let mut former = place.spool(1);
    keep(&mut former, 1..=3);
    keep(&mut former, 7..=9);
    assert!(!former.has_former());
    drop(former);
    let mut spool = place.spool(2);
    assert!(spool.has_former());
    keep(&mut spool, 1..=2);
    let front = spool.front().unwrap();
    assert_eq!((front.rows.to_vec(), &*front.start.broker), (rows(1..=3), "b"));
    assert_eq!(spool.front().unwrap().last(), 3, "it stays until it is done with");
    let whole = Missing::NoRoom;
    assert_eq!(drain(&mut spool), [(1, 1, 3, whole), (1, 7, 9, whole), (2, 1, 2, whole)]);
    assert!(place.files().is_empty());
}

#[test]
fn a_start_that_was_killed_at_once_has_left_its_mark() {
    let place = Place::new();
    drop(place.spool(1));
    let mut spool = place.spool(2);
    for (boot, has_former) in [(1, true), (2, false)] {
        assert_eq!(spool.has_former(), has_former);
        let mark = spool.front().unwrap();
        assert_eq!((mark.start.boot, mark.rows.len()), (boot, 0));
        spool.advance();
    }
    assert!(spool.front().is_none() && place.files().is_empty());
}

#[test]
fn it_is_read_while_it_is_appended_to() {
    let place = Place::new();
    let mut spool = place.spool(1);
    keep(&mut spool, 1..=3);
    assert_eq!(spool.front().unwrap().last(), 3);
    keep(&mut spool, 4..=4);
    spool.advance();
    assert_eq!(spool.front().unwrap().last(), 4);
    spool.advance();
    assert!(spool.is_empty());
    keep(&mut spool, 5..=6);
    assert_eq!(drain(&mut spool).len(), 1);
}

#[test]
fn there_are_many_segments_within_a_bound() {
    let place = Place::new();
    let mut spool = place.spool(1);
    spool.bytes_max = 10 << 20;
    let mut first = 1;
    while matches!(spool.append(&rows(first..=first + 999)), Kept::Yes) {
        first += 1_000;
    }
    assert!(spool.segments.len() == 3 && spool.bytes() <= 10 << 20, "{}", spool.bytes());
    spool.front().unwrap();
    for _ in 0..20 {
        spool.advance();
    }
    keep(&mut spool, first..=first + 999);
    let portions = drain(&mut spool);
    assert!(portions.windows(2).all(|pair| pair[0].2 + 1 == pair[1].1), "{portions:?}");
}

/// Whatever byte is changed and wherever the file is cut: what comes is what was kept, and if something
/// is missing that is said of what comes next.
#[test]
fn of_a_damaged_segment_comes_what_is_readable() {
    let place = Place::new();
    let mut former = place.spool(1);
    keep(&mut former, 1..=1);
    keep(&mut former, 2..=3);
    drop(former);
    let file = place.files().pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let damages = (0..whole.len()).step_by(7).flat_map(|at| {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        [changed, whole[..at].to_vec()]
    });
    for damaged in damages {
        fs::write(&file, &damaged).unwrap();
        let mut spool = place.spool(2);
        keep(&mut spool, 1..=1);
        let portions = drain(&mut spool);
        let ours = portions.last().unwrap();
        let is_cut_clean = spool.damaged() == 0;
        assert_eq!((ours.0, ours.3 == Missing::NoRoom), (2, is_cut_clean), "{portions:?}");
        for portion in &portions[..portions.len() - 1] {
            assert!([(1, 1, 1), (1, 2, 3)].contains(&(portion.0, portion.1, portion.2)));
        }
        assert!(portions.len() < 3);
        assert_eq!(place.files().len(), usize::from(!is_cut_clean), "one is set aside at most");
        let _none = fs::remove_file(place.0.join(ASIDE));
    }
}

#[test]
fn a_directory_that_is_gone_is_made_anew() {
    let place = Place::new();
    let mut spool = place.spool(1);
    assert_eq!(drain(&mut spool), []);
    fs::remove_dir_all(&place.0).unwrap();
    fs::write(&place.0, "in the way").unwrap();
    assert!(matches!(spool.append(&rows(1..=1)), Kept::Failed(_)));
    fs::remove_file(&place.0).unwrap();
    keep(&mut spool, 1..=1);
    assert_eq!(drain(&mut spool).len(), 1);
}
