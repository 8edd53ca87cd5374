//! Strangers: hostile components. One table: what each does, the word in which it must end, and within what budget.
//!
//! Most are text, one file each in `components`, that has only what is wrong; `shell.wat` and `usual.wat` have the
//! rest. What is too large or too broken to write by hand is generated. The tests of the host run each alone, the
//! tests of the whole run them all at once beside a good handler.

mod broken;
mod text;

/// One hostile component.
pub struct Stranger {
    /// A handler's name and a file's.
    pub name: &'static str,
    source: Source,
    pub end: End,
    /// `limits.timeout` of its handler, in milliseconds.
    pub timeout_ms: u64,
    /// `limits.memory` of its handler.
    pub memory_mib: u64,
}

/// The word in which it ends. Kind and blame as the history writes them; `says` is in the reason.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It does not load.
    Refused { says: &'static str },
    /// Each attempt fails.
    Failed { kind: &'static str, blame: &'static str, says: &'static str },
    /// What it tries hurts nobody.
    Done,
}

#[derive(Clone, Copy)]
enum Source {
    Text(&'static str),
    Made(fn() -> Vec<u8>),
}

impl Stranger {
    /// The file, as an operator would be given it.
    pub fn component(&self) -> Vec<u8> {
        match self.source {
            Source::Text(text) => text::assemble(self.name, text),
            Source::Made(make) => make(),
        }
    }

    pub fn loads(&self) -> bool {
        !matches!(self.end, End::Refused { .. })
    }

    /// It ends when its time does.
    pub fn runs_on(&self) -> bool {
        matches!(self.end, End::Failed { kind: "timeout", .. })
    }
}

/// A well-behaved component of the same make, for comparison: it answers `done`.
pub fn good() -> Vec<u8> {
    text::assemble("good", "")
}

/// Of one that ends by its own doing. Generous: machines of tests are busy.
const PATIENT_MS: u64 = 20_000;
/// Of one that only its time ends.
const SHORT_MS: u64 = 500;
const MEMORY_MIB: u64 = 64;

macro_rules! text {
    ($name:literal, $end:expr) => {
        Stranger {
            name: $name,
            source: Source::Text(include_str!(concat!("../components/", $name, ".wat"))),
            end: $end,
            timeout_ms: if matches!($end, End::Failed { kind: "timeout", .. }) {
                SHORT_MS
            } else {
                PATIENT_MS
            },
            memory_mib: MEMORY_MIB,
        }
    };
}

fn made(name: &'static str, make: fn() -> Vec<u8>, says: &'static str) -> Stranger {
    let end = End::Refused { says };
    Stranger { name, source: Source::Made(make), end, timeout_ms: PATIENT_MS, memory_mib: MEMORY_MIB }
}

const fn traps(says: &'static str) -> End {
    End::Failed { kind: "trap", blame: "plugin", says }
}

const fn fails(kind: &'static str, says: &'static str) -> End {
    End::Failed { kind, blame: "plugin", says }
}

const fn refused(says: &'static str) -> End {
    End::Refused { says }
}

/// Ends with its time.
const RUNS_ON: End = fails("timeout", "not done within 500 ms: the handler was still running");
const NO_ROOM: End = fails("memory", "needs more than 64 MiB of memory; raise handlers.");
const TOO_MUCH_AT_ONCE: End = traps("hands over more than 8 MiB in one call");

/// Every one of them.
pub fn all() -> Vec<Stranger> {
    let mut all = running_on();
    all.extend(growing());
    all.extend(breaking_the_contract());
    all.extend(flooding());
    all.extend(not_loading());
    all.extend(generated());
    all
}

fn running_on() -> Vec<Stranger> {
    vec![
        text!("endless-loop", RUNS_ON),
        text!("loop-in-start", refused("describe() failed: not done within 1000 ms")),
        text!("loop-in-start-once-bound", RUNS_ON),
        text!("loop-in-describe", refused("describe() failed: not done within 1000 ms")),
        text!("loop-in-realloc", RUNS_ON),
        text!("loop-in-post-return", RUNS_ON),
        text!("memory-fill", RUNS_ON),
        text!("deep-recursion", traps("call stack exhausted")),
        text!("recursion-in-realloc", traps("call stack exhausted")),
        text!("trap-in-post-return", traps("unreachable")),
    ]
}

fn growing() -> Vec<Stranger> {
    vec![
        text!("memory-bomb", NO_ROOM),
        text!("slow-drip", RUNS_ON),
        text!("table-bomb", fails("memory", "needs more than 20000 elements in its tables")),
        text!("memory-declared", refused("describe() failed: needs more than 64 MiB of memory")),
        text!("memory-over-the-cap", refused("has 2048 MiB of memory to start with; at most 1024")),
        text!(
            "many-memories",
            refused("contains 21 Wasm linear memories, which exceeds the configured maximum of 8")
        ),
        text!(
            "tables-that-add-up",
            refused("describe() failed: needs more than 20000 elements in its tables")
        ),
        text!(
            "many-instances",
            refused("203 core module instances, which exceeds the configured maximum of 128")
        ),
    ]
}

fn breaking_the_contract() -> Vec<Stranger> {
    vec![
        text!("realloc-outside", traps("realloc return: beyond end of memory")),
        text!("realloc-unaligned", traps("realloc return: result not aligned")),
        text!("realloc-overlapping", End::Done),
        text!("realloc-calls-host", traps("cannot leave component instance")),
        text!("return-outside", traps("pointer out of bounds of memory")),
        text!("return-unaligned", traps("return pointer not aligned")),
        text!("return-unheard-of", traps("invalid")),
        text!("huge-return", TOO_MUCH_AT_ONCE),
        text!("text-not-utf8", traps("utf-8")),
        text!("level-unheard-of", traps("discriminant")),
        text!("fields-outside", traps("out of bounds of memory")),
        text!("log-line-outside", traps("out of bounds of memory")),
        text!("trap-in-a-call", traps("unreachable")),
    ]
}

fn flooding() -> Vec<Stranger> {
    vec![
        text!("host-calls", End::Failed { kind: "reject", blame: "plugin", says: "no more" }),
        text!("headers-without-end", End::Failed { kind: "reject", blame: "plugin", says: "no more" }),
        Stranger { memory_mib: 1024, ..text!("log-line-of-a-gib", TOO_MUCH_AT_ONCE) },
        text!("log-without-end", RUNS_ON),
        text!("fields-amplified", TOO_MUCH_AT_ONCE),
        text!("print-without-end", RUNS_ON),
        text!("zeroes-gib", traps("cannot write more zeroes than `check_write` allows")),
        text!("state-without-end", RUNS_ON),
        text!("settings-without-end", RUNS_ON),
        text!("random-gib", traps("")),
        text!("random-without-end", RUNS_ON),
        text!("handles-without-end", traps("")),
        text!("poll-a-crowd", traps("handle limit exceeded")),
    ]
}

fn not_loading() -> Vec<Stranger> {
    vec![
        text!(
            "imports-of-tomorrow",
            refused(
                "imports what this host does not have: wasi:http/outgoing-handler@0.3.0, longshore:plugin/queue@0.1.0"
            )
        ),
        text!("huge-manifest", refused("describe() failed: hands over more than 8 MiB in one call")),
        text!("manifest-of-a-crowd", refused("more than 128 events")),
        text!("no-handler", refused("it is not a Longshore plugin")),
    ]
}

fn generated() -> Vec<Stranger> {
    vec![
        made("truncated", broken::truncated, "does not compile"),
        made("random-50-mib", broken::random, "is no WebAssembly component"),
        made("random-component-50-mib", broken::random_component, "does not compile"),
        made("core-module", broken::core_module, "is a core module, not a component"),
        made("empty", Vec::new, "is empty"),
        made("many-imports", broken::many_imports, "and 99980 more"),
        made("many-exports", broken::many_exports, "functions; at most 50000"),
        made("many-functions", broken::many_functions, "functions; at most 50000"),
        made("giant-function", broken::giant_function, "in one function; at most"),
        made("many-locals", broken::many_locals, "has 40000 variables in one function; at most"),
        made("many-giants", broken::many_giants, "of code; at most"),
        made("deep-types", broken::deep_types, "does not compile"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_in_the_table_and_every_component_is_made() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("components");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let all = all();
        let named: BTreeSet<String> = all
            .iter()
            .filter(|stranger| matches!(stranger.source, Source::Text(_)))
            .map(|stranger| stranger.name.to_owned())
            .collect();
        assert_eq!(files, named);
        let names: BTreeSet<&str> = all.iter().map(|stranger| stranger.name).collect();
        assert_eq!(names.len(), all.len(), "a name is there twice");
        assert!(all.len() >= 48, "{}", all.len());
        for stranger in all.iter().filter(|stranger| stranger.name != "empty") {
            assert!(!stranger.component().is_empty(), "{}", stranger.name);
        }
        assert!(good().starts_with(b"\0asm\x0d\0\x01\0"));
    }
}
