//! Where recorded scenarios lie: single files, and files of one scenario a line.

use super::NodeProperties;
use std::path::{Path, PathBuf};

/// A recorded scenario and the node that it was recorded on.
pub struct Recorded {
    /// Its place below the folder.
    pub place: String,
    pub text: String,
    pub node: NodeProperties,
}

/// The repository's own, beside the golden ones.
pub fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

/// Those of them that were drawn at random.
pub fn drawn() -> PathBuf {
    own().join("drawn")
}

/// Every scenario below a folder, in the order of their names: of `*.json` one, of `*.jsonl` one a
/// line.
pub fn below(root: &Path) -> Vec<Recorded> {
    let mut files = Vec::new();
    walk(root, &mut files);
    let mut out = Vec::new();
    for path in files {
        let node = node_of(root, &path);
        let place = path.strip_prefix(root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|e| e == "jsonl") {
            out.extend(text.lines().enumerate().map(|(number, line)| Recorded {
                place: format!("{place}:{}", number + 1),
                text: line.to_owned(),
                node: node.clone(),
            }));
        } else {
            out.push(Recorded { place, text, node });
        }
    }
    out
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, out);
        } else if path.extension().is_some_and(|e| e == "json" || e == "jsonl") {
            out.push(path);
        }
    }
}

/// The properties of the file's own folder, else those of its theme.
fn node_of(root: &Path, file: &Path) -> NodeProperties {
    let own = file.parent().unwrap().join("node.properties");
    if own.is_file() {
        return NodeProperties::read(&own).unwrap();
    }
    let theme = file.strip_prefix(root).unwrap().iter().next().unwrap();
    NodeProperties::of_folder(theme.to_str().unwrap())
}
