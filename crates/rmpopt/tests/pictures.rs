//! The picture of `rmpopt run` in the README shows what the command prints today.

use assert_cmd::cargo::cargo_bin_cmd;

/// The text of a picture, line by line.
fn text(svg: &str) -> Vec<String> {
    let (_, body) = svg.split_once("xml:space=\"preserve\"").expect("text");
    let mut plain = String::new();
    let mut inside = true;
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(plain, |plain, (name, c)| plain.replace(name, c));
    // What stands before a line's text is the file's own indentation.
    plain.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_picture_of_a_run_is_of_today() {
    let svg = include_str!("../../../docs/images/run.svg");
    let args = ["run", "--until", "80s"];
    let output =
        cargo_bin_cmd!("rmpopt").args(args).env("LC_ALL", "C.UTF-8").output().expect("it runs");
    let report = String::from_utf8(output.stdout).expect("text");
    let command = format!("$ rmpopt {}", args.join(" "));
    // Up to what the driver did, and without the time that the run took.
    let lines = report.lines().take_while(|line| !line.contains("Driver"));
    let lines = std::iter::once(command.as_str()).chain(lines);
    let lines = lines.map(|line| match line.split_once(" simulated in ") {
        Some((before, _)) => format!("{before} simulated"),
        None => line.to_owned(),
    });
    let wanted: Vec<String> =
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    assert_eq!(text(svg), wanted, "`cargo xtask pictures` makes it anew");
}
