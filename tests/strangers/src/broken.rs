//! Broken: what nobody would write by hand. Cut off, random, or large.

use std::fmt::Write as _;

use crate::text;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MIB: usize = 1 << 20;

/// The first half of a good one.
pub(crate) fn truncated() -> Vec<u8> {
    let mut good = crate::good();
    good.truncate(good.len() / 2);
    good
}

pub(crate) fn random() -> Vec<u8> {
    noise(50 * MIB)
}

/// It looks like a component for eight bytes.
pub(crate) fn random_component() -> Vec<u8> {
    [COMPONENT, &noise(50 * MIB)].concat()
}

pub(crate) fn core_module() -> Vec<u8> {
    text::assemble("core-module", ";; === whole\n(module)")
}

/// 100,000 resources that no host has.
pub(crate) fn many_imports() -> Vec<u8> {
    let mut imports = leb(100_000);
    for n in 0..100_000 {
        let name = format!("f{n}");
        imports.push(0);
        imports.extend(leb(name.len()));
        imports.extend(name.as_bytes());
        // A type that is a resource.
        imports.extend([3, 1]);
    }
    let mut component = crate::good();
    section(&mut component, 10, &imports);
    component
}

pub(crate) fn many_exports() -> Vec<u8> {
    with_module(&module(&vec![EMPTY.to_vec(); 100_000], true))
}

pub(crate) fn many_functions() -> Vec<u8> {
    with_module(&module(&vec![EMPTY.to_vec(); 400_000], false))
}

/// 4 MiB of code in which each step needs all that came before it.
pub(crate) fn giant_function() -> Vec<u8> {
    with_module(&module(&[giant(4 * MIB)], false))
}

/// 40,000 variables. With branches between them they take a compiler minutes.
pub(crate) fn many_locals() -> Vec<u8> {
    // 40,000 of type i32; `end`.
    let mut body = vec![1];
    body.extend(leb(40_000));
    body.extend([0x7f, 0x0b]);
    with_module(&module(&[body], false))
}

/// Each is within what a function may have.
pub(crate) fn many_giants() -> Vec<u8> {
    with_module(&module(&vec![giant(MIB / 4); 200], false))
}

/// Lists of lists of lists: deeper than a type may be.
pub(crate) fn deep_types() -> Vec<u8> {
    let deeper = (1..500).fold("(type $t0 (list u8))".to_owned(), |mut text, n| {
        let _ = writeln!(text, "(type $t{n} (list $t{}))", n - 1);
        text
    });
    text::assemble("deep-types", &format!(";; === more\n{deeper}"))
}

// === modules, byte by byte: as text they would be a hundred times as long ===

/// The body of a function that does nothing: no locals, `end`.
const EMPTY: &[u8] = &[0, 0x0b];

/// A body of about so many bytes: `local.get 0`, and then again and again `local.get 0`, `i32.add`, `local.tee 0`.
fn giant(bytes: usize) -> Vec<u8> {
    let mut body = vec![0, 0x20, 0];
    (0..bytes / 5).for_each(|_| body.extend([0x20, 0, 0x6a, 0x22, 0]));
    body.extend([0x1a, 0x0b]);
    body
}

/// Functions that take a number and return nothing.
fn module(bodies: &[Vec<u8>], exported: bool) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 1, 0x7f, 0]);
    let mut functions = leb(bodies.len());
    functions.extend(vec![0; bodies.len()]);
    section(&mut module, 3, &functions);
    if exported {
        let mut exports = leb(bodies.len());
        for n in 0..bodies.len() {
            let name = format!("f{n}");
            exports.extend(leb(name.len()));
            exports.extend(name.as_bytes());
            exports.push(0);
            exports.extend(leb(n));
        }
        section(&mut module, 7, &exports);
    }
    let mut code = leb(bodies.len());
    for body in bodies {
        code.extend(leb(body.len()));
        code.extend(body);
    }
    section(&mut module, 10, &code);
    module
}

/// A good component that also has this module, and does nothing with it: it is compiled all the same.
fn with_module(module: &[u8]) -> Vec<u8> {
    let mut component = crate::good();
    section(&mut component, 1, module);
    component
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    out.extend(leb(content.len()));
    out.extend(content);
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit into a byte");
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// The same bytes each time (xorshift).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..bytes / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}
