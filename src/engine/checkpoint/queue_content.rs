//! The bytes of what a queue durably consists of, within a manifest.
//!
//! ```text
//! policy: length u32, fields | paused u8 | waiting | held | dead | gone | passed over
//!
//! waiting  seq u64 | attempts u32 | leases u32 | key u64 | retry at u64 | first failed u64
//! held     seq u64 | attempt u32  | lease u32  | key u64 | deadline u64 | first failed u64
//! dead     seq u64 | attempts u32 | leases u32 | key u64 | at u64       | first failed u64 | cause u8 | reason
//! gone     seq u64
//! passed   key u64 | length u32, the places as a 64-bit Roaring bitmap in its portable format
//! ```
//!
//! Each list has its count (u32) before it, and a text its length. 0 stands for no key, and for a time that there is not.
//! In version 3 what was passed over stood one by one among what waits, and there was no such list. Before, there were
//! only *back* (seq u64, attempts u32) in place of what waits, and *held* (seq u64, attempt u32, deadline u64).

use std::{collections::BTreeMap, sync::Arc};

use super::manifest::{put_list, put_sized, put_u32, put_u64, take_list, take_seq, take_sized, take_time};
use crate::{
    engine::{
        journal::{
            DeadCause, decode_queue_policy, encode_queue_policy,
            wire::{Reader, put_text},
        },
        state::{Dead, Held, QueueContent, SeqSet, Waiting},
    },
    model::{Attempt, KeyHash, LeaseNumber, Timestamp},
};

type Result<T> = std::result::Result<T, &'static str>;

pub(super) fn put_content(out: &mut Vec<u8>, content: &QueueContent) {
    put_sized(out, |out| encode_queue_policy(out, &content.policy));
    out.push(u8::from(content.is_paused));
    put_list(out, &content.waiting, |out, (seq, waiting)| {
        put_u64(out, seq.0);
        put_u32(out, waiting.attempts.0);
        put_u32(out, waiting.leases.0);
        put_u64(out, KeyHash::bits(waiting.key));
        put_time(out, waiting.retry_at);
        put_time(out, waiting.first_failed);
    });
    put_list(out, &content.held, |out, (seq, held)| {
        put_u64(out, seq.0);
        put_u32(out, held.attempt.0);
        put_u32(out, held.lease.0);
        put_u64(out, KeyHash::bits(held.key));
        put_time(out, Some(held.deadline));
        put_time(out, held.first_failed);
    });
    put_list(out, &content.dead, |out, (seq, dead)| {
        put_u64(out, seq.0);
        put_u32(out, dead.attempts.0);
        put_u32(out, dead.leases.0);
        put_u64(out, KeyHash::bits(dead.key));
        put_time(out, Some(dead.at));
        put_time(out, Some(dead.first_failed));
        out.push(dead.cause as u8);
        put_text(out, &dead.reason);
    });
    put_list(out, &content.gone, |out, seq| put_u64(out, seq.0));
    put_list(out, &content.passed_over, |out, (key, places)| {
        put_u64(out, KeyHash::bits(Some(*key)));
        put_sized(out, |out| places.encode(out));
    });
}

pub(super) fn take_content(reader: &mut Reader<'_>) -> Result<QueueContent> {
    let mut content = take_content_one_by_one(reader)?;
    content.passed_over.extend(take_list::<_, Vec<_>>(reader, |reader| {
        let key = KeyHash::from_bits(reader.u64()?).ok_or("it has messages passed over for no key")?;
        let length = reader.u32()? as usize;
        Ok((key, SeqSet::decode(reader.take(length)?)?))
    })?);
    Ok(content)
}

/// As version 3 wrote it.
pub(super) fn take_content_of_version_3(reader: &mut Reader<'_>) -> Result<QueueContent> {
    let mut content = take_content_one_by_one(reader)?;
    let mut passed_over = BTreeMap::<KeyHash, SeqSet>::new();
    content.waiting.retain(|seq, waiting| {
        let key = waiting.key.filter(|key| *waiting == Waiting { key: Some(*key), ..Waiting::default() });
        key.into_iter().for_each(|key| passed_over.entry(key).or_default().insert(*seq));
        key.is_none()
    });
    Ok(QueueContent { passed_over, ..content })
}

fn take_content_one_by_one(reader: &mut Reader<'_>) -> Result<QueueContent> {
    Ok(QueueContent {
        passed_over: BTreeMap::new(),
        policy: decode_queue_policy(&mut take_sized(reader)?)?.into(),
        is_paused: reader.u8()? != 0,
        waiting: take_list(reader, |reader| Ok((take_seq(reader)?, take_waiting(reader)?)))?,
        held: take_list(reader, |reader| Ok((take_seq(reader)?, take_held(reader)?)))?,
        dead: take_list(reader, |reader| Ok((take_seq(reader)?, take_dead(reader)?)))?,
        gone: take_list(reader, take_seq)?,
    })
}

