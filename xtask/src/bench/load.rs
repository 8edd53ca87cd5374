//! Load: one run of the load generator, with somebody looking on.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::site::Site;
use crate::charge::Charge;
use crate::{OrTrouble as _, Result, Trouble};

#[derive(Clone, Default)]
pub(super) struct Load {
    pub(super) connections: u32,
    pub(super) seconds: f64,
    pub(super) warm_up: f64,
    /// Exactly so many events, whatever the time.
    pub(super) events: Option<u64>,
    /// Events a second, at fixed moments; None: as many as are answered.
    pub(super) rate: Option<f64>,
    /// With a rate: events leave together, so many milliseconds apart; 0: each at its own moment.
    pub(super) tick_ms: u32,
    pub(super) body_bytes: Option<usize>,
    /// Trust this certificate and speak TLS.
    pub(super) tls: Option<PathBuf>,
    /// `WEIGHT:PATH:TYPE`.
    pub(super) mix: Vec<String>,
}

/// Looking costs the daemon something: this seldom it does not show.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the generator counted. A wait is in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Loaded(Value);

impl Load {
    pub(super) fn run(&self, site: &Site<'_>, address: &str) -> Result<Loaded> {
        let loaded = self.watched(site, address, || Ok(ControlFlow::Continue(())))?;
        Ok(loaded.expect("nobody broke it off"))
    }

    /// `look` is called a few times a second meanwhile, and may break the run off: then there is no figure.
    pub(super) fn watched(
        &self,
        site: &Site<'_>,
        address: &str,
        mut look: impl FnMut() -> Result<ControlFlow<()>>,
    ) -> Result<Option<Loaded>> {
        let mut command = self.command(site, address);
        let mut charge = Charge::start("the load generator", &mut command, Duration::from_secs(1))?;
        let mut next = Instant::now();
        let ended = site.until(|| {
            if let Some(status) = charge.ended() {
                return Some(Ok(Some(status)));
            }
            if Instant::now() < next {
                return None;
            }
            next += LOOK_EVERY;
            match look() {
                Ok(ControlFlow::Continue(())) => None,
                Ok(ControlFlow::Break(())) => Some(Ok(None)),
                Err(trouble) => Some(Err(trouble)),
            }
        })??;
        let Some(status) = ended else { return Ok(None) };
        let mut said = String::new();
        let stdout = charge.child().stdout.as_mut().expect("it was piped");
        stdout.read_to_string(&mut said).or_trouble("the load generator cannot be read")?;
        if !status.success() {
            return Err(Trouble::new(format!("the load generator ended with {status}")));
        }
        let loaded = serde_json::from_str(&said).or_trouble("the load generator printed no JSON")?;
        Loaded(loaded).without_refusals().map(Some)
    }

    fn command(&self, site: &Site<'_>, address: &str) -> Command {
        let mut command = Command::new(site.program("bench-load"));
        command.arg(address).args(["--connections", &self.connections.to_string()]);
        command.args(["--seconds", &self.seconds.to_string(), "--warm-up", &self.warm_up.to_string()]);
        command.args(["--tick", &self.tick_ms.to_string()]);
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                command.args([flag, &value]);
            }
        };
        add("--events", self.events.map(|n| n.to_string()));
        add("--rate", self.rate.map(|n| n.to_string()));
        add("--body-bytes", self.body_bytes.map(|n| n.to_string()));
        for share in &self.mix {
            add("--mix", Some(share.clone()));
        }
        if let Some(certificate) = &self.tls {
            command.arg("--tls").arg(certificate);
        }
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

impl Loaded {
    fn without_refusals(self) -> Result<Loaded> {
        match self.count("refused") {
            0 => Ok(self),
            refused => Err(Trouble::new(format!(
                "{refused} requests were refused, the first with {}; the figures would mean nothing",
                self.0["first_refusal"]
            ))),
        }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.number("per_second")
    }

    pub(super) fn answered(&self) -> u64 {
        self.count("answered")
    }

    pub(super) fn p99_us(&self) -> f64 {
        self.number("p99_us")
    }

    /// With the processor time that the server took for each event.
    pub(super) fn charged(self, cpu_us: f64) -> Value {
        let each = cpu_us / self.answered().max(1) as f64;
        let mut value = self.0;
        value["server_cpu_us"] = each.into();
        value
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    fn number(&self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap_or(f64::NAN)
    }

    fn count(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_makes_the_figures_worthless() {
        let loaded = |refused| Loaded(serde_json::json!({"refused": refused, "first_refusal": 503}));
        assert!(loaded(0).without_refusals().is_ok());
        let trouble = loaded(1).without_refusals().unwrap_err().to_string();
        assert!(trouble.contains("the first with 503"), "{trouble}");
    }
}
