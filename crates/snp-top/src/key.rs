//! What can be done, and the keys for it.

/// Something to do to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Show or hide the page of keys.
    Help,
    /// Leave the page of keys, a filter or a selection.
    Back,
    /// Hold the picture, or go on.
    Pause,
    /// The next node, or all nodes.
    NextNode,
    /// The node before.
    PreviousNode,
    /// The next state to show alone, or all.
    NextFilter,
    /// The state before.
    PreviousFilter,
    /// Another order of guests.
    Sort,
    /// Fewer GiB in a cell.
    ZoomIn,
    /// More GiB in a cell.
    ZoomOut,
    /// As many GiB in a cell as it takes to show all.
    ZoomFit,
    /// What the arrows move: map, guests, changes.
    Focus,
    /// One to the left.
    Left,
    /// One to the right.
    Right,
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The beginning.
    Home,
    /// The end.
    End,
    /// Empty the list of changes.
    Clear,
}

/// The page of keys: what to press, what it does.
pub(crate) const HELP: [(&str, &str); 15] = [
    ("q, Ctrl-C", "quit"),
    ("Ctrl-Z", "suspend; fg goes on"),
    ("?, F1", "this page; any key leaves it"),
    ("p, Space", "hold the picture; samples go on being taken"),
    ("n, N", "one NUMA node after the other, then all"),
    ("f, F", "regions of one state after the other, then all"),
    ("s", "guests by name, memory, process id"),
    ("+, -", "fewer or more GiB in a cell"),
    ("0", "all of the memory"),
    ("Tab", "what the arrows move: map, guests, changes"),
    ("arrows, hjkl", "move by a cell or a line"),
    ("PgUp, PgDn", "move by a page"),
    ("Home, End, g, G", "to the beginning, to the end"),
    ("r", "read everything anew, as is done every five minutes"),
    ("c, Esc", "empty the list of changes; take filter and node back"),
];
