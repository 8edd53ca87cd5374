//! Render: the results of this machine into `docs/performance.md`, between its marks, and the plots beside it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde_json::Value;

use super::{growth, pages, results, rows, strangers, sweep, verify};
use crate::interrupt::Interrupts;
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{OrTrouble as _, Result, Trouble};

/// Write the results that lie below the target directory into docs/performance.md, tables and plots.
#[derive(Args)]
pub(super) struct Render {}

const PAGE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";

impl Render {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::new(interrupts, 1);
        let mut cargo = workspace.cargo();
        // The same selection as of every bench: another would build the tree with other features.
        cargo.args(["build", "--release", "--package", "longshore", "--package", "bench"]);
        steps.run("the plotter", &mut cargo)?;
        let page = workspace.root.join(PAGE);
        let mut text = fs::read_to_string(&page).or_trouble(format!("`{PAGE}` cannot be read"))?;
        for (mark, shown, charts) in parts(&workspace) {
            let Some(shown) = shown else {
                eprintln!("      {mark}: not measured on this machine; the page keeps what it has");
                continue;
            };
            let plots: Vec<String> =
                charts.iter().map(|(name, chart)| plot(&workspace, name, chart)).collect::<Result<_>>()?;
            text = between(&text, mark, &[shown, plots.join("\n")].join("\n\n"))?;
        }
        fs::write(&page, text).or_trouble(format!("`{PAGE}` cannot be written"))?;
        println!("{PAGE}");
        Ok(ExitCode::SUCCESS)
    }
}

type Charts = Vec<(&'static str, Value)>;

/// What is between each pair of marks; None where there is no result.
fn parts(workspace: &Workspace) -> [(&'static str, Option<String>, Charts); 6] {
    let read = |name: &str| results::read(workspace, name);
    let sweep = read("sweep");
    let sizes = growth::measured(workspace);
    [
        ("rows", read("rows").map(|result| rows::shown(&result, read("rebuild").as_ref())), Vec::new()),
        ("sweep", sweep.as_ref().map(sweep::shown), sweep.as_ref().map(sweep::charts).unwrap_or_default()),
        ("growth", (!sizes.is_empty()).then(|| growth::shown(&sizes)), growth::charts(&sizes)),
        ("pages", read("pages").map(|result| pages::shown(&result)), Vec::new()),
        ("strangers", read("strangers").map(|result| strangers::shown(&result)), Vec::new()),
        ("verify", read("verify").map(|result| verify::shown(&result)), Vec::new()),
    ]
}

/// Draws the chart, and returns the line that shows it on the page.
fn plot(workspace: &Workspace, name: &str, chart: &Value) -> Result<String> {
    let mut command = Command::new(workspace.target.join("release/bench-plot"));
    let mut plotter = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .or_trouble("the plotter cannot be started")?;
    let stdin = plotter.stdin.take();
    stdin
        .expect("it was piped")
        .write_all(chart.to_string().as_bytes())
        .or_trouble("the plotter does not listen")?;
    let output = plotter.wait_with_output().or_trouble("the plotter does not end")?;
    if !output.status.success() {
        return Err(Trouble::new(format!("the plotter ended with {} at `{name}`", output.status)));
    }
    let folder = workspace.root.join(PLOTS);
    fs::create_dir_all(&folder).or_trouble(format!("`{PLOTS}` cannot be made"))?;
    let file = format!("{name}.svg");
    fs::write(folder.join(&file), output.stdout).or_trouble(format!("`{PLOTS}/{file}` cannot be written"))?;
    let title = chart["title"].as_str().unwrap_or(name);
    let folder = Path::new(PLOTS).file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("![{title}]({folder}/{file})"))
}

/// `text` with something else between the marks of this name.
fn between(text: &str, mark: &str, new: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench: {mark} -->\n"), format!("<!-- end of bench: {mark} -->"));
    let missing = || Trouble::new(format!("`{PAGE}` has no `{}` followed by `{end}`", begin.trim_end()));
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", new.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "# P\n<!-- bench: rows -->\nold\n<!-- end of bench: rows -->\nby hand\n";
        let wanted = "# P\n<!-- bench: rows -->\n\nnew\n\n<!-- end of bench: rows -->\nby hand\n";
        let once = between(page, "rows", "new\n\n").unwrap();
        assert_eq!(once, wanted);
        assert_eq!(between(&once, "rows", "new").unwrap(), wanted);
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        let trouble = between("# P\n", "rows", "new").unwrap_err().to_string();
        assert!(trouble.contains("<!-- bench: rows -->"), "{trouble}");
    }

    #[test]
    fn the_page_in_the_tree_has_every_mark() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let page = fs::read_to_string(root.join(PAGE)).unwrap();
        for mark in ["rows", "sweep", "growth", "pages", "strangers", "verify"] {
            between(&page, mark, "x").unwrap();
        }
    }
}
