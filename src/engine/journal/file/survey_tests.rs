//! Looking at a journal while a broker appends to it, and naming what is lost of one.

use std::{
    path::{Path, PathBuf},
    thread,
};

use super::{
    super::{Journal as _, Position, memory::suite},
    defect::Defect,
    layout::PAGE_BYTES,
    survey::{JournalReport, survey},
    testing::{Bench, operate, written},
    walk::{Reach, Sighting},
};
use crate::engine::disk::{Disk, Fault, Op, Outcome, RealDisk, Times};

const PAGE: usize = PAGE_BYTES as usize;

/// All files of a journal at one moment.
type Moment = Vec<(PathBuf, Vec<u8>)>;

/// What a look has met.
#[derive(Debug)]
struct Look {
    report: JournalReport,
    defects: Vec<Defect>,
    whole: usize,
    behind: usize,
}

fn look(disk: &dyn Disk, dir: &Path, from: Option<Position>) -> Look {
    let (mut defects, mut whole, mut behind) = (Vec::new(), 0, 0);
    let report = survey(disk, dir, from, &mut |sighting| match sighting {
        Sighting::Defect(defect) => defects.push(defect),
        Sighting::Frame { reach: Reach::Whole, .. } => whole += 1,
        Sighting::Frame { reach: Reach::Behind, .. } => behind += 1,
    });
    Look { report, defects, whole, behind }
}

/// Looks at a journal that becomes what it is at `later` just before it is read for the `nth` time; `None` if it is not
/// read as often.
fn look_while_it_grows(bench: &Bench, nth: u32, later: &Moment) -> Option<Look> {
    bench.disk.set(Fault { op: Op::Read, name_end: ".wal", nth, outcome: Outcome::Wait, times: Times::Once });
    thread::scope(|scope| {
        let looking = scope.spawn(|| look(&bench.disk, bench.dir(), Some(Position::START)));
        while bench.disk.is_pending() && !looking.is_finished() {
            thread::yield_now();
        }
        let is_waiting = !bench.disk.is_pending();
        if is_waiting {
            for (path, bytes) in later {
                std::fs::write(path, bytes).expect("written");
            }
        }
        bench.disk.heal();
        let look = looking.join().expect("it does not panic");
        is_waiting.then_some(look)
    })
}

/// A broker appends, leaves marks and switches files between any two reads of somebody who looks.
#[test]
fn what_is_appended_during_a_look_is_no_damage_whenever_it_comes() {
    let bench = Bench::new(6);
    let mut journal = bench.open();
    suite::read(&mut journal, Position::START);
    let mut moments: Vec<(usize, Moment)> = Vec::new();
    for (count, length) in [100, 5000, 100, 9000, 100, 5000, 9000].into_iter().enumerate() {
        suite::append(&mut journal, &vec![7; length]);
        journal.settle();
        moments.push((count + 1, bench.snapshot()));
        if count % 3 == 1 {
            journal.idle();
            journal.settle();
            moments.push((count + 1, bench.snapshot()));
        }
    }
    drop(journal);
    let mut looks = 0;
    for (at, (count, moment)) in moments.iter().enumerate() {
        for (grown, later) in &moments[at + 1..] {
            for nth in 1.. {
                bench.restore(moment);
                let Some(look) = look_while_it_grows(&bench, nth, later) else { break };
                looks += 1;
                assert!(look.defects.is_empty(), "{count} to {grown}, read {nth}: {:#?}", look.defects);
                assert!((*count..=*grown).contains(&look.whole), "{count} to {grown}, read {nth}: {}", look.whole);
                assert_eq!(look.behind, 0, "{count} to {grown}, read {nth}");
            }
        }
    }
    assert!(looks > 200, "{looks}");
}

/// A flipped bit: in which file, and where.
type Damage = (usize, usize);

/// Where something is lost and where that shows, as (number of the file, page) each.
type Loss = ((usize, u64), (usize, u64));

