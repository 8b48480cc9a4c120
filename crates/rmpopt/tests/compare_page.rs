//! The page of `rmpopt compare --html` in a browser, where Chromium is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin_cmd;

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// Loads a page and returns what the browser's console said and the page's elements.
fn load(browser: &Path, page: &Path, profile: &Path) -> (Vec<String>, String) {
    let output = Command::new("timeout")
        .arg("60")
        .arg(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--window-size=400,800", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr);
    let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
    (console.collect(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_page_loads_without_a_word_on_the_console() {
    let Some(browser) = chromium() else {
        println!(
            "skipped: the_page_loads_without_a_word_on_the_console: chromium is not installed"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    cargo_bin_cmd!("rmpopt")
        .args(["compare", "--scenarios", "small,venice-2p", "--quick", "--delay-sweep"])
        .args(["--policies", "tracked,tracked-ipi,v2,v10,oracle,oracle-delayed,off", "--html"])
        .arg(&page)
        .assert()
        .code(0);
    let (console, elements) = load(&browser, &page, &dir.path().join("profile"));
    assert!(console.is_empty(), "{console:#?}");
    // A browser drops what it does not understand; all charts are still there.
    assert!(elements.contains("</html>"), "{}", elements.len());
    let written = std::fs::read_to_string(&page).unwrap();
    assert_eq!(elements.matches("<svg").count(), written.matches("<svg").count());
    assert_eq!(elements.matches("<path").count(), written.matches("<path").count());

    // The check can fail: the page's own policy forbids what this one tries.
    let bad = dir.path().join("bad.html");
    let broken = written.replace("</body>", "<script>1</script><img src=\"x.png\"></body>");
    assert_ne!(broken, written);
    std::fs::write(&bad, broken).unwrap();
    let (console, _) = load(&browser, &bad, &dir.path().join("profile"));
    assert!(!console.is_empty());
}
