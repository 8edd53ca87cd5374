//! Size: what a component would cost to compile, from its section headers, before anything is compiled.
//!
//! A compiler's memory and time follow from what it is given: a file of 1.6 MB with 400,000 functions that do nothing
//! took it 1.9 GiB and more than two minutes, one of 200 KB whose one function has 40,000 variables as long; and nobody
//! can call it off. So what is counted here is refused at once.
//! What is wrong with a component otherwise is for the compiler to say.

use wasmparser::{FunctionBody, Parser, Payload};

use crate::words::limits;

/// # Errors
/// In words that follow on `plugin …`.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (mut functions, mut code) = (0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        // Half a component, or none: the compiler says where it breaks off.
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::CodeSectionStart { count, size, .. } => {
                functions += u64::from(count);
                code += u64::from(size);
            }
            Payload::CodeSectionEntry(body) => function(&body)?,
            Payload::MemorySection(memories) => {
                for memory in memories.into_iter().flatten() {
                    let mib = memory.initial.saturating_mul(PAGE) / limits::MIB as u64;
                    let max = limits::GUEST_MEMORY_BYTES_MAX / limits::MIB as u64;
                    within(mib, max, "MiB of memory to start with")?;
                }
            }
            _ => {}
        }
        within(functions, limits::PLUGIN_FUNCTIONS_MAX, "functions")?;
        within(code, limits::PLUGIN_CODE_BYTES_MAX, "bytes of code")?;
    }
    Ok(())
}

const PAGE: u64 = 64 << 10;

fn function(body: &FunctionBody<'_>) -> Result<(), String> {
    let bytes = body.range().len() as u64;
    within(bytes, limits::PLUGIN_FUNCTION_BYTES_MAX, "bytes of code in one function")?;
    let runs = body.get_locals_reader().into_iter().flatten().flatten();
    let locals = runs.map(|(count, _)| u64::from(count)).sum();
    within(locals, limits::PLUGIN_LOCALS_MAX, "variables in one function")
}

fn within(has: u64, max: u64, what: &str) -> Result<(), String> {
    if has <= max { Ok(()) } else { Err(format!("has {has} {what}; at most {max}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_passes_and_what_is_broken_is_left_to_the_compiler() {
        check(&strangers::good()).unwrap();
        check(b"").unwrap();
        check(b"\0asm\x0d\0\x01\0garbage").unwrap();
    }

    #[test]
    fn each_bound_is_reached() {
        let component =
            |name: &str| strangers::all().iter().find(|stranger| stranger.name == name).unwrap().component();
        for (name, refused) in [
            ("many-functions", "functions; at most 50000"),
            ("giant-function", "bytes of code in one function; at most 1048576"),
            ("many-locals", "has 40000 variables in one function; at most 4000"),
            ("many-giants", "bytes of code; at most 33554432"),
            ("memory-over-the-cap", "has 2048 MiB of memory to start with; at most 1024"),
        ] {
            let said = check(&component(name)).unwrap_err();
            assert!(said.contains(refused), "{name}: {said}");
        }
    }
}
