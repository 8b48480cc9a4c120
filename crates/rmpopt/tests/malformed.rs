//! Every malformed scenario ends in exit code 2 and one message that names file and place.

use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin_cmd;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/malformed")
}

/// File, where in it (line, and column where there is one), and part of what is said.
const CASES: [(&str, &str, &str); 17] = [
    ("scenario-binary.toml", ":3:", "binary data"),
    ("scenario-cut.toml", ":6:", "not TOML"),
    ("scenario-duplicate-guest.toml", ":17:8:", "the guest of line 10 is already named \"vault\""),
    ("scenario-duplicate-key.toml", ":8:1:", "duplicate key"),
    ("scenario-empty.toml", ":1:1:", "empty, expected a scenario"),
    ("scenario-ends-before-start.toml", ":14:9:", "guest[1].until: ends at 10s"),
    ("scenario-event-key.toml", ":19:10:", "event[1].memory: does not belong to action"),
    ("scenario-huge-number.toml", ":6:20:", "host.cores_per_socket:"),
    ("scenario-huge.toml", ":7:10:", "host.memory: expected a size such as \"100GiB\""),
    ("scenario-later-version.toml", ":1:18:", "schema_version: expected 1, found 2"),
    ("scenario-negative.toml", ":6:20:", "host.cores_per_socket: expected 1 to 1024, found -8"),
    ("scenario-no-version.toml", ":1:1:", "missing key \"schema_version\""),
    ("scenario-not-utf8.toml", ":2:", "not UTF-8"),
    ("scenario-unknown-guest.toml", ":19:9:", "event[1].guest: no guest is named \"safe\""),
    ("scenario-unknown-key.toml", ":15:1:", "unknown key \"placment\", expected one of"),
    ("scenario-wrong-type.toml", ":5:11:", "host.sockets: invalid type: string \"one\""),
    ("scenario-zero-memory.toml", ":12:10:", "guest[1].memory: expected 4KiB to 64GiB, found 0B"),
];

#[test]
fn each_names_file_and_place() {
    for (file, place, what) in CASES {
        let path = folder().join(file);
        let output = cargo_bin_cmd!("rmpopt").arg("run").arg(&path).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {stderr}");
        assert!(output.stdout.is_empty(), "{file}");
        let wanted = format!("{}{place}", path.display());
        assert!(stderr.contains(&wanted), "{file}: {wanted} in {stderr}");
        assert!(stderr.contains(what), "{file}: {what} in {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{file}: {stderr}");
        assert!(stderr.starts_with("error: "), "{file}: {stderr}");
    }
}

/// Maps, topologies and traces: their readers' own tests hold the places, here the command's exit
/// code and the file's name count.
#[test]
fn hosts_and_traces_too() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut tried = 0;
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let option = match name.split('-').next() {
            Some("log" | "map" | "lscpu" | "numactl") => "--host",
            Some("openb" | "trace") => "--trace",
            _ => continue,
        };
        let code = if name == "trace-unsupported.csv" { 4 } else { 2 };
        let output = cargo_bin_cmd!("rmpopt").args(["run", option]).arg(&path).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}: {stderr}");
        assert!(stderr.contains(&path.display().to_string()), "{name}: {stderr}");
        assert!(output.stdout.is_empty(), "{name}");
        tried += 1;
    }
    assert!(tried >= 30, "{tried}");
}

#[test]
fn each_file_is_in_the_table() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("scenario-"))
        .collect();
    files.sort();
    assert_eq!(files, CASES.map(|case| case.0));
}
