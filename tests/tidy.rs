//! What the repository promises about itself, checked by reading its files: names go one way only, nothing in it belongs
//! to one machine, and the README lists the settings there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use campanile::config::KEYS;

/// Outermost first. A module names those of later lines only: none of an earlier one, and none beside it.
const RANKS: [&[&str]; 8] = [
    &["cli"],
    &["server", "client"],
    &["config"],
    &["rest", "grpc", "ui"],
    &["auth", "observability"],
    &["broker"],
    &["engine"],
    &["model"],
];

#[test]
fn a_module_names_later_ranks_only() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files_under(&root().join("src"), &["rs"]) {
        let Some((module, rank)) = module_of(&path) else { continue };
        seen.insert(module.clone());
        for (line, named) in names_after(&code_of(&path), "crate") {
            match rank_of(&named) {
                // What the module itself consists of.
                Some(_) if named == module => {}
                Some(named_rank) if named_rank > rank => {}
                Some(_) => wrong.push(format!("{}:{line} names `{named}`", shown(&path))),
                None => wrong.push(format!("{}:{line} names `{named}`, which has no rank", shown(&path))),
            }
        }
    }
    assert!(seen.len() >= 8, "modules were found: {seen:?}");
    assert!(wrong.is_empty(), "against the ranks:\n{}", wrong.join("\n"));
}

