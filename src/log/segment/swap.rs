//! A change of names that is under way: a cleaned segment in the place of those before it.

use crate::log::files::names::FileKind;
use crate::log::segment::Segment;
use crate::sync::Arc;

/// A change of names that is under way. Readers see the new segment already.
#[derive(Debug)]
pub(in crate::log) struct Swap {
    pub new: Arc<Segment>,
    pub old: Vec<Arc<Segment>>,
    /// The files that the new segment has.
    pub kinds: Vec<FileKind>,
}
