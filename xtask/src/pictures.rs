//! `cargo xtask pictures`: the pictures of `rmpopt run` and `rmpopt compare` in docs/images, from real
//! output. A test of the command (`rmpopt/tests/pictures.rs`) says when the first one is out of date.

use std::path::{Path, PathBuf};
use std::process::Command;

use anstyle_svg::{Term, WIN10_CONSOLE};
use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{capture, is_installed};

/// The run that is shown.
const RUN: [&str; 3] = ["run", "--until", "80s"];
/// The comparison that is shown.
const COMPARE: [&str; 8] = [
    "compare",
    "--scenarios",
    "venice-2p,small,idle-12t",
    "--policies",
    "tracked,v10,off",
    "--delay-sweep",
    "--jobs",
    "2",
];
/// Width and height of the page's picture: its overview and the first scenario.
const PAGE: (u32, u32) = (1280, 2120);

/// Makes both pictures; the page's only where Chromium is installed.
pub(crate) fn run() -> Result<()> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has no parent folder")?;
    let images = root.join("docs/images");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "rmpopt"]).current_dir(root);
    ensure!(build.status().context("starting cargo build")?.success(), "building rmpopt failed");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let rmpopt = target.join("debug/rmpopt");

    let mut terminal = Command::new(&rmpopt);
    terminal.args(["--color", "always"]).args(RUN).env("LC_ALL", "C.UTF-8");
    let shown = format!("$ rmpopt {}\n{}", RUN.join(" "), shortened(&capture(&mut terminal)?));
    let file = images.join("run.svg");
    std::fs::write(&file, svg(&shown)?).with_context(|| format!("writing {}", file.display()))?;
    println!("{}", file.display());

    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let Some(browser) = browsers.into_iter().find(|name| is_installed(name)) else {
        println!("docs/images/compare.png stays as it is: chromium is not installed");
        return Ok(());
    };
    let work = target.join("pictures");
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let page = work.join("compare.html");
    let mut compare = Command::new(&rmpopt);
    compare.args(COMPARE).arg("--html").arg(&page);
    capture(&mut compare)?;
    let file = images.join("compare.png");
    photograph(browser, &page, &file, PAGE, &work)?;
    println!("{}", file.display());
    Ok(())
}

/// The report up to what the driver did, without how long it took, which differs from run to run.
fn shortened(report: &str) -> String {
    let shown = |line: &str| match line.split_once(" simulated in ") {
        // What ends the colour stays.
        Some((before, time)) => {
            format!("{before} simulated{}", time.find('\u{1b}').map_or("", |at| &time[at..]))
        }
        None => line.to_owned(),
    };
    let lines = report.lines().take_while(|line| !line.contains("Driver")).map(shown);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Coloured terminal output as a picture that scales.
fn svg(ansi: &str) -> Result<String> {
    let picture = Term::new().palette(WIN10_CONSOLE).min_width_px(0).render_svg(ansi);
    let (head, rest) = picture.split_once('\n').context("a picture of one line")?;
    let size = |key: &str| -> Option<u32> {
        head.split_once(&format!("{key}=\""))?.1.split_once("px\"")?.0.parse().ok()
    };
    let (Some(width), Some(height)) = (size("width"), size("height")) else {
        bail!("no size in `{head}`");
    };
    let head = head.replace(
        "<svg ",
        &format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"rmpopt run\" "),
    );
    Ok(format!("{head}\n{rest}"))
}

fn photograph(
    browser: &str,
    page: &Path,
    picture: &Path,
    (width, height): (u32, u32),
    work: &Path,
) -> Result<()> {
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-sync", "--no-first-run"])
        .arg(format!("--user-data-dir={}", work.join("profile").display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()));
    capture(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_it_took_is_left_out() {
        let line = "a\n  \u{1b}[2m1 min simulated in 1.17 s\u{1b}[0m\nb\n\nDriver  x";
        assert_eq!(shortened(line), "a\n  \u{1b}[2m1 min simulated\u{1b}[0m\nb");
        assert_eq!(shortened("1 min simulated in 1 s"), "1 min simulated");
    }

    #[test]
    fn a_picture_has_a_size_and_scales() {
        let picture = svg("a < \u{1b}[31mb\u{1b}[0m\nc").unwrap();
        assert!(picture.starts_with("<svg viewBox=\"0 0 "), "{picture}");
        assert!(picture.contains("a &lt; "), "{picture}");
    }
}
