//! `rmpopt snapshot`: all that the other commands read, in one file.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use snp_host::system::System;

use crate::atomic;
use crate::cli::SnapshotArgs;
use crate::exit::Failure;
use crate::output;

/// Reads the host once, keeping every answer, and writes them down.
pub(crate) fn run(args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let root = super::host::open(args.root.as_deref())?.recording();
    let mut system = System::read(&root, args.deep);
    if args.firmware {
        system.ask_firmware(&root);
    }
    let mut record = root.into_record().unwrap_or_default();
    record.taken_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    record.deep = args.deep;
    if args.redact {
        record.redact();
    }
    let text = record.to_text().map_err(Failure::CannotRead)?;
    let file = args.output.display();
    let failed = |e: std::io::Error| {
        Failure::CannotRead(match e.kind() {
            ErrorKind::AlreadyExists => format!("{file}: exists already, and is not overwritten"),
            _ => format!("{file}: cannot be written: {e}"),
        })
    };
    // A log may hold what others should not see: unless asked for otherwise the file is its
    // owner's alone.
    if args.replace {
        atomic::replace(&args.output, text.as_bytes(), Some(args.mode))?;
    } else {
        let mut to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&args.output)
            .map_err(failed)?;
        let wanted = Permissions::from_mode(args.mode);
        let written = to.write_all(text.as_bytes()).and_then(|()| to.set_permissions(wanted));
        if let Err(error) = written.and_then(|()| to.sync_all()) {
            // Half a snapshot is none.
            let _ = std::fs::remove_file(&args.output);
            return Err(failed(error));
        }
    }
    output::note(&format!("{file}: {} bytes written", text.len()));
    Ok(ExitCode::SUCCESS)
}
