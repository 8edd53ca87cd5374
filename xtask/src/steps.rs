//! Steps that take minutes: which one it is, of how many, and how long each took. The tool's own output goes
//! to the terminal as it comes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::charge::Charge;
use crate::interrupt::Interrupts;
use crate::{Result, Trouble};

pub(crate) struct Steps<'a> {
    interrupts: &'a Interrupts,
    total: usize,
    begun: Instant,
    done: Vec<(String, Duration)>,
}

/// Cargo needs no time to end; what it runs may.
const GRACE: Duration = Duration::from_secs(10);

impl<'a> Steps<'a> {
    pub(crate) fn new(interrupts: &'a Interrupts, total: usize) -> Steps<'a> {
        Steps { interrupts, total, begun: Instant::now(), done: Vec::new() }
    }

    /// Runs one command to its end.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result {
        self.step(name, |interrupts| execute(interrupts, command))
    }

    /// Runs one command to its end and returns what it printed on stdout.
    pub(crate) fn run_for_output(&mut self, name: &str, command: &mut Command) -> Result<String> {
        self.step(name, |interrupts| capture(interrupts, command))
    }

    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce(&Interrupts) -> Result<T>) -> Result<T> {
        let number = self.done.len() + 1;
        eprintln!("\n[{number}/{}] {name} · {} so far", self.total, span(self.begun.elapsed()));
        let begun = Instant::now();
        let worked = work(self.interrupts);
        let took = begun.elapsed();
        match worked {
            Ok(value) => {
                eprintln!("[{number}/{}] {name}: {}", self.total, span(took));
                self.done.push((name.to_owned(), took));
                Ok(value)
            }
            Err(trouble) => Err(Trouble::new(format!("{name} failed after {}: {trouble}", span(took)))),
        }
    }

    /// What each step took, once all are done.
    pub(crate) fn tell(&self) {
        let width = self.done.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        eprintln!();
        for (name, took) in &self.done {
            eprintln!("  {name:width$}  {:>12}", span(*took));
        }
        eprintln!("  {:width$}  {:>12}", "all", span(self.begun.elapsed()));
    }
}

/// Runs one command to its end; a signal to us ends it too.
pub(crate) fn execute(interrupts: &Interrupts, command: &mut Command) -> Result {
    let shown = show(command);
    eprintln!("      {shown}");
    let mut charge = Charge::start("the step", command.stdin(Stdio::null()), GRACE)?;
    let status = interrupts.until(|| charge.ended()).ok_or_else(Interrupts::interrupted)?;
    if status.success() {
        Ok(())
    } else {
        Err(Trouble::new(format!("{status}; type `{shown}` to see it again")))
    }
}

fn capture(interrupts: &Interrupts, command: &mut Command) -> Result<String> {
    use std::io::Read as _;
    let shown = show(command);
    eprintln!("      {shown}");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut charge = Charge::start("the step", command, GRACE)?;
    let mut stdout = charge.child().stdout.take().expect("it was piped");
    let reader = std::thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    });
    let status = interrupts.until(|| charge.ended()).ok_or_else(Interrupts::interrupted)?;
    if !status.success() {
        return Err(Trouble::new(format!("{status}; type `{shown}` to see it again")));
    }
    match reader.join() {
        Ok(Ok(output)) => Ok(output),
        _ => Err(Trouble::new(format!("the output of `{shown}` cannot be read"))),
    }
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy());
    let mut shown: Vec<String> =
        words.map(|word| if word.contains(' ') { format!("'{word}'") } else { word.into() }).collect();
    // Cargo tells us its own path; nobody types that.
    if let Some(program) = shown.first_mut().filter(|program| program.ends_with("/cargo")) {
        "cargo".clone_into(program);
    }
    shown.join(" ")
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let cases =
            [(0, "0.0 s"), (450, "0.5 s"), (9_999, "10.0 s"), (10_000, "10 s"), (185_000, "3 min 05 s")];
        for (ms, text) in cases {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--workspace", "a name"]);
        assert_eq!(show(&command), "cargo test --workspace 'a name'");
    }

    #[test]
    fn a_step_that_fails_says_what_to_type() {
        let interrupts = Interrupts::listen().unwrap();
        let mut steps = Steps::new(&interrupts, 2);
        steps.run("the good one", &mut Command::new("true")).unwrap();
        let trouble = steps.run("the bad one", &mut Command::new("false")).unwrap_err().to_string();
        assert!(trouble.starts_with("the bad one failed after 0."), "{trouble}");
        assert!(trouble.ends_with("type `false` to see it again"), "{trouble}");
        let output = steps.run_for_output("the last", Command::new("echo").arg("hello")).unwrap();
        assert_eq!(output, "hello\n");
    }
}
