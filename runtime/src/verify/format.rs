//! Format: how a header holds its signatures, read on the way in and written on the way out.
//!
//! A candidate is decoded to the proof's exact length and only then compared; one that does not decode is
//! skipped, so that an unknown version beside a good signature does no harm.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD, URL_SAFE_PAD_INDIFFERENT};

use super::extract::Place;
use super::mac::{self, Candidate, Proof};
use super::{Refused, Request};

/// Where the signatures are and how they are written.
#[derive(Debug)]
pub(super) struct Signature {
    /// At least one.
    pub(super) from: Vec<Place>,
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    /// The item that holds the timestamp: its key, or its position.
    pub(super) stamp_field: Option<String>,
    /// Between groups that each have a timestamp and signatures of their own.
    pub(super) groups: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Prefixed(String),
    List(Items),
    Fields(Items),
    Positional { separator: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) separator: String,
    /// None: a list of bare signatures.
    pub(super) assign: Option<String>,
    /// None: any key.
    pub(super) key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
    Base64Url,
    /// A token is itself.
    Token,
    /// `Basic `, then user and password in base64.
    Basic,
}

/// What belongs together: signatures, and the timestamp that they were made with.
#[derive(Default)]
pub(super) struct Group {
    pub(super) candidates: Vec<Candidate>,
    pub(super) stamp: Option<String>,
    /// Candidates, those too that do not decode.
    seen: usize,
}

/// Nearly every scheme has one group, which then costs no list.
#[derive(Default)]
pub(super) struct Read {
    pub(super) first: Group,
    pub(super) others: Vec<Group>,
}

impl Read {
    fn add(&mut self, mut group: Group) {
        group.seen += self.first.seen;
        self.first.seen = group.seen;
        if self.first.candidates.is_empty() {
            self.first = group;
        } else if !group.candidates.is_empty() {
            self.others.push(group);
        }
    }
}

// === reading ===

impl Signature {
    /// Every candidate of every place, and the timestamp where the signature holds it.
    pub(super) fn read(&self, request: &Request<'_>, proof: Proof) -> Result<Read, Refused> {
        let mut read = Read::default();
        let mut is_there = false;
        for place in &self.from {
            let mut gather = |text: &str| {
                is_there = true;
                self.gather(text, proof, &mut read)
            };
            let done = match (&self.format, place) {
                (Format::List(_), _) => {
                    place.find_all(request).and_then(|lines| lines.iter().try_for_each(|text| gather(text)))
                }
                (_, Place::Numbered { .. }) => {
                    place.find_each(request).and_then(|found| found.iter().try_for_each(|text| gather(text)))
                }
                _ => place.find(request).and_then(|text| text.map_or(Ok(()), |text| gather(&text))),
            };
            done.map_err(Refused::Malformed)?;
        }
        let first = &self.from[0];
        match (is_there, read.first.seen, read.first.candidates.len()) {
            (false, ..) => Err(Refused::NoSignature(first.to_string())),
            (true, 0, _) => Err(Refused::Malformed(format!("{first} holds no {}", self.expected()))),
            (true, _, 0) => {
                let (least, most) = proof.lengths();
                let bytes = if least == most { least.to_string() } else { format!("{least} to {most}") };
                let encoding = self.encoding.name();
                Err(Refused::Malformed(format!("{first} holds nothing that is {bytes} bytes of {encoding}")))
            }
            _ => Ok(read),
        }
    }

    fn gather(&self, text: &str, proof: Proof, read: &mut Read) -> Result<(), String> {
        let Some(separator) = &self.groups else {
            return self.split(text, proof, &mut read.first);
        };
        for part in split(text, separator).filter(|part| !part.is_empty()) {
            let mut group = Group::default();
            self.split(part, proof, &mut group)?;
            read.add(group);
            self.check_seen(proof, &read.first)?;
        }
        Ok(())
    }

