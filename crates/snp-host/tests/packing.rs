//! Azure's packing trace: a database by the published schema, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failed step of a test's helper fails the test")]

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use snp_host::trace::openb::Counts;
use snp_host::trace::packing::{Machine, is_sqlite, read};

const MACHINE: Machine = Machine { cpu_milli: 64_000, memory_mib: 512 << 10 };

/// Column types as published; the rows are made up.
const SCHEMA: &str = "
    CREATE TABLE vmType (id INTEGER PRIMARY KEY, vmTypeId INTEGER, machineId INTEGER,
                         core REAL, memory REAL, hdd REAL, ssd REAL, nic REAL);
    CREATE TABLE vm (vmId INTEGER PRIMARY KEY, tenantId INTEGER, vmTypeId INTEGER,
                     priority INTEGER, starttime REAL, endtime REAL);
    INSERT INTO vmType VALUES
        (0, 7, 4, 0.5, 0.25, NULL, 0.1, 0.01), (1, 7, 2, 0.25, 0.125, NULL, 0.1, 0.01),
        (2, 9, 2, 1, 1, 0.5, 0.1, 1), (3, 11, 2, 0.1, 0, 0, 0, 0);
    INSERT INTO vm VALUES
        (1, 1, 7, 0, -3.25, 0.5), (2, 1, 9, 1, 0.0, NULL), (3, 2, 7, 0, 1.5, 90.0),
        (4, 2, 7, 0, 2.0, 1.0), (5, 2, 11, 0, 2.0, 3.0), (6, 2, 7, 0, -9.0, -1.0);
";

fn database(dir: &Path, change: &str) -> PathBuf {
    let path = dir.join("packing.sqlite");
    let _ = std::fs::remove_file(&path);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch(change).unwrap();
    path
}

#[test]
fn rows_as_documented() {
    const DAY: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path(), "");
    assert!(is_sqlite(&path));
    let list = read(&path, MACHINE, &|_| true).unwrap();
    assert_eq!(list.counts, Counts { rows: 6, unscheduled: 0, invalid: 3, left_out: 0 });
    let seen: Vec<_> = list
        .vms
        .iter()
        .map(|vm| (vm.line, &*vm.name, vm.cpu_milli, vm.memory_mib, vm.start_ms, vm.end_ms))
        .collect();
    assert_eq!(
        seen,
        [
            (1, "1", 16_000, 64 << 10, None, Some(DAY / 2)),
            (2, "2", 64_000, 512 << 10, Some(0), None),
            (3, "3", 16_000, 64 << 10, Some(DAY * 3 / 2), Some(90 * DAY)),
        ]
    );
    assert_eq!(list.notes.len(), 1);
    assert!(list.notes[0].contains("1 of 3 types run on several kinds"), "{:?}", list.notes);
}

#[test]
fn a_sample_keeps_its_rows_and_counts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path(), "");
    let list = read(&path, MACHINE, &|row| row == 3).unwrap();
    assert_eq!(list.counts, Counts { rows: 6, unscheduled: 0, invalid: 3, left_out: 2 });
    assert_eq!(list.vms.iter().map(|vm| &*vm.name).collect::<Vec<_>>(), ["3"]);
}

/// Nothing is written: a file and a folder that cannot be written to are read too, a file left in the
/// middle of a transaction is left so, and no file appears beside it.
#[test]
fn the_file_is_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a b?#%41");
    std::fs::create_dir(&odd).unwrap();
    let path = database(&odd, "PRAGMA journal_mode = WAL; UPDATE vm SET tenantId = 5;");
    let before = std::fs::read(&path).unwrap();
    let list = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let there = list(&odd);
    assert_eq!(read(&path, MACHINE, &|_| true).unwrap().vms.len(), 3);
    assert_eq!((std::fs::read(&path).unwrap(), list(&odd)), (before, there));
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (change, says) in [
        ("DROP TABLE vmType", ": no table `vmType`, expected the tables vm and vmType"),
        (
            "ALTER TABLE vm RENAME TO old; CREATE VIEW vm AS SELECT * FROM old",
            ": no table `vm`, expected",
        ),
        (
            "ALTER TABLE vm DROP COLUMN starttime",
            ": table vm has no column `starttime`, expected vmId, vmTypeId, starttime, endtime",
        ),
        (
            "UPDATE vm SET starttime = 'soon' WHERE vmId = 2",
            ": table vm, row 2, column starttime: `soon`, expected fractional days",
        ),
        (
            "UPDATE vm SET starttime = NULL WHERE vmId = 3",
            ": table vm, row 3, column starttime: NULL, expected fractional days",
        ),
        ("UPDATE vm SET endtime = 9e99 WHERE vmId = 3", ": table vm, row 3, column endtime: "),
        (
            "UPDATE vm SET endtime = x'00ff' WHERE vmId = 3",
            ": table vm, row 3, column endtime: 2 bytes, expected fractional days, or NULL",
        ),
        (
            "UPDATE vm SET vmTypeId = 8 WHERE vmId = 5",
            ": table vm, row 5, column vmTypeId: 8, expected a type of table vmType",
        ),
        (
            "UPDATE vm SET vmTypeId = NULL WHERE vmId = 5",
            ": table vm, row 5, column vmTypeId: NULL, expected an identifier",
        ),
        (
            "UPDATE vmType SET memory = 1.5 WHERE id = 2",
            ": table vmType, row 3, column memory: 1.5, expected a fraction of a machine, 0 to 1",
        ),
        (
            "UPDATE vmType SET core = -0.5 WHERE id = 0",
            ": table vmType, row 1, column core: -0.5, expected a fraction",
        ),
    ] {
        let path = database(dir.path(), change);
        let error = read(&path, MACHINE, &|_| true).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}{says}", path.display())), "{error}");
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path(), "");
    let whole = std::fs::read(&path).unwrap();
    let fails = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(&path, MACHINE, &|_| true).unwrap_err().to_string()
    };
    for bytes in [b"vmid,vmtypeid\n".to_vec(), whole[..2000].to_vec(), {
        let mut torn = whole.clone();
        torn[100..].fill(0xa5);
        torn
    }] {
        let error = fails(&bytes);
        assert!(error.contains("packing.sqlite: not readable as SQLite: "), "{error}");
    }
    std::fs::write(&path, b"vmid,vmtypeid\n").unwrap();
    assert!(!is_sqlite(&path));
    assert!(read(dir.path(), MACHINE, &|_| true).unwrap_err().to_string().contains("directory"));
    let nowhere = dir.path().join("none");
    assert!(read(&nowhere, MACHINE, &|_| true).unwrap_err().to_string().contains("cannot be read"));
}

/// Any byte changed anywhere: an answer or an error, and never a panic.
#[test]
fn damage_anywhere_is_an_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path(), "");
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        match read(&path, MACHINE, &|_| true) {
            Ok(list) => assert!(list.counts.rows <= 6),
            Err(error) => assert!(error.to_string().contains("packing.sqlite"), "{error}"),
        }
    }
}
