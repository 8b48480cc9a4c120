//! Which kernel: its version, and the packages that it is in.

/// The suite the kernel comes from.
pub(super) const KERNEL_SUITE: &str = "trixie-backports";
/// Which kernel: resolved from the mirror when the environment is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Version of the Debian packages, such as `7.3.4-1~bpo13+1`.
    pub(crate) version: String,
    /// What `uname -r` says in it, such as `7.3.4+deb13-amd64`.
    pub(crate) release: String,
}

impl Kernel {
    /// First two numbers of the version: part of the names of the source packages.
    pub(crate) fn series(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
    }

    /// The source's name for builds by this distribution: what follows the upstream version.
    pub(super) fn local_version(&self) -> &str {
        self.release.find(['+', '-']).map_or("", |at| &self.release[at..])
    }

    /// The packages, in the order config, source, headers, binary, modules.
    pub(super) fn packages(&self) -> [String; 5] {
        let (series, release) = (self.series(), &self.release);
        [
            format!("linux-config-{series}"),
            format!("linux-source-{series}"),
            format!("linux-headers-{release}"),
            format!("linux-binary-{release}"),
            format!("linux-modules-{release}"),
        ]
    }
}

pub(super) fn parse_kernel(text: &str) -> Option<Kernel> {
    let mut lines = text.lines();
    let (version, release) = (lines.next()?.to_owned(), lines.next()?.to_owned());
    Some(Kernel { version, release })
}

/// The newest version `apt-cache madison` lists in the kernel's suite (it lists newest first).
pub(super) fn newest_version(madison: &str) -> Option<String> {
    let suite = format!(" {KERNEL_SUITE}/");
    let line = madison.lines().find(|line| line.contains(&suite))?;
    Some(line.split('|').nth(1)?.trim().to_owned())
}

/// The kernel release in the dependencies of the metapackage.
pub(super) fn release_in(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let package = depends.split(',').find_map(|item| item.trim().strip_prefix("linux-image-"))?;
    Some(package.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_newest_of_its_suite() {
        let madison = "linux-image-amd64 | 7.9.1-1 | http://m.test/d sid/main amd64 Packages\n\
                       linux-image-amd64 | 7.3.4-1~bpo13+1 | http://m.test/d trixie-backports/main amd64 Packages\n\
                       linux-image-amd64 | 6.12.107-1 | http://m.test/d trixie/main amd64 Packages\n";
        assert_eq!(newest_version(madison).as_deref(), Some("7.3.4-1~bpo13+1"));
        let shown = "Package: linux-image-amd64\nDepends: linux-base-amd64 (= 7.3.4-1~bpo13+1), \
                     linux-image-7.3.4+deb13-amd64 (= 7.3.4-1~bpo13+1), linux-modules-amd64\n";
        assert_eq!(release_in(shown).as_deref(), Some("7.3.4+deb13-amd64"));
    }

    #[test]
    fn names_of_packages_follow_from_the_version() {
        let kernel = Kernel {
            version: "7.3.4-1~bpo13+1".to_owned(),
            release: "7.3.4+deb13-amd64".to_owned(),
        };
        assert_eq!(kernel.packages()[1], "linux-source-7.3");
        assert_eq!(kernel.packages()[2], "linux-headers-7.3.4+deb13-amd64");
        assert_eq!(kernel.local_version(), "+deb13-amd64");
    }
}