    fn split(&self, text: &str, proof: Proof, group: &mut Group) -> Result<(), String> {
        match &self.format {
            Format::Raw => self.candidate(text, proof, group),
            Format::Prefixed(prefix) => match text.strip_prefix(prefix.as_str()) {
                Some(rest) => self.candidate(rest, proof, group),
                None => Ok(()),
            },
            Format::List(items) | Format::Fields(items) => {
                items.of(text).try_for_each(|item| self.item(items, item, proof, group))
            }
            Format::Positional { separator } => split(text, separator)
                .enumerate()
                .try_for_each(|(at, item)| self.field(&at.to_string(), item, proof, group)),
        }
    }

    /// One `key=value`; an item without `=` is skipped, like one with a key that nobody asked for.
    fn item(&self, items: &Items, item: &str, proof: Proof, group: &mut Group) -> Result<(), String> {
        let Some(assign) = &items.assign else { return self.candidate(item, proof, group) };
        match cut(item, assign) {
            Some((key, value)) if self.is_stamp(key) || items.wants(key) => {
                self.field(key, value, proof, group)
            }
            _ => Ok(()),
        }
    }

    fn field(&self, key: &str, value: &str, proof: Proof, group: &mut Group) -> Result<(), String> {
        if !self.is_stamp(key) {
            return self.candidate(value, proof, group);
        }
        match &group.stamp {
            Some(stamp) if stamp != value => Err(format!("`{key}` is there twice with different values")),
            Some(_) => Ok(()),
            None => {
                group.stamp = Some(value.to_owned());
                Ok(())
            }
        }
    }

    fn is_stamp(&self, key: &str) -> bool {
        self.stamp_field.as_deref() == Some(key)
    }

    fn candidate(&self, text: &str, proof: Proof, group: &mut Group) -> Result<(), String> {
        group.seen += 1;
        self.check_seen(proof, group)?;
        group.candidates.extend(self.encoding.decode(text, proof));
        Ok(())
    }

    fn check_seen(&self, proof: Proof, group: &Group) -> Result<(), String> {
        let most = proof.candidates_max();
        if group.seen > most { Err(format!("more than {most} signatures")) } else { Ok(()) }
    }

    /// What the operator would look for in the header.
    fn expected(&self) -> String {
        match &self.format {
            Format::Prefixed(prefix) => format!("signature that begins with `{prefix}`"),
            Format::List(Items { assign: Some(assign), key: Some(key), .. })
            | Format::Fields(Items { assign: Some(assign), key: Some(key), .. }) => {
                format!("signature under `{key}{assign}`")
            }
            _ => "signature".into(),
        }
    }
}

impl Items {
    fn of<'t>(&'t self, text: &'t str) -> impl Iterator<Item = &'t str> {
        // Nothing between two separators is no item: two spaces separate as one does.
        split(text, &self.separator).filter(|item| !item.is_empty())
    }

    fn wants(&self, key: &str) -> bool {
        self.key.as_deref().is_none_or(|wanted| wanted == key)
    }
}

/// Proxies that fold header lines put a space after a comma; it belongs to no item.
fn split<'t>(text: &'t str, separator: &'t str) -> impl Iterator<Item = &'t str> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let text = left?;
        let item = match cut(text, separator) {
            Some((item, behind)) => {
                left = Some(behind);
                item
            }
            None => {
                left = None;
                text
            }
        };
        Some(item.trim_matches([' ', '\t']))
    })
}

/// As `str::split_once`, whose search for a text is set up at a cost that a header of a hundred bytes does not earn.
/// Nearly every separator is one byte.
fn cut<'t>(text: &'t str, separator: &str) -> Option<(&'t str, &'t str)> {
    match separator.as_bytes() {
        [byte] => text.split_once(char::from(*byte)),
        _ => text.split_once(separator),
    }
}

