//! Form: the pairs of a form or a query as bytes. Nothing is replaced where it is not UTF-8: two spellings never
//! become one value.

use crate::words::limits::FORM_FIELDS_MAX;

/// One field, decoded.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// Every pair, in the order in which it stands there. The error is in words.
pub(super) fn pairs(text: &[u8]) -> Result<Vec<Pair>, String> {
    let fields = text.split(|byte| *byte == b'&').filter(|field| !field.is_empty());
    let mut pairs = Vec::new();
    for field in fields {
        if pairs.len() == FORM_FIELDS_MAX {
            return Err(format!("more than {FORM_FIELDS_MAX} fields"));
        }
        let (name, value) = match field.iter().position(|byte| *byte == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &[][..]),
        };
        pairs.push((decoded(name), decoded(value)));
    }
    Ok(pairs)
}

/// The one value of a name; an error where it is there twice.
pub(super) fn one<'p>(pairs: &'p [Pair], name: &str) -> Result<Option<&'p [u8]>, String> {
    let mut found = pairs.iter().filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice());
    let first = found.next();
    if found.next().is_some() {
        return Err(format!("`{name}` is there more than once"));
    }
    Ok(first)
}

/// `+` is a space, `%41` a byte; a `%` without two hex digits is itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'+', ..) => bytes.push(b' '),
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                at += 2;
            }
            (byte, ..) => bytes.push(byte),
        }
        at += 1;
    }
    bytes
}

/// RFC 3986: only letters, digits, `-`, `.`, `_` and `~` stay as they are.
pub(super) fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(name: &str, value: &[u8]) -> Pair {
        (name.as_bytes().to_vec(), value.to_vec())
    }

    #[test]
    fn pairs_are_decoded_to_bytes_and_keep_their_order() {
        assert_eq!(
            pairs(b"b=1+2&a=%C3%A9&&c&a=%FF&d=%4&e=%zz&=x").unwrap(),
            [
                pair("b", b"1 2"),
                pair("a", "é".as_bytes()),
                pair("c", b""),
                pair("a", b"\xff"),
                pair("d", b"%4"),
                pair("e", b"%zz"),
                pair("", b"x"),
            ]
        );
        assert_eq!(pairs(b"").unwrap(), []);
    }

    #[test]
    fn a_form_has_a_bounded_number_of_fields() {
        assert_eq!(pairs("a=&".repeat(FORM_FIELDS_MAX).as_bytes()).unwrap().len(), FORM_FIELDS_MAX);
        assert!(pairs("a=&".repeat(FORM_FIELDS_MAX + 1).as_bytes()).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_name_that_is_there_twice_has_no_value() {
        let pairs = pairs(b"a=1&b=2&b=2").unwrap();
        assert_eq!(one(&pairs, "a"), Ok(Some(&b"1"[..])));
        assert_eq!(one(&pairs, "c"), Ok(None));
        assert!(one(&pairs, "b").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_encoded_decodes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(decoded(percent_encoded(&bytes).as_bytes()), bytes);
        }
    }
}
