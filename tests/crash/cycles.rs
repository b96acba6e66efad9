//! The graph of what transactions saw of one another, in Elle's manner: H-T3.
//!
//! An edge says that one transaction comes before another: it wrote before it in a partition, its
//! records were read by it, it read a partition before the other wrote there, or it had ended when
//! the other began. Kafka orders no writes of transactions that run side by side, and a reader's
//! look is no snapshot, so of those the edges of writes and of what was not seen yet may be part of
//! a cycle. Nothing else may.

use std::collections::{BTreeMap, BTreeSet};

/// What an edge stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// It wrote before the other in a partition.
    WriteWrite,
    /// Its record was read by the other.
    WriteRead,
    /// It read a partition, and what the other wrote there was not there yet. What was there, and
    /// hidden behind a transaction that was open, says nothing of the order.
    ReadWrite,
    /// It had ended when the other began.
    Time,
}

/// When a transaction ran, on any scale: both inclusive.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub began: u64,
    pub ended: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Graph {
    spans: BTreeMap<usize, Span>,
    edges: BTreeSet<(usize, usize, Edge)>,
}

impl Graph {
    /// A transaction that was committed.
    pub fn add(&mut self, node: usize, span: Span) {
        for (&other, before) in &self.spans {
            if before.ended < span.began {
                self.edges.insert((other, node, Edge::Time));
            } else if span.ended < before.began {
                self.edges.insert((node, other, Edge::Time));
            }
        }
        self.spans.insert(node, span);
    }

    pub fn edge(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges.insert((from, to, edge));
        }
    }

    /// Whether both were open at the same time.
    fn overlap(&self, one: usize, other: usize) -> bool {
        match (self.spans.get(&one), self.spans.get(&other)) {
            (Some(one), Some(other)) => one.began <= other.ended && other.began <= one.ended,
            _ => false,
        }
    }

    /// What lies on cycles: of all edges, or of those that Kafka answers for.
    fn on_cycles(&self, all: bool) -> Vec<(usize, usize, Edge)> {
        let counts = |&(from, to, edge): &(usize, usize, Edge)| {
            let loose = matches!(edge, Edge::WriteWrite | Edge::ReadWrite);
            all || !(loose && self.overlap(from, to))
        };
        let mut edges: Vec<_> = self.edges.iter().copied().filter(counts).collect();
        // Whoever has nothing before it, or nothing behind it, is on no cycle.
        loop {
            let from: BTreeSet<usize> = edges.iter().map(|edge| edge.0).collect();
            let to: BTreeSet<usize> = edges.iter().map(|edge| edge.1).collect();
            let before = edges.len();
            edges.retain(|edge| to.contains(&edge.0) && from.contains(&edge.1));
            if edges.len() == before {
                return edges;
            }
        }
    }

    /// # Errors
    /// The edges of a cycle that Kafka does not allow.
    pub fn check(&self) -> Result<(), String> {
        let found = self.on_cycles(false);
        match found.is_empty() {
            true => Ok(()),
            false => Err(format!("H-T3: a cycle: {found:?}")),
        }
    }

    /// Whether there is a cycle of the kinds that Kafka allows.
    pub fn has_cycle(&self) -> bool {
        !self.on_cycles(true).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(spans: &[(u64, u64)], edges: &[(usize, usize, Edge)]) -> Graph {
        let mut graph = Graph::default();
        for (node, &(began, ended)) in spans.iter().enumerate() {
            graph.add(node, Span { began, ended });
        }
        for &(from, to, edge) in edges {
            graph.edge(from, to, edge);
        }
        graph
    }

    #[test]
    fn transactions_side_by_side_may_write_in_any_order_and_may_not_read_each_other() {
        use Edge::{ReadWrite, WriteRead, WriteWrite};
        let both = [(0, 5), (1, 6)];
        let writes = graph(&both, &[(0, 1, WriteWrite), (1, 0, WriteWrite)]);
        assert!(writes.has_cycle());
        writes.check().unwrap();
        let skewed = graph(&both, &[(0, 1, ReadWrite), (1, 0, WriteRead)]);
        assert!(skewed.has_cycle());
        skewed.check().unwrap();
        graph(&both, &[(0, 1, WriteRead), (1, 0, WriteRead)]).check().unwrap_err();
        // Over a third one.
        let three = [(0, 9), (1, 9), (2, 9)];
        let ring = [(0, 1, WriteRead), (1, 2, WriteRead), (2, 0, WriteRead)];
        graph(&three, &ring).check().unwrap_err();
    }

    #[test]
    fn transactions_one_after_the_other_are_in_their_order() {
        use Edge::{ReadWrite, WriteRead, WriteWrite};
        let apart = [(0, 1), (2, 3)];
        for late in [WriteWrite, WriteRead] {
            graph(&apart, &[(1, 0, late)]).check().unwrap_err();
            graph(&apart, &[(0, 1, late)]).check().unwrap();
        }
        // The second one read, and did not see what had been committed.
        graph(&apart, &[(1, 0, ReadWrite)]).check().unwrap_err();
    }
}