impl Encoding {
    /// Exactly the proof's length in the one spelling that the encoding has for its bytes, or None. Base64 without
    /// its padding, or with bits behind the last byte, would be a second spelling; hex has its two cases.
    fn decode(self, text: &str, proof: Proof) -> Option<Candidate> {
        match (self, proof) {
            (Encoding::Token, _) => Some(Candidate::Mac(mac::Bytes::of_token(text.as_bytes()))),
            (Encoding::Basic, _) => credentials(text).map(|pair| Candidate::Mac(mac::Bytes::of_token(&pair))),
            (_, Proof::Public(_)) => {
                let (least, most) = proof.lengths();
                let is_short = text.len() <= 2 * most;
                let bytes = is_short.then(|| self.decode_any(text)).flatten()?;
                (least..=most).contains(&bytes.len()).then_some(Candidate::Signature(bytes))
            }
            _ => self.decode_exactly(text, proof.lengths().0).map(Candidate::Mac),
        }
    }

    fn decode_exactly(self, text: &str, len: usize) -> Option<mac::Bytes> {
        // Room for what base64 may write; no text longer than this holds a proof.
        let mut buffer = [0; mac::PROOF_BYTES_MAX + 32];
        if text.len() > 2 * mac::PROOF_BYTES_MAX {
            return None;
        }
        let written = match self {
            Encoding::Hex => decode_hex(text.as_bytes(), buffer.get_mut(..len)?).map(|()| len),
            Encoding::Base64 => STANDARD.decode_slice(text, &mut buffer).ok(),
            Encoding::Base64Url => URL_SAFE_PAD_INDIFFERENT.decode_slice(text, &mut buffer).ok(),
            Encoding::Token | Encoding::Basic => None,
        }?;
        if written == len { mac::Bytes::new(&buffer[..len]) } else { None }
    }

    fn decode_any(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => STANDARD.decode(text).ok(),
            Encoding::Base64Url => URL_SAFE_PAD_INDIFFERENT.decode(text).ok(),
            Encoding::Token | Encoding::Basic => None,
        }
    }

    pub(super) fn encode(self, proof: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(proof),
            Encoding::Base64 => STANDARD.encode(proof),
            Encoding::Base64Url => URL_SAFE_NO_PAD.encode(proof),
            Encoding::Token => String::from_utf8_lossy(proof).into_owned(),
            Encoding::Basic => format!("Basic {}", STANDARD.encode(proof)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
            Encoding::Base64Url => "base64url",
            Encoding::Token => "text",
            Encoding::Basic => "`Basic ` and base64",
        }
    }
}

/// User and password out of `Basic dXNlcjpwYXNz`. The word's case is free (RFC 9110, 11.1).
fn credentials(text: &str) -> Option<Vec<u8>> {
    let (word, rest) = text.split_once(' ')?;
    let pair = STANDARD.decode(rest.trim_start_matches(' ')).ok()?;
    word.eq_ignore_ascii_case("basic").then_some(pair)
}

/// As `hex::decode_to_slice`, at a quarter of its steps: every request has one to decode.
fn decode_hex(text: &[u8], into: &mut [u8]) -> Option<()> {
    const NO_DIGIT: u8 = 0xff;
    const VALUES: [u8; 256] = {
        let mut values = [NO_DIGIT; 256];
        let mut value = 0;
        while value < 16 {
            values[b"0123456789abcdef"[value] as usize] = value as u8;
            values[b"0123456789ABCDEF"[value] as usize] = value as u8;
            value += 1;
        }
        values
    };
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    if pairs.len() != into.len() {
        return None;
    }
    let mut all = 0;
    for (byte, [high, low]) in into.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < 16).then_some(())
}

// === writing ===

impl Signature {
    /// The header's value for one encoded signature.
    pub(super) fn write(&self, signature: &str, stamp: Option<&str>) -> String {
        match &self.format {
            Format::Raw => signature.to_owned(),
            Format::Prefixed(prefix) => format!("{prefix}{signature}"),
            Format::List(items) | Format::Fields(items) => self.write_items(items, signature, stamp),
            Format::Positional { separator } => {
                let position = self.stamp_field.as_deref().and_then(|field| field.parse().ok());
                let mut items = vec![signature; position.unwrap_or(0).max(1)];
                if let (Some(position), Some(stamp)) = (position, stamp) {
                    items.insert(position, stamp);
                }
                items.join(separator)
            }
        }
    }

