//! A diagnosis as JSON, for scripts.

use std::{borrow::Cow, path::PathBuf};

use serde_json::{Value, json};

use crate::engine::{
    Action, Contents, Diagnosis, Directory, History, Plan, Problem, Repair,
    journal::file::{Holder, StoreId, SurveyedFile, Tail},
};

/// The whole report as one object. Fields are added to it, none ever changes its meaning.
pub(super) fn render(diagnosis: &Diagnosis) -> Value {
    let journal = &diagnosis.journal;
    let (store, store_named) = match journal.store {
        StoreId::Named(uuid) => (Some(uuid), true),
        StoreId::Guessed(uuid) => (Some(uuid), false),
        StoreId::None => (None, false),
    };
    let end = journal
        .end
        .as_ref()
        .map(|end| json!({ "position": end.position.0, "path": end.path.to_string_lossy(), "offset": end.offset }));
    let waiting = diagnosis.waiting.iter().map(|file| {
        json!({
            "path": file.path.to_string_lossy(),
            "messages": file.messages,
            "damaged_lines": file.damaged,
            "is_stored": file.is_stored,
        })
    });
    json!({
        "data_dir": diagnosis.data_dir.to_string_lossy(),
        "healthy": diagnosis.is_healthy(),
        "inconclusive": diagnosis.is_inconclusive,
        "directory": match diagnosis.directory {
            Directory::Missing => "missing",
            Directory::Unreadable => "unreadable",
            Directory::Foreign => "foreign",
            Directory::Empty => "empty",
            Directory::Ours => "store",
        },
        "holder": json_of_holder(&diagnosis.holder),
        "store": { "id": store, "is_named": store_named },
        "checkpoint": diagnosis.checkpoint.map(|checkpoint| json!({
            "position": checkpoint.position.0,
            "segments": checkpoint.segments,
            "messages": checkpoint.messages,
        })),
        "journal": {
            "files": journal.files.iter().map(json_of_file).collect::<Vec<_>>(),
            "spares": paths_of(&journal.spares),
            "unfinished": paths_of(&journal.unfinished),
            "others": paths_of(&journal.others),
            "end": end,
        },
        "readable": json_of_history(&diagnosis.readable),
        "behind_damage": json_of_history(&diagnosis.behind),
        "contents": json_of_contents(&diagnosis.contents),
        "waiting": waiting.collect::<Vec<_>>(),
        "taken_over": paths_of(&diagnosis.taken_over),
        "others": paths_of(&diagnosis.others),
        "problems": diagnosis.problems.iter().map(json_of_problem).collect::<Vec<_>>(),
        "problems_left_out": diagnosis.problems_left_out,
        "plan": diagnosis.plan.as_ref().map(json_of_plan),
    })
}

/// A repair, with the report as of after it.
pub(super) fn render_repair(repair: &Repair) -> Value {
    let mut object = render(&repair.after);
    let done = repair.set_aside.as_ref();
    object["repair"] = json!({
        "set_aside": done.map(|(folder, _)| folder.to_string_lossy()),
        "done": done.map(|(_, plan)| json_of_plan(plan)),
    });
    object
}

fn json_of_plan(plan: &Plan) -> Value {
    let actions = plan.actions.iter().map(|action| match action {
        Action::SetAside { path } => json!({ "do": "set_aside", "path": path.to_string_lossy() }),
        Action::Forget { path, files } => {
            json!({ "do": "forget", "path": path.to_string_lossy(), "files": paths_of(files) })
        }
        Action::Mark { path } => json!({ "do": "mark", "path": path.to_string_lossy() }),
        Action::End { path, offset } => json!({ "do": "end", "path": path.to_string_lossy(), "offset": offset }),
    });
    json!({
        "actions": actions.collect::<Vec<_>>(),
        "behind": plan.behind.map(|behind| json!({ "frames": behind.frames, "messages": behind.messages })),
        "lost_messages": plan.lost,
        "given_up": plan.losses(),
    })
}

fn json_of_holder(holder: &Holder) -> Value {
    match holder {
        Holder::Never => json!({ "state": "never" }),
        Holder::Process { pid } => json!({ "state": "in_use", "pid": pid }),
        Holder::NoneSeen { last } => json!({ "state": "none_seen", "last": last }),
        Holder::Untold { last } => json!({ "state": "unknown", "last": last }),
    }
}

fn json_of_file(file: &SurveyedFile) -> Value {
    let tail = match file.tail {
        Tail::Blank => json!({ "kind": "blank" }),
        Tail::Marked => json!({ "kind": "marked" }),
        Tail::Torn { offset, bytes } => json!({ "kind": "torn", "offset": offset, "bytes": bytes }),
        Tail::Leftovers { offset, bytes } => json!({ "kind": "leftovers", "offset": offset, "bytes": bytes }),
        Tail::Lost { offset } => json!({ "kind": "lost", "offset": offset }),
        Tail::Unread => json!({ "kind": "unread" }),
    };
    json!({
        "path": file.path.to_string_lossy(),
        "first_position": file.first.0,
        "file_bytes": file.file_bytes,
        "used_bytes": file.used_bytes,
        "frames": file.frames,
        "tail": tail,
    })
}

fn json_of_history(history: &History) -> Value {
    json!({
        "frames": history.frames,
        "record_count": history.record_count(),
        "records": history.records,
        "messages": history.messages,
        "first_at": history.times.map(|(first, _)| first.to_string()),
        "last_at": history.times.map(|(_, last)| last.to_string()),
    })
}

fn json_of_contents(contents: &Contents) -> Value {
    let largest = contents.largest.iter().map(|queue| {
        json!({
            "name": queue.name.as_str(),
            "ready": queue.ready,
            "leased": queue.leased,
            "delayed": queue.delayed,
        })
    });
    json!({
        "topics": contents.topics,
        "queues": contents.queues,
        "messages": contents.messages,
        "ready": contents.ready,
        "leased": contents.leased,
        "delayed": contents.delayed,
        "without_queue": contents.without_queue,
        "largest_queues": largest.collect::<Vec<_>>(),
        "as_of": contents.as_of.to_string(),
    })
}

fn json_of_problem(problem: &Problem) -> Value {
    json!({
        "code": problem.code(),
        "path": problem.path().to_string_lossy(),
        "offset": problem.offset(),
        "text": problem.with_causes(),
        "advice": problem.advice(),
    })
}

fn paths_of(paths: &[PathBuf]) -> Vec<Cow<'_, str>> {
    paths.iter().map(|path| path.to_string_lossy()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Options, diagnose};

    #[test]
    fn what_scripts_rely_on_is_there() {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let options = Options { journal_file_bytes: 64 << 10, ..Options::new(dir.path()) };
        let engine = Engine::open(options.clone()).expect("opens");
        let uuid = engine.store_uuid();
        drop(engine);
        let object = render(&diagnose(&options));
        assert_eq!((&object["healthy"], &object["directory"]), (&json!(true), &json!("store")));
        assert_eq!(object["store"], json!({ "id": uuid, "is_named": true }));
        assert_eq!((&object["contents"]["messages"], &object["problems"]), (&json!(0), &json!([])));

        std::fs::write(dir.path().join("STORE"), "short").expect("written");
        let object = render(&diagnose(&options));
        assert_eq!(object["healthy"], json!(false));
        let problem = &object["problems"][0];
        assert_eq!(problem["code"], json!("damaged_file"));
        assert_eq!(problem["path"], json!(dir.path().join("STORE").to_string_lossy()));
        assert!(problem["text"].as_str().is_some_and(|text| text.ends_with("is damaged: it is too short")));
    }
}
