//! Text: from a stranger's file to a component.
//!
//! A file is cut by lines `;; === PART`. Parts: `memory`, `describe` and `code` are core modules' insides, `host` and
//! `more` stand in the component itself, `whole` is all of it.

const SHELL: &str = include_str!("../shell.wat");
const USUAL: &str = include_str!("../usual.wat");

/// What of the host a stranger's code may import: the functions of each file in `host`.
const HOST: [(&str, &[&str]); 6] = [
    (include_str!("../host/log.wat"), &["log"]),
    (include_str!("../host/all.wat"), &["all"]),
    (include_str!("../host/set.wat"), &["set"]),
    (include_str!("../host/send.wat"), &["send"]),
    (include_str!("../host/random.wat"), &["random"]),
    (include_str!("../host/stdout.wat"), &["stdout", "subscribe", "write-zeroes", "print", "poll"]),
];

/// # Panics
/// Where the text is wrong, with its place.
pub(crate) fn assemble(name: &str, text: &str) -> Vec<u8> {
    let whole = part(text, "whole").unwrap_or_else(|| in_shell(text));
    wat::parse_str(&whole).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn in_shell(text: &str) -> String {
    let or_usual = |name: &str| part(text, name).or_else(|| part(USUAL, name)).unwrap_or_default();
    let code = or_usual("code");
    let post_return =
        if code.contains("\"post-return\"") { "(post-return (core func $code \"post-return\"))" } else { "" };
    let host = part(text, "host").unwrap_or_default() + &host(&code);
    [
        ("memory", or_usual("memory")),
        ("describe", or_usual("describe")),
        ("post-return", post_return.to_owned()),
        ("more", part(text, "more").unwrap_or_default()),
        ("host", host),
        ("code", code),
    ]
    .iter()
    .fold(SHELL.to_owned(), |shell, (name, text)| shell.replace(&format!("{{{{{name}}}}}"), text.trim_end()))
}

/// The imports that the code asks for, and the instance that hands them to it.
fn host(code: &str) -> String {
    let asks = |functions: &[&str]| functions.iter().any(|f| code.contains(&format!("\"host\" \"{f}\"")));
    let asked = || HOST.iter().filter(|(_, functions)| asks(functions));
    let imports: String = asked().map(|(text, _)| *text).collect();
    let exports: String = asked()
        .flat_map(|(_, functions)| *functions)
        .map(|function| format!(" (export \"{function}\" (func ${function}))"))
        .collect();
    format!("{imports}  (core instance $host{exports})\n")
}

fn part(text: &str, name: &str) -> Option<String> {
    let mark = format!(";; === {name}\n");
    let (_, rest) = text.split_once(&mark)?;
    let end = rest.find(";; === ").unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