#[test]
fn the_middleware_names_nothing_of_the_broker() {
    let files = files_under(&root().join("middleware"), &["rs"]);
    assert!(files.len() > 20, "files were found");
    let mut wrong = Vec::new();
    for path in files {
        let code = code_of(&path);
        for (number, line) in code.lines().enumerate() {
            if words_of(line).any(|word| word == "campanile") {
                wrong.push(format!("{}:{} {line}", shown(&path), number + 1));
            }
        }
    }
    let manifest = read(&root().join("middleware/Cargo.toml"));
    let is_ours = |line: &&str| line.starts_with("campanile") || line.contains("path =");
    assert_eq!(manifest.lines().find(is_ours), None, "the middleware depends on no crate of ours");
    assert!(wrong.is_empty(), "the middleware names the broker:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let mut wrong = Vec::new();
    for path in files_under(&root().join("src"), &["rs"]) {
        let is_config = module_of(&path).is_some_and(|(module, _)| module == "config");
        // A test's seed is no setting.
        let is_test = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        for (number, line) in code_of(&path).lines().enumerate() {
            let reads = ["env::var", "env::vars", "var_os("].iter().any(|call| line.contains(call));
            if reads && !is_config && !is_test {
                wrong.push(format!("{}:{} {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "settings that are not in the table of keys:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_unfinished_or_tied_to_one_machine() {
    // Written in two parts, so that this file is not its own finding.
    let banned = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/fa", "rm/"),
        concat!("/tmp/", "tools"),
        concat!("/ho", "me/"),
    ];
    let mut wrong = Vec::new();
    let files = repository_files();
    assert!(files.len() > 100, "files were found");
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{} has `{word}`", shown(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_lists_exactly_the_settings_there_are() {
    let readme = read(&root().join("README.md"));
    let mut listed = BTreeMap::new();
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let [key, variable, flag, default, meaning] = cells[..] {
            let before = listed.insert(key.to_owned(), [variable, flag, default, meaning].map(str::to_owned));
            assert!(before.is_none(), "`{key}` is listed twice");
        }
    }
    for key in KEYS {
        let Some([variable, flag, default, meaning]) = listed.remove(key.name) else {
            panic!("`{}` is not in the README's table of settings", key.name);
        };
        assert_eq!(variable, key.variable, "variable of `{}`", key.name);
        assert_eq!(flag, format!("--{}", key.flag), "flag of `{}`", key.name);
        assert_eq!(default, key.default, "default of `{}`", key.name);
        assert!(!meaning.is_empty(), "meaning of `{}`", key.name);
    }
    assert!(listed.is_empty(), "the README lists settings that do not exist: {:?}", listed.keys());
}

#[test]
fn names_are_found_in_every_form() {
    let code =
        code("use crate::{\n    model::{Name, id::Id},\n    engine as e,\n    Root,\n};\nfn f(x: crate :: rest::X) {}");
    let found: Vec<String> = names_after(&code, "crate").into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["model", "engine", "Root", "rest"]);
    let lines: Vec<usize> = names_after(&code, "crate").into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [2, 3, 4, 6]);
    let hidden =
        "// crate::cli\n/// crate::cli\n/* crate::cli */ let s = \"crate::cli\"; let r = r#\"crate::cli\"#; '\"' 'a";
    assert_eq!(names_after(&self::code(hidden), "crate"), []);
    assert_eq!(names_after("pub(crate) mod a; mycrate::b; $crate::c", "crate"), [(1, "c".to_owned())]);
}

// ---------------------------------------------------------------------------------------------- ranks

/// The module of `src/` that a file belongs to, and its rank. `lib.rs` and `main.rs` stand above all.
fn module_of(path: &Path) -> Option<(String, usize)> {
    let inside = path.strip_prefix(root().join("src")).expect("a file under src");
    let first = inside.components().next()?.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
    if first == "lib" || first == "main" {
        return None;
    }
    let rank = rank_of(&first).unwrap_or_else(|| panic!("src/{first} has no rank"));
    Some((first, rank))
}

fn rank_of(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

/// The names that follow `root::`, each with its line: the next one, or the first of each entry of a `{group}`.
fn names_after(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens = tokens_of(code);
    for at in 0..tokens.len() {
        if tokens[at].1 != root || tokens.get(at + 1).is_none_or(|(_, token)| token != "::") {
            continue;
        }
        match tokens.get(at + 2) {
            Some((_, token)) if token == "{" => found.extend(firsts_of_group(&tokens[at + 3..])),
            Some((line, token)) => found.push((*line, token.clone())),
            None => {}
        }
    }
    found
}

/// The first name of each entry up to the group's closing brace.
fn firsts_of_group(tokens: &[(usize, String)]) -> Vec<(usize, String)> {
    let (mut depth, mut is_first, mut firsts) = (0, true, Vec::new());
    for (line, token) in tokens {
        match token.as_str() {
            "}" if depth == 0 => break,
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => is_first |= depth == 0,
            _ if is_first && depth == 0 => {
                firsts.push((*line, token.clone()));
                is_first = false;
            }
            _ => {}
        }
    }
    firsts
}

/// Words, `::`, and every other character but blanks, with their lines.
fn tokens_of(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    let mut line = 1;
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line += 1;
        } else if is_word(c) {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|c| is_word(*c)) {
                word.push(c);
            }
            tokens.push((line, word));
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push((line, "::".to_owned()));
        } else if !c.is_whitespace() {
            tokens.push((line, c.to_string()));
        }
    }
    tokens
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_word(c))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

// ---------------------------------------------------------------------------------------------- files

fn code_of(path: &Path) -> String {
    code(&read(path))
}

/// The source without what is in comments and texts; lines stay where they are.
fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let end = match rest {
            ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => at + length_of_block_comment(rest),
            ['"', ..] => at + length_of_text(rest),
            ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) => at + length_of_raw_text(rest),
            ['\'', '\\', _, '\'', ..] => at + 4,
            ['\'', _, '\'', ..] => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    out
}

fn length_of_block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn length_of_text(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Zero if it is none: `r#type` is a name.
fn length_of_raw_text(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let begin = 2 + hashes;
    let closes =
        |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (begin..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Everything that belongs to the repository: no build results, no history.
fn repository_files() -> Vec<PathBuf> {
    files_under(root(), &[])
}

/// The files below a folder with one of the endings, or with any.
fn files_under(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        // In a second work tree of a clone, `.git` is a file.
        if [".git", "target", "broker_data", "__pycache__"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files.extend(files_under(&path, endings));
        } else if endings.is_empty() || endings.contains(&ending.as_str()) {
            files.push(path);
        }
    }
    files.sort();
    files
}
