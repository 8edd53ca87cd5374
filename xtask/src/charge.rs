//! A process in our charge: it ends when we do, whatever way we end.
//!
//! It runs in a process group of its own, so that Ctrl-C reaches it through us, once, as a SIGTERM that it can
//! drain at, and not at the same moment as everybody else.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::{OrTrouble as _, Result};

pub(crate) struct Charge {
    name: &'static str,
    child: Child,
    /// From SIGTERM to SIGKILL.
    grace: Duration,
}

impl Charge {
    pub(crate) fn start(name: &'static str, command: &mut Command, grace: Duration) -> Result<Charge> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().or_trouble(format!("`{program}` cannot be started"))?;
        Ok(Charge { name, child, grace })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, and insists after the grace.
    fn end(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + self.grace;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                eprintln!("xtask: {} did not end within {} s; killing it", self.name, self.grace.as_secs());
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            eprintln!("xtask: {} (process {}) may still run: {e}", self.name, self.child.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    use super::*;

    /// A shell that says when it is ready, so that no signal comes before its trap is set.
    fn shell(script: &str, grace: Duration) -> (Charge, Pid) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut charge = Charge::start("the shell", &mut command, grace).unwrap();
        let stdout = charge.child().stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = Pid::from_child(charge.child());
        (charge, pid)
    }

    fn lives(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn a_process_in_our_charge_ends_with_it() {
        let (charge, pid) = shell("echo ready; read forever", Duration::from_secs(30));
        assert!(lives(pid));
        drop(charge);
        assert!(!lives(pid));
    }

    #[test]
    fn one_that_will_not_end_is_killed_after_the_grace() {
        let (charge, pid) = shell("trap '' TERM; echo ready; read forever", Duration::from_millis(100));
        drop(charge);
        assert!(!lives(pid));
    }

    #[test]
    fn how_it_ended_is_known() {
        let (mut charge, _) = shell("echo ready; exit 7", Duration::from_secs(30));
        charge.child().wait().unwrap();
        assert_eq!(charge.ended().and_then(|status| status.code()), Some(7));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let missing = Charge::start("nobody", &mut Command::new("/no/such/program"), Duration::ZERO);
        let trouble = missing.err().unwrap().to_string();
        assert!(trouble.starts_with("`/no/such/program` cannot be started: "), "{trouble}");
    }
}