fn losses(look: &Look, files: &[PathBuf]) -> Vec<Loss> {
    let place = |path: &PathBuf, offset: u64| {
        let file = files.iter().position(|file| file == path).expect("one of the journal's");
        (file, offset / PAGE_BYTES)
    };
    let loss = |defect: &Defect| match defect {
        Defect::Lost { path, offset, proof, proof_offset } => Some((place(path, *offset), place(proof, *proof_offset))),
        _ => None,
    };
    look.defects.iter().filter_map(loss).collect()
}

/// Five files with frames on the pages 1 to 3 and 4 to 6 of each, and a prepared one.
fn five_files(bench: &Bench) -> Vec<PathBuf> {
    written(bench, &[9000; 10]);
    let files = bench.wal_files();
    assert_eq!(files.len(), 6);
    files
}

#[test]
fn every_loss_is_told_where_it_begins_and_where_it_shows() {
    let bench = Bench::new(7);
    let files = five_files(&bench);
    let image = bench.snapshot();
    let flip = |file: usize, at: usize| operate(&files[file], |bytes| bytes[at] ^= 1);
    // The header of a frame stands on the first 64 bytes of its page.
    let (header, records) = (10, 70);
    let cases: [(&[Damage], &[Loss]); 5] = [
        (&[(0, PAGE * 4 + records)], &[((0, 4), (1, 1))]),
        (&[(0, PAGE + records)], &[((0, 1), (0, 4))]),
        // The next file's first frame is not whole either, but its header shows the loss all the same.
        (&[(0, PAGE * 4 + records), (1, PAGE + records)], &[((0, 4), (1, 1)), ((1, 1), (1, 4))]),
        // Without the header, what is lost is all from there on.
        (&[(1, PAGE + header)], &[((1, 1), (1, 4))]),
        (&[(1, PAGE * 4 + records), (3, PAGE + records)], &[((1, 4), (2, 1)), ((3, 1), (3, 4))]),
    ];
    for (damage, expected) in cases {
        bench.restore(&image);
        damage.iter().for_each(|(file, at)| flip(*file, *at));
        let look = look(&RealDisk, bench.dir(), Some(Position::START));
        assert_eq!(losses(&look, &files), expected, "{damage:?}");
        assert_eq!(look.defects.len(), expected.len(), "{damage:?}: {:#?}", look.defects);
        for ((file, page), _) in expected.iter().filter(|((lost, _), (proof, _))| lost != proof) {
            let tail = super::Tail::Lost { offset: page * PAGE_BYTES };
            assert_eq!(look.report.files[*file].tail, tail, "{damage:?}");
        }
    }
}

#[test]
fn behind_a_file_that_cannot_be_used_only_what_has_another_cause_is_told() {
    let bench = Bench::new(7);
    let files = five_files(&bench);
    operate(&files[1], |file| file[60] ^= 1);
    let found = look(&RealDisk, bench.dir(), Some(Position::START));
    assert!(matches!(&found.defects[..], [Defect::Damaged { .. }]), "{:#?}", found.defects);
    assert_eq!((found.whole, found.behind), (2, 6));
    operate(&files[2], |file| file[PAGE + 70] ^= 1);
    let found = look(&RealDisk, bench.dir(), Some(Position::START));
    assert!(matches!(&found.defects[..], [Defect::Damaged { .. }, Defect::Lost { .. }]), "{:#?}", found.defects);
    let left: Vec<_> = [0, 2, 3, 4, 5].into_iter().map(|n| files[n].clone()).collect();
    assert_eq!(losses(&found, &left), [((1, 1), (1, 4))]);
    assert_eq!((found.whole, found.behind), (2, 5));
}

