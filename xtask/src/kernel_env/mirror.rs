//! Where the system's packages come from: its own apt sources.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::SUITE;

/// Keys that sign its suites.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the system's packages come from, and the keys that sign them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(super) address: String,
    pub(super) keys: String,
}

/// The mirror of the running system's own sources (or `RMPOPT_KERNEL_MIRROR`).
pub(crate) fn mirror() -> Result<Mirror> {
    if let Ok(address) = std::env::var("RMPOPT_KERNEL_MIRROR")
        && !address.is_empty()
    {
        return Ok(Mirror { address, keys: KEYRING.to_owned() });
    }
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let of = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let (id, codename) = (of("ID"), of("VERSION_CODENAME"));
    if id != "debian" {
        bail!(
            "this system ({id}) is not Debian, so its own mirror has no {SUITE}; \
             set RMPOPT_KERNEL_MIRROR to the address of a Debian mirror"
        )
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<PathBuf> =
            folder.filter_map(Result::ok).map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let found = match file.extension().and_then(|ext| ext.to_str()) {
            Some("sources") => mirror_in_stanzas(&text, &codename),
            _ => mirror_in_lines(&text, &codename),
        };
        if let Some(mut mirror) = found {
            mirror.address = resolve_list(mirror.address)?;
            return Ok(mirror);
        }
    }
    bail!(
        "no apt source of this system lists {codename} main; \
         set RMPOPT_KERNEL_MIRROR to the address of a Debian mirror"
    )
}

/// `mirror+file:` names a list of mirrors; debootstrap wants one of them.
fn resolve_list(address: String) -> Result<String> {
    let Some(file) = address.strip_prefix("mirror+file:") else { return Ok(address) };
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let first = first.and_then(|line| line.split_whitespace().next());
    Ok(first.with_context(|| format!("no mirror in {file}"))?.to_owned())
}

/// The first archive with `codename` and `main` in one-line sources.
fn mirror_in_lines(text: &str, codename: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let mut rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let mut keys = None;
        if let Some(options) = rest.strip_prefix('[') {
            let (options, after) = options.split_once(']')?;
            let signed =
                options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            keys = signed.map(str::to_owned);
            rest = after;
        }
        let mut words = rest.split_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        let fits = suite == codename && words.any(|component| component == "main");
        fits.then(|| Mirror {
            address: address.to_owned(),
            keys: keys.unwrap_or_else(|| KEYRING.to_owned()),
        })
    })
}

/// The first archive with `codename` and `main` in sources written as stanzas.
fn mirror_in_stanzas(text: &str, codename: &str) -> Option<Mirror> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let has = |name, wanted| {
            field(name).is_some_and(|value| value.split_whitespace().any(|word| word == wanted))
        };
        let enabled = field("Enabled").is_none_or(|value| value != "no");
        let fits = enabled && has("Types", "deb") && has("Suites", codename);
        if !fits || !has("Components", "main") {
            return None;
        }
        let keys = field("Signed-By").filter(|value| value.starts_with('/')).unwrap_or(KEYRING);
        let address = field("URIs")?.split_whitespace().next()?;
        Some(Mirror { address: address.to_owned(), keys: keys.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(address: &str, keys: &str) -> Mirror {
        Mirror { address: address.to_owned(), keys: keys.to_owned() }
    }

    #[test]
    fn the_systems_mirror_is_read_from_stanzas_not_from_other_archives() {
        let text = "Types: deb\nURIs: http://other.test/sdk\nSuites: nodistro\nComponents: main\n\n\
                    # comment\nTypes: deb\n# comment\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n";
        let found = mirror_in_stanzas(text, "bookworm");
        assert_eq!(found, Some(mirror("http://mirror.test/debian", "/k.gpg")));
        assert_eq!(mirror_in_stanzas(text, "trixie"), None);
    }

    #[test]
    fn the_systems_mirror_is_read_from_lines() {
        let text = "# deb http://old.test/ bookworm main\n\
                    deb-src http://src.test/debian bookworm main\n\
                    deb https://tool.test/apt sdk-bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm contrib main\n";
        let found = mirror_in_lines(text, "bookworm");
        assert_eq!(found, Some(mirror("http://mirror.test/debian", "/k.gpg")));
        let plain = mirror_in_lines("deb http://m.test/d trixie main", "trixie");
        assert_eq!(plain, Some(mirror("http://m.test/d", KEYRING)));
    }
}
