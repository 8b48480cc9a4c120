//! Each malformed input of `tests/data/malformed` is refused, with its file and place.

mod common;

use std::path::Path;

use common::data;
use snp_host::trace::openb::PodList;
use snp_host::{HostFiles, KernelFacts, Lscpu, MemoryMap, Numactl};

/// File, place (after the file's name) and a part of the reason.
const CASES: &[(&str, &str, &str)] = &[
    ("log-rmp-cut.txt", ":4: ", "RMP table"),
    ("log-srat-overlap.txt", ":5: ", "overlaps line 4"),
    ("lscpu-cut.txt", ":6: ", "NUMA node(s): says 2"),
    ("lscpu-huge.txt", ":1: ", "`4294967296`, expected a count"),
    ("lscpu-negative.txt", ":3: ", "Thread(s) per core: `-2`"),
    ("lscpu-no-sockets.txt", ": ", "`Socket(s)` is missing"),
    ("lscpu-overlap.txt", ":8: ", "CPU 20 is also in node 0"),
    ("lscpu-zero.txt", ":4: ", "Core(s) per socket: `0`"),
    ("map-above-2pow52.txt", ":4: ", "below 2^52"),
    ("map-bad-digit.txt", ":2: ", "0x000000000009ffgf"),
    ("map-binary.txt", ":3: ", "NUL byte"),
    ("map-cut-range.txt", ":4: ", "is the line cut?"),
    ("map-cut-type.txt", ":4: ", "is the line cut?"),
    ("map-duplicate-line.txt", ":4: ", "repeats line 3"),
    ("map-empty.txt", ": ", "empty, expected text"),
    ("map-end-before-start.txt", ":3: ", "ends before it starts"),
    ("map-gzip.txt", ":1: ", "gzip"),
    ("map-none.txt", ": ", "no e820 memory map"),
    ("map-not-utf8.txt", ":3: ", "not UTF-8"),
    ("map-old-wording-empty.txt", ":3: ", "ends before it starts"),
    ("map-overlap.txt", ":4: ", "overlaps line 3"),
    ("map-unknown-type.txt", ":3: ", "`usabel`"),
    ("numactl-cpu-twice.txt", ":5: ", "CPU 15 is also in node 0"),
    ("numactl-cut.txt", ": ", "`node 1 size` is missing"),
    ("numactl-negative.txt", ":6: ", "`-580505 MB`"),
    ("numactl-ragged.txt", ":11: ", "node distances, row 1"),
    ("numactl-unknown-node.txt", ":7: ", "node: `5`"),
    ("openb-cut.csv", ":3: ", "8 fields, expected 11"),
    ("openb-huge.csv", ":3:deletion_time: ", "`99999999999999999999`"),
    ("openb-negative.csv", ":3:memory_mib: ", "`-12288`"),
    ("openb-no-column.csv", ":1: ", "no column `memory_mib`"),
    ("openb-no-header.csv", ":1: ", "unsupported trace"),
    ("openb-wrong-type.csv", ":3:memory_mib: ", "`12GiB`"),
    ("trace-binary.csv", ":3: ", "NUL byte"),
    ("trace-empty.csv", ": ", "empty, expected text"),
    ("trace-unsupported.csv", ":1: ", "Huawei"),
];

fn refusal(path: &Path, kind: &str) -> String {
    fn says<T, E: std::error::Error>(read: Result<T, E>) -> String {
        read.err().map_or_else(|| "no error".to_owned(), |e| e.to_string())
    }
    match kind {
        "map" => says(MemoryMap::read(path)),
        "log" => says(KernelFacts::read(path)),
        "lscpu" => says(Lscpu::read(path)),
        "numactl" => says(Numactl::read(path)),
        _ => says(PodList::read(path)),
    }
}

#[test]
fn each_names_file_and_place() {
    for (name, place, reason) in CASES {
        let path = data("malformed").join(name);
        let error = refusal(&path, name.split('-').next().unwrap());
        let start = format!("{}{place}", path.display());
        assert!(error.starts_with(&start), "{name}: {error}");
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn the_host_reader_refuses_them_too() {
    for (name, ..) in CASES {
        // A log without a map is a log; the caller decides whether it needs a map.
        if *name == "map-none.txt" {
            continue;
        }
        let path = data("malformed").join(name);
        let error = HostFiles::read(&[&path]).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{name}: {error}");
    }
}

#[test]
fn none_is_left_out() {
    let listed = |name: &str| CASES.iter().any(|(case, ..)| *case == name);
    for entry in std::fs::read_dir(data("malformed")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("scenario-") || listed(&name), "{name}");
    }
}