    fn write_items(&self, items: &Items, signature: &str, stamp: Option<&str>) -> String {
        let Some(assign) = &items.assign else { return signature.to_owned() };
        let key = items.key.as_deref().unwrap_or("v1");
        let signature = format!("{key}{assign}{signature}");
        match (&self.stamp_field, stamp) {
            (Some(field), Some(stamp)) => format!("{field}{assign}{stamp}{}{signature}", items.separator),
            _ => signature,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use subtle::ConstantTimeEq;

    use super::*;
    use crate::words::limits::{PUBLIC_KEY_CANDIDATES_MAX, SIGNATURE_CANDIDATES_MAX};

    const ZEROS: &str = "0000000000000000000000000000000000000000";
    const ONES: &str = "1111111111111111111111111111111111111111";

    fn fields(key: Option<&str>) -> Format {
        Format::Fields(Items { separator: ",".into(), assign: Some("=".into()), key: key.map(Into::into) })
    }

    fn signature(format: Format, stamp_field: Option<&str>) -> Signature {
        Signature {
            from: vec![Place::parse("header:X-Sig").unwrap(), Place::parse("header:X-Sig-2").unwrap()],
            format,
            encoding: Encoding::Hex,
            stamp_field: stamp_field.map(Into::into),
            groups: None,
        }
    }

    const PROOF: Proof = Proof::Hmac(mac::Hash::Sha1);

    fn read(signature: &Signature, lines: &[(&'static str, &str)]) -> Result<Read, Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let request = Request { method: "POST", url: "", query: None, headers: &headers, body: b"" };
        signature.read(&request, PROOF)
    }

    fn found(signature: &Signature, value: &str) -> (usize, Option<String>) {
        let read = read(signature, &[("x-sig", value)]).unwrap();
        (read.first.candidates.len(), read.first.stamp)
    }

    #[test]
    fn hex_is_decoded_as_the_crate_does() {
        let texts = ["", "0", "00", "fF09", "0g", "g0", "0\u{e9}", "00 ", " 00", "+1", "0x", "00ff00"];
        for text in texts {
            for len in 0..4 {
                let (mut ours, mut theirs) = ([0; 4], [0; 4]);
                let good = decode_hex(text.as_bytes(), &mut ours[..len]).is_some();
                assert_eq!(
                    good,
                    hex::decode_to_slice(text, &mut theirs[..len]).is_ok(),
                    "{text:?} into {len}"
                );
                assert!(!good || ours == theirs, "{text:?}");
            }
        }
    }

    fn refusal(signature: &Signature, lines: &[(&'static str, &str)]) -> String {
        read(signature, lines).err().unwrap().to_string()
    }

    #[test]
    fn every_format_reads_what_it_writes() {
        let list = Items { separator: " ".into(), assign: Some(",".into()), key: Some("v1".into()) };
        let bare = Items { separator: ",".into(), assign: None, key: None };
        let positional = || Format::Positional { separator: ",".into() };
        for (format, field, expected) in [
            (Format::Raw, None, ZEROS.to_owned()),
            (Format::Prefixed("sha1=".into()), None, format!("sha1={ZEROS}")),
            (Format::List(list), None, format!("v1,{ZEROS}")),
            (Format::List(bare), None, ZEROS.to_owned()),
            (fields(Some("v1")), Some("t"), format!("t=17,v1={ZEROS}")),
            (positional(), Some("0"), format!("17,{ZEROS}")),
            (positional(), Some("1"), format!("{ZEROS},17")),
        ] {
            let signature = signature(format, field);
            let written = signature.write(ZEROS, Some("17"));
            assert_eq!(written, expected);
            assert_eq!(found(&signature, &written), (1, field.map(|_| "17".to_owned())), "{written}");
        }
    }

    #[test]
    fn unknown_and_malformed_items_are_skipped() {
        let signature = signature(fields(Some("v1")), Some("t"));
        for value in [
            format!("t=17,v1={ZEROS}"),
            format!("v1={ZEROS},t=17"),
            format!("t=17, v1={ZEROS}"),
            format!("t=17,,v0=1,v0=2,junk,=,v1=,v1=xyz,v1={ZEROS},t=17"),
        ] {
            assert_eq!(found(&signature, &value), (1, Some("17".into())), "{value}");
        }
        let any = signature_of_any_key();
        assert_eq!(found(&any, &format!("t=17,a={ZEROS},b={ONES}")), (2, Some("17".into())));
    }

    #[test]
    fn an_empty_item_counts_only_where_positions_do() {
        let bare = Items { separator: " ".into(), assign: None, key: None };
        let list = signature(Format::List(bare), None);
        assert_eq!(read(&list, &[("x-sig", &format!("{ZEROS}  {ONES} "))]).unwrap().first.seen, 2);
        let positional = signature(Format::Positional { separator: ",".into() }, Some("0"));
        assert_eq!(found(&positional, &format!("17,,{ZEROS}")), (1, Some("17".into())));
        assert_eq!(found(&positional, &format!(",17,{ZEROS}")), (1, Some("".into())));
    }

    fn signature_of_any_key() -> Signature {
        signature(fields(None), Some("t"))
    }

    #[test]
    fn two_different_timestamps_are_refused() {
        let signature = signature(fields(Some("v1")), Some("t"));
        let value = format!("t=17,t=18,v1={ZEROS}");
        assert!(refusal(&signature, &[("x-sig", &value)]).contains("`t` is there twice"));
        let (first, second) = (format!("t=17,v1={ZEROS}"), format!("t=18,v1={ZEROS}"));
        assert!(refusal(&signature, &[("x-sig", &first), ("x-sig-2", &second)]).contains("twice"));
    }

    #[test]
    fn a_missing_header_is_no_signature_and_a_wrong_one_is_malformed() {
        let fields = signature(fields(Some("v1")), Some("t"));
        for lines in [&[][..], &[("x-sig", "")], &[("x-other", "a")]] {
            assert_eq!(read(&fields, lines).err().unwrap(), Refused::NoSignature("header `X-Sig`".into()));
        }
        assert!(refusal(&fields, &[("x-sig", "t=17")]).contains("no signature under `v1=`"));
        assert!(refusal(&fields, &[("x-sig", "v1=00")]).contains("nothing that is 20 bytes of hex"));
        let prefixed = signature(Format::Prefixed("sha1=".into()), None);
        assert!(refusal(&prefixed, &[("x-sig", ZEROS)]).contains("begins with `sha1=`"));
    }

    #[test]
    fn any_of_several_headers_may_carry_the_signature() {
        let raw = signature(Format::Raw, None);
        assert_eq!(read(&raw, &[("x-sig-2", ZEROS)]).unwrap().first.candidates.len(), 1);
        assert_eq!(read(&raw, &[("x-sig", "junk"), ("x-sig-2", ZEROS)]).unwrap().first.candidates.len(), 1);
    }

    #[test]
    fn a_repeated_header_is_refused_unless_it_is_a_list() {
        let twice = [("x-sig", ZEROS), ("x-sig", ONES)];
        assert!(refusal(&signature(Format::Raw, None), &twice).contains("more than once"));
        let bare = Items { separator: ",".into(), assign: None, key: None };
        assert_eq!(read(&signature(Format::List(bare), None), &twice).unwrap().first.candidates.len(), 2);
    }

    #[test]
    fn candidates_are_counted() {
        let signature = signature_of_any_key();
        let value = |n: usize| vec![format!("v={ZEROS}"); n].join(",");
        assert_eq!(found(&signature, &value(SIGNATURE_CANDIDATES_MAX)).0, SIGNATURE_CANDIDATES_MAX);
        let refused = refusal(&signature, &[("x-sig", &value(SIGNATURE_CANDIDATES_MAX + 1))]);
        assert!(refused.contains("more than 64 signatures"), "{refused}");
        let public = Proof::Public(super::super::public::Algorithm::Ed25519);
        let mut headers = HeaderMap::new();
        headers.insert("x-sig", HeaderValue::from_str(&value(PUBLIC_KEY_CANDIDATES_MAX + 1)).unwrap());
        let request = Request { method: "POST", url: "", query: None, headers: &headers, body: b"" };
        let refused = signature.read(&request, public).err().unwrap().to_string();
        assert!(refused.contains("more than 4 signatures"), "{refused}");
    }

    #[test]
    fn groups_keep_their_timestamps() {
        let grouped = Signature { groups: Some(" ".into()), ..signature(fields(Some("v1")), Some("t")) };
        let value = format!("t=17,v1={ZEROS} junk t=18,v1={ONES},v1={ZEROS}");
        let read = read(&grouped, &[("x-sig", &value)]).unwrap();
        assert_eq!((read.first.candidates.len(), read.first.stamp.as_deref()), (1, Some("17")));
        assert_eq!(read.others.len(), 1);
        assert_eq!((read.others[0].candidates.len(), read.others[0].stamp.as_deref()), (2, Some("18")));
        let many = vec![format!("t=1,v1={ZEROS}"); SIGNATURE_CANDIDATES_MAX + 1].join(" ");
        assert!(refusal(&grouped, &[("x-sig", &many)]).contains("more than 64 signatures"));
    }

    #[test]
    fn user_and_password_come_as_basic() {
        let pair = |text: &str| match Encoding::Basic.decode(text, Proof::Basic) {
            Some(Candidate::Mac(pair)) => Some(bool::from(pair.ct_eq(&mac::Bytes::of_token(b"user:pass")))),
            _ => None,
        };
        assert_eq!(pair("Basic dXNlcjpwYXNz"), Some(true));
        assert_eq!(pair("basic  dXNlcjpwYXNz"), Some(true));
        assert_eq!(pair("Basic dXNlcjpwYXNT"), Some(false));
        for wrong in ["Basic", "dXNlcjpwYXNz", "Bearer dXNlcjpwYXNz", "Basic dXNlcjpwYXN", "Basic ?"] {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_canonical_spellings_decode() {
        let bytes =
            |encoding: Encoding, text: &str| encoding.decode_exactly(text, 4).map(|b| b.as_slice().to_vec());
        let good = Some(vec![0xfb, 0xff, 0xfe, 0x00]);
        assert_eq!(bytes(Encoding::Hex, "fbfffe00"), good);
        assert_eq!(bytes(Encoding::Hex, "FBFFfe00"), good);
        assert_eq!(bytes(Encoding::Base64, "+//+AA=="), good);
        assert_eq!(bytes(Encoding::Base64Url, "-__-AA=="), good);
        assert_eq!(bytes(Encoding::Base64Url, "-__-AA"), good);
        for (encoding, text) in [
            (Encoding::Hex, "fbfffe0"),
            (Encoding::Hex, "fbfffe0000"),
            (Encoding::Hex, "fbfffe"),
            (Encoding::Hex, "0xfbfffe"),
            (Encoding::Hex, " fbfffe00"),
            (Encoding::Base64, "+//+AA"),
            (Encoding::Base64, "+//+AB=="),
            (Encoding::Base64, "+//+AA==="),
            (Encoding::Base64, "-__-AA=="),
            (Encoding::Base64, "+//+\nAA=="),
            (Encoding::Base64, "+//+"),
            (Encoding::Base64Url, "-__-AB"),
            (Encoding::Base64Url, "+//+AA"),
            (Encoding::Base64Url, ""),
        ] {
            assert_eq!(bytes(encoding, text), None, "{encoding:?} {text}");
        }
        assert!(Encoding::Base64.decode_exactly(&"A".repeat(200_000), 32).is_none());
    }

    #[test]
    fn a_token_is_compared_by_its_hash() {
        let Some(Candidate::Mac(token)) = Encoding::Token.decode("hunter2", Proof::Token) else { panic!() };
        assert!(bool::from(token.ct_eq(&mac::Bytes::of_token(b"hunter2"))));
        assert!(!bool::from(token.ct_eq(&mac::Bytes::of_token(b"hunter"))));
    }
}
