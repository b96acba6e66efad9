//! Rules of the big rooms: which room of a layer may name which, one meaning for each name, how
//! long a function may be, and that what the source cites is written down.

use super::{report, root, short, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rooms of `log`, lowest first. A room names its own and those below; rooms of one line do
/// not name each other, but for `index` and `producers`, which hold the two halves of what is known
/// of an aborted transaction. `attached` stands beside all of them: it reads what they wrote.
const LOG_ROOMS: &[&[&str]] = &[
    &["files", "index", "scan", "producers"],
    &["segment"],
    &["read"],
    &["load"],
    &["append"],
    &["lifecycle"],
    &["upkeep"],
];

/// The longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

/// The part of a file before its inline tests.
fn without_tests(text: &str) -> &str {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("mod tests {") || line.starts_with("mod models {") {
            return &text[..at];
        }
        at += line.len();
    }
    text
}

fn rank(room: &str) -> Option<usize> {
    LOG_ROOMS.iter().position(|line| line.contains(&room))
}

/// The room of `log` that a file stands in.
fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src/log")).ok()?;
    let mut parts = inside.iter();
    let room = parts.next()?.to_str()?.to_owned();
    parts.next().map(|_| room)
}

/// The rooms of a layer that a text names by their paths, grouped imports and `super` included.
fn rooms_named(layer: &str, text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, " "])
        .collect();
    let mut named = BTreeSet::new();
    let whole = format!("crate::{layer}::");
    for prefix in [whole.as_str(), "super::super::", "super::"] {
        let mut rest = &code[..];
        while let Some(at) = rest.find(prefix) {
            rest = &rest[at + prefix.len()..];
            let group = rest.strip_prefix('{').map(|group| &group[..group.find(';').unwrap_or(0)]);
            for path in group.unwrap_or(rest).split(',').take(if group.is_some() { 99 } else { 1 })
            {
                let name: String = path
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                named.insert(name);
            }
        }
    }
    named
}

#[test]
fn rooms_of_the_log_name_only_those_below_them() {
    let mut faults = Vec::new();
    for (path, text) in sources("src/log") {
        let Some(from) = room_of(&path).as_deref().and_then(rank) else { continue };
        if path.to_string_lossy().contains("tests") {
            continue;
        }
        let own = room_of(&path).unwrap_or_default();
        let named = rooms_named("log", without_tests(&text));
        for named in named.into_iter().filter(|name| rank(name).is_some()) {
            let pair = [own.as_str(), named.as_str()];
            let two_halves = pair.iter().all(|room| ["index", "producers"].contains(room));
            if named != own && rank(&named) >= Some(from) && !two_halves {
                faults.push(format!("{}: {own} names {named}", short(&path)));
            }
        }
    }
    report("rooms of the log name only those below", faults);
}

/// The parts of a consumer, lowest first. A part names its own and those of lower lines.
const CONSUMER_ROOMS: &[&[&str]] = &[
    &["offsets", "wakeup"],
    &["reading"],
    &["subscription", "env"],
    &["names", "silence", "coordinator"],
    &["positions", "commits"],
    &["fetch"],
];

/// The parts of a producer, lowest first. `future` and `batch` are the two halves of records on
/// their way, and name each other.
const PRODUCER_ROOMS: &[&[&str]] = &[
    &["record", "partitioner", "identity"],
    &["future", "batch"],
    &["topics", "completion", "accumulator"],
    &["env"],
    &["transactions"],
    &["stamper"],
    &["storing"],
];

/// Parts that name one of their own line or above, each for a reason that the part tells.
const PART_EXCEPTIONS: &[(&str, &str)] = &[("future", "batch"), ("batch", "future")];

/// Where parts of a layer name others than those below them.
fn names_above(layer: &str, rooms: &[&[&str]], whole: &[&str]) -> Vec<String> {
    let rank = |room: &str| rooms.iter().position(|line| line.contains(&room));
    let mut faults = Vec::new();
    for (path, text) in sources(&format!("src/{layer}")) {
        let inside = short(&path);
        let own = inside.trim_start_matches(&format!("src/{layer}/"));
        let own = own.split(['/', '.']).next().unwrap();
        let Some(from) = rank(own) else { continue };
        for named in rooms_named(layer, without_tests(&text)) {
            let excepted = PART_EXCEPTIONS.contains(&(own, named.as_str()));
            if named != own && rank(&named) >= Some(from) && !excepted {
                faults.push(format!("{inside}: {own} names {named}"));
            }
        }
        for whole in whole {
            let named = [format!("super::{whole};"), format!("crate::{layer}::{whole};")];
            if named.iter().any(|named| without_tests(&text).contains(named)) {
                faults.push(format!("{inside}: {own} names {whole}, which holds it"));
            }
        }
    }
    faults
}