/// As versions 1 and 2 wrote it. Every delivery counted then.
pub(super) fn take_plain_content(reader: &mut Reader<'_>) -> Result<QueueContent> {
    let waiting = take_list(reader, |reader| {
        let (seq, attempts) = (take_seq(reader)?, Attempt(reader.u32()?));
        Ok((seq, Waiting { attempts, leases: LeaseNumber(attempts.0), ..Waiting::default() }))
    })?;
    let held = take_list(reader, |reader| {
        let (seq, attempt, deadline) = (take_seq(reader)?, Attempt(reader.u32()?), take_time(reader)?);
        Ok((seq, Held { attempt, lease: LeaseNumber(attempt.0), deadline, key: None, first_failed: None }))
    })?;
    Ok(QueueContent { waiting, held, ..QueueContent::default() })
}

fn take_waiting(reader: &mut Reader<'_>) -> Result<Waiting> {
    Ok(Waiting {
        attempts: Attempt(reader.u32()?),
        leases: LeaseNumber(reader.u32()?),
        key: KeyHash::from_bits(reader.u64()?),
        retry_at: take_some_time(reader)?,
        first_failed: take_some_time(reader)?,
    })
}

fn take_held(reader: &mut Reader<'_>) -> Result<Held> {
    Ok(Held {
        attempt: Attempt(reader.u32()?),
        lease: LeaseNumber(reader.u32()?),
        key: KeyHash::from_bits(reader.u64()?),
        deadline: take_time(reader)?,
        first_failed: take_some_time(reader)?,
    })
}

fn take_dead(reader: &mut Reader<'_>) -> Result<Dead> {
    Ok(Dead {
        attempts: Attempt(reader.u32()?),
        leases: LeaseNumber(reader.u32()?),
        key: KeyHash::from_bits(reader.u64()?),
        at: take_time(reader)?,
        first_failed: take_time(reader)?,
        cause: DeadCause::from_bits(reader.u8()?).ok_or("it has a dead letter of an unknown cause")?,
        reason: Arc::from(reader.text()?),
    })
}

fn put_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    put_u64(out, time.map_or(0, Timestamp::as_millis));
}

fn take_some_time(reader: &mut Reader<'_>) -> Result<Option<Timestamp>> {
    Ok(Some(take_time(reader)?).filter(|time| *time > Timestamp::EPOCH))
}

/// With something of everything.
#[cfg(test)]
pub(super) fn example() -> QueueContent {
    use crate::model::{QueuePolicy, Seq};

    let key = Some(KeyHash::of("k"));
    let (lease, leases, time) = (LeaseNumber(4), LeaseNumber(3), Timestamp::from_millis);
    let waiting = Waiting { attempts: Attempt(2), leases, key, retry_at: Some(time(70)), first_failed: Some(time(8)) };
    let held = Held { attempt: Attempt(1), lease, deadline: time(5), key, first_failed: None };
    let (cause, reason) = (DeadCause::Rejected, "because".into());
    let dead = Dead { attempts: Attempt(5), leases, key: None, first_failed: time(1), at: time(9), cause, reason };
    QueueContent {
        policy: QueuePolicy { max_delivery_attempts: None, ..QueuePolicy::default() }.into(),
        is_paused: true,
        waiting: [(Seq(1), waiting), (Seq(3), Waiting::default())].into(),
        held: [(Seq(4), held)].into(),
        dead: [(Seq(0), dead)].into(),
        gone: [Seq(6)].into(),
        passed_over: [(KeyHash::of("k"), [Seq(2)].into_iter().collect())].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_earlier_versions_wrote_every_delivery_counts() {
        let mut bytes = Vec::new();
        let lists: [&[(u64, u32)]; 2] = [&[(3, 0), (4, 2)], &[(5, 7)]];
        put_list(&mut bytes, lists[0], |out, (seq, attempts)| {
            put_u64(out, *seq);
            put_u32(out, *attempts);
        });
        put_list(&mut bytes, lists[1], |out, (seq, attempts)| {
            put_u64(out, *seq);
            put_u32(out, *attempts);
            put_u64(out, 99);
        });
        let content = take_plain_content(&mut Reader::new(&bytes)).expect("as it was written");
        let waiting: Vec<_> = content.waiting.iter().map(|(seq, w)| (seq.0, w.attempts.0, w.leases.0)).collect();
        assert_eq!(waiting, [(3, 0, 0), (4, 2, 2)]);
        let held: Vec<_> =
            content.held.iter().map(|(seq, h)| (seq.0, h.attempt.0, h.lease.0, h.deadline.as_millis())).collect();
        assert_eq!(held, [(5, 7, 7, 99)]);
    }
}
