//! What was last read of the host, kept as text in both formats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snp_host::state::HostState;

use super::encode::{Family, Format, Kind, Value, encode};
use super::families::{families, gauge};
use crate::cli::SourceArgs;
use crate::commands::host;
use crate::exit::Failure;

/// Series that say something of the sample and the exporter itself.
#[cfg(test)]
pub(super) const OWN_SERIES: usize = 6 + super::server::SERVER_SERIES;

/// One reading.
#[derive(Debug)]
pub(crate) struct Sample {
    open: String,
    plain: String,
    /// When it was begun, or when a snapshot was taken.
    taken: SystemTime,
    /// The same by a clock that does not jump; none for a snapshot.
    begun: Option<Instant>,
    took: Duration,
}

impl Sample {
    fn read(source: &SourceArgs) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut taken = SystemTime::now();
        let (system, snapshot) = host::system(source)?;
        // A snapshot that does not say when it was taken is as old as its reading.
        let snapshot = snapshot.filter(|snapshot| snapshot.seconds > 0);
        if let Some(snapshot) = snapshot {
            // An instant that no clock can show is taken for 1970.
            let since = Duration::from_secs(snapshot.seconds);
            taken = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
        }
        let families = families(&HostState::of(&system));
        Ok(Self {
            open: encode(&families, Format::OpenMetrics),
            plain: encode(&families, Format::Prometheus),
            taken,
            begun: snapshot.is_none().then_some(begun),
            took: begun.elapsed(),
        })
    }

    fn age(&self) -> Duration {
        match self.begun {
            Some(begun) => begun.elapsed(),
            // A snapshot from the future: clocks differ.
            None => SystemTime::now().duration_since(self.taken).unwrap_or_default(),
        }
    }
}

/// The last good sample, and how readings went.
#[derive(Debug)]
pub(crate) struct Kept {
    source: SourceArgs,
    last: Mutex<Option<Arc<Sample>>>,
    readings: AtomicU64,
    failures: AtomicU64,
}

impl Kept {
    /// Nothing read yet.
    pub(crate) fn new(source: SourceArgs) -> Self {
        Self {
            source,
            last: Mutex::new(None),
            readings: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Reads the host anew. What was read before stays if that fails.
    pub(crate) fn refresh(&self) -> Result<(), Failure> {
        self.readings.fetch_add(1, Ordering::Relaxed);
        let sample = Sample::read(&self.source).inspect_err(|_| {
            self.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sample));
        Ok(())
    }

    fn last(&self) -> Option<Arc<Sample>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends the sample, and what is to be said of it, to a page.
    pub(crate) fn page(&self, format: Format, out: &mut String) -> Option<()> {
        self.write(format, out, true)
    }

    /// The same as a file that is read later: without its age, which grows meanwhile.
    pub(crate) fn file(&self, format: Format) -> Option<String> {
        let mut out = String::new();
        self.write(format, &mut out, false)?;
        Some(out + format.end())
    }

    fn write(&self, format: Format, out: &mut String, with_age: bool) -> Option<()> {
        let sample = self.last()?;
        out.push_str(match format {
            Format::OpenMetrics => &sample.open,
            Format::Prometheus => &sample.plain,
        });
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let counter = |name, help, count: &AtomicU64| Family {
            name,
            help,
            kind: Kind::Counter,
            samples: vec![(Vec::new(), Value::Whole(count.load(Ordering::Relaxed)))],
        };
        let taken = sample.taken.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let age = with_age.then(|| Value::Real(sample.age().as_secs_f64()));
        let took = Value::Real(sample.took.as_secs_f64());
        for family in [
            Family {
                name: "rmp_build",
                help: "The program that exports.",
                kind: Kind::Info,
                samples: vec![(version, Value::Whole(1))],
            },
            gauge("rmp_sample_age_seconds", "Age of what is shown.", age),
            gauge(
                "rmp_last_success_timestamp_seconds",
                "When what is shown was read, in seconds since 1970.",
                Some(Value::Real(taken)),
            ),
            gauge("rmp_scrape_duration_seconds", "How long the host's reading took.", Some(took)),
            counter("rmp_samples", "Readings of the host.", &self.readings),
            counter("rmp_sample_failures", "Readings of the host that failed.", &self.failures),
        ] {
            family.write(format, out);
        }
        Some(())
    }
}