#[test]
fn parts_of_a_consumer_name_only_those_below_them() {
    let faults = names_above("consumer", CONSUMER_ROOMS, &["Consumer"]);
    report("parts of a consumer name only those below", faults);
}

#[test]
fn parts_of_a_producer_name_only_those_below_them() {
    let whole = ["Producer", "ProducerCore", "core::ProducerCore"];
    let mut faults = names_above("producer", PRODUCER_ROOMS, &whole);
    // Whoever waits for a batch moves it on, which takes the whole producer.
    faults.retain(|fault| !fault.starts_with("src/producer/future.rs: future names ProducerCore,"));
    report("parts of a producer name only those below", faults);
}

/// A type that holds the parts of its layer, and where its methods may stand.
const WHOLES: &[(&str, &str, &[&str])] = &[
    ("consumer", "Consumer", &["mod.rs", "calls.rs", "poll.rs", "rebalance.rs"]),
    ("producer", "ProducerCore", &["core/"]),
];

#[test]
fn what_holds_all_parts_has_its_methods_in_few_places() {
    let mut faults = Vec::new();
    for (layer, whole, places) in WHOLES {
        for (path, text) in sources(&format!("src/{layer}")) {
            let inside = short(&path);
            let file = inside.trim_start_matches(&format!("src/{layer}/"));
            let place = file.starts_with("tests") || places.iter().any(|p| file.starts_with(p));
            if text.contains(&format!("\nimpl {whole} {{")) && !place {
                faults.push(format!("{inside}: methods of {whole}"));
            }
        }
    }
    report("methods of what holds all parts", faults);
}

/// How many source files a room may have: more are to be rooms of their own.
const ROOM_FILES_MAX: usize = 16;

#[test]
fn a_room_has_at_most_16_files() {
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    for (path, _) in sources("src") {
        *files.entry(short(path.parent().unwrap())).or_default() += 1;
    }
    let wide = files.into_iter().filter(|(_, count)| *count > ROOM_FILES_MAX);
    let told = wide.map(|(room, count)| format!("{room}: {count} files")).collect();
    report("rooms of at most 16 files", told);
}

/// Words that say nothing of what a thing is.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "helpers", "util", "utils", "data", "info"];

#[test]
fn no_file_and_no_type_has_an_empty_name() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if EMPTY_WORDS.contains(&stem) {
            faults.push(short(&path));
        }
        for line in text.lines() {
            let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
            let defines = words.next().is_some_and(|w| ["struct", "enum", "trait"].contains(&w));
            let name: String = words
                .next()
                .filter(|_| defines)
                .unwrap_or_default()
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric())
                .collect();
            let last = name.rfind(|c: char| c.is_ascii_uppercase()).map_or("", |at| &name[at..]);
            if EMPTY_WORDS.contains(&last.to_ascii_lowercase().as_str()) {
                faults.push(format!("{}: {name}", short(&path)));
            }
        }
    }
    report("names that say what a thing is", faults);
}

/// What a reader of a clone looks for first.
const FIRST_FILES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Cargo.toml",
    ".ci/run",
    "src/lib.rs",
    "docs/format.md",
    "docs/kafka.md",
];

#[test]
fn files_that_a_reader_looks_for_first_are_there() {
    let missing = FIRST_FILES.iter().filter(|file| !root().join(file).exists());
    report("files that are there", missing.map(|file| (*file).to_owned()).collect());
}

/// Words in backquotes that name a file or a folder of the sources.
fn paths_named(text: &str) -> BTreeSet<String> {
    let inside = text.split('`').skip(1).step_by(2);
    inside
        .filter(|word| word.ends_with(".rs") && !word.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect()
}

#[test]
fn files_that_the_architecture_names_are_in_the_tree() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let tree: Vec<String> = sources("src").iter().map(|(path, _)| short(path)).collect();
    let known = |path: &str| tree.iter().any(|file| file.ends_with(&format!("/{path}")));
    let missing = paths_named(&text).into_iter().filter(|path| !known(path)).collect();
    report("ARCHITECTURE.md names files that are there", missing);
}