#[test]
fn a_folder_that_cannot_be_listed_is_told_as_that_and_one_that_is_gone_as_missing() {
    let bench = Bench::new(7);
    five_files(&bench);
    let outcome = Outcome::Error(std::io::ErrorKind::PermissionDenied);
    let unlisted = Fault { op: Op::List, name_end: "journal", nth: 1, outcome, times: Times::Once };
    bench.disk.set(unlisted.clone());
    let found = look(&bench.disk, bench.dir(), Some(Position::START));
    let folder = super::journal_dir(bench.dir());
    assert!(matches!(&found.defects[..], [Defect::Unreadable { path, .. }] if *path == folder), "{:#?}", found.defects);
    std::fs::rename(&folder, bench.dir().join("aside")).expect("moved");
    let found = look(&bench.disk, bench.dir(), Some(Position::START));
    assert!(matches!(&found.defects[..], [Defect::Missing { path, .. }] if *path == folder), "{:#?}", found.defects);

    // Where there is no store yet there need be no folder, but one that is there is to be listed.
    let bench = Bench::new(7);
    let found = look(&bench.disk, bench.dir(), Some(Position::START));
    assert!(found.defects.is_empty(), "{:#?}", found.defects);
    bench.disk.set(unlisted);
    let found = look(&bench.disk, bench.dir(), Some(Position::START));
    assert!(matches!(&found.defects[..], [Defect::Unreadable { .. }]), "{:#?}", found.defects);
}

#[test]
fn any_file_of_a_journal_shows_that_there_was_a_store() {
    let bench = Bench::new(7);
    let folder = super::journal_dir(bench.dir());
    std::fs::create_dir(&folder).expect("made");
    let missing = || {
        let found = look(&RealDisk, bench.dir(), Some(Position::START)).defects;
        found.iter().filter(|d| matches!(d, Defect::Missing { path, .. } if path.ends_with("STORE"))).count()
    };
    for (name, is_ours) in [("1.wal", true), ("1.spare", true), ("1.tmp", true), ("notes.txt", false)] {
        assert_eq!(missing(), 0, "before {name}");
        let name = if is_ours { format!("000000000000000{name}") } else { name.to_owned() };
        std::fs::write(folder.join(&name), "").expect("written");
        assert_eq!((missing(), bench.try_open().is_err()), (usize::from(is_ours), is_ours), "{name}");
        std::fs::remove_dir_all(bench.dir()).expect("removed");
        std::fs::create_dir_all(&folder).expect("made");
    }
}

#[test]
fn a_journal_without_files_ends_before_a_checkpoint_unless_files_wait_to_be_used_again() {
    let bench = Bench::new(7);
    written(&bench, &[]);
    let page = Position(PAGE_BYTES);
    for spares in [false, true] {
        bench.restore(&[]);
        if spares {
            let spare = super::journal_dir(bench.dir()).join("0000000000000001.spare");
            std::fs::write(spare, "").expect("written");
        }
        for (from, is_missed) in [(None, false), (Some(Position::START), false), (Some(page), !spares)] {
            let found = look(&RealDisk, bench.dir(), from).defects;
            let ends = found.iter().filter(|d| matches!(d, Defect::EndsBefore { .. })).count();
            assert_eq!((found.len(), ends), (usize::from(is_missed), usize::from(is_missed)), "{from:?}: {found:#?}");
            if let Some(from) = from {
                assert_eq!(bench.corrupt_at(from).is_some(), is_missed, "{from}");
            }
            bench.restore(&[]);
            if spares {
                let spare = super::journal_dir(bench.dir()).join("0000000000000001.spare");
                std::fs::write(spare, "").expect("written");
            }
        }
    }
}

#[test]
fn the_files_before_the_first_one_are_missed_only_where_nothing_says_why_they_are_gone() {
    let bench = Bench::new(7);
    let files = five_files(&bench);
    let prepared = files[5].clone();
    let first = super::testing::header_of(&std::fs::read(&prepared).expect("readable")).first;
    for file in &files[..4] {
        std::fs::remove_file(file).expect("removed");
    }
    // Of the one before the prepared one, the header is damaged: that has been told.
    operate(&files[4], |file| file[60] ^= 1);
    let found = look(&RealDisk, bench.dir(), Some(Position::START)).defects;
    assert!(matches!(&found[..], [Defect::Damaged { .. }]), "{found:#?}");
    std::fs::remove_file(&files[4]).expect("removed");
    let found = look(&RealDisk, bench.dir(), Some(Position::START)).defects;
    assert!(matches!(&found[..], [Defect::Missing { path, .. }] if *path == files[4]), "{found:#?}");
    // A checkpoint does without them.
    for from in [Some(first), None] {
        let found = look(&RealDisk, bench.dir(), from).defects;
        assert!(found.is_empty(), "{from:?}: {found:#?}");
    }
}