#[test]
fn a_function_fits_a_screen() {
    let mut faults = Vec::new();
    for dir in ["src", "tests", "benches", "examples"] {
        for (path, text) in sources(dir) {
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let indent = line.len() - line.trim_start().len();
                let is_function = line.trim_start().split('(').next().is_some_and(|head| {
                    head.split_whitespace().rev().nth(1) == Some("fn")
                        && !head.trim_start().starts_with("//")
                });
                if !is_function {
                    continue;
                }
                let end = format!("{}}}", " ".repeat(indent));
                let length = lines[number..].iter().position(|line| **line == end).unwrap_or(0) + 1;
                let bodyless = lines[number..].iter().take(12).find_map(|line| {
                    let line = line.trim_end();
                    (line.ends_with('{') || line.ends_with('}') || line.ends_with(';'))
                        .then(|| line.ends_with(';') || line.ends_with('}'))
                });
                if length > FUNCTION_LINES_MAX && bodyless == Some(false) {
                    faults.push(format!("{}:{}: {length} lines", short(&path), number + 1));
                }
            }
        }
    }
    report("functions of at most 70 lines", faults);
}

/// Layers whose type names have one meaning each.
const ONE_MEANING: &[&str] = &["log", "broker", "group", "consumer", "producer"];

#[test]
fn a_type_name_has_one_meaning_in_a_layer() {
    let mut faults = Vec::new();
    for layer in ONE_MEANING {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, text) in sources(&format!("src/{layer}")) {
            if path.to_string_lossy().contains("tests") || path.ends_with("models.rs") {
                continue;
            }
            for line in without_tests(&text).lines() {
                // `pub(in crate::log)` is two words.
                let visibility = |word: &&str| word.starts_with("pub") || word.ends_with(')');
                let mut words = line.split_whitespace().skip_while(visibility);
                let defines = words.next().is_some_and(|word| {
                    ["struct", "enum", "trait", "type"].contains(&word) && !line.starts_with(' ')
                });
                let name: String = words
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric())
                    .collect();
                if defines {
                    places.entry(name).or_default().push(short(&path));
                }
            }
        }
        for (name, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
            faults.push(format!("{layer}: {name} is defined in {}", places.join(" and ")));
        }
    }
    report("one meaning for each name", faults);
}

/// Words like `R4` in a text.
fn rules_cited(text: &str) -> BTreeSet<u32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let number = |word: &str| word.strip_prefix('R')?.parse::<u32>().ok();
    words.filter_map(number).filter(|number| (1..=12).contains(number)).collect()
}

#[test]
fn rules_that_are_cited_by_number_are_written_down() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let written: BTreeSet<u32> =
        text.lines().filter(|line| line.starts_with("| R")).flat_map(rules_cited).collect();
    let mut faults = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let missing = rules_cited(&text).into_iter().filter(|rule| !written.contains(rule));
        faults.extend(missing.map(|rule| format!("{}: R{rule}", short(&path))));
    }
    report("ARCHITECTURE.md has a row for each rule that the source cites", faults);
}

/// Words like `D14` behind `Departure:`.
fn departures_marked(text: &str) -> (BTreeSet<u32>, usize) {
    let mut marked = BTreeSet::new();
    let mut unnumbered = 0;
    let mut rest = text;
    while let Some(at) = rest.find("Departure: ") {
        rest = &rest[at + "Departure: ".len()..];
        let digits = rest
            .strip_prefix('D')
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(number) => drop(marked.insert(number)),
            None => unnumbered += 1,
        }
    }
    (marked, unnumbered)
}

#[test]
fn departures_in_the_code_and_rows_of_the_comparison_are_the_same_set() {
    let text = fs::read_to_string(root().join("docs/kafka.md")).unwrap();
    let row = |line: &str| line.strip_prefix("| D")?.split(' ').next()?.parse::<u32>().ok();
    let listed: BTreeSet<u32> = text.lines().filter_map(row).collect();
    let mut marked = BTreeSet::new();
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let (numbers, unnumbered) = departures_marked(&text);
        marked.extend(numbers);
        if unnumbered > 0 {
            faults.push(format!("{}: a mark does not name its row", short(&path)));
        }
    }
    let only = |a: &BTreeSet<u32>, b: &BTreeSet<u32>, place: &str| {
        a.difference(b)
            .map(|number| format!("D{number} stands in {place} alone"))
            .collect::<Vec<_>>()
    };
    faults.extend(only(&marked, &listed, "the code"));
    faults.extend(only(&listed, &marked, "docs/kafka.md"));
    report("departures are marked in the code and listed, each under its number", faults);
}
