//! Facts: what a certificate says of itself, for `config check` and the start-up lines. It decides nothing:
//! rustls judges the certificate, and senders judge its names and times.
//!
//! Five fields of one DER structure are read here. The crates that read all of X.509 bring a parser framework
//! and three derive macros with them, for the sake of two dates and a list of names.

use std::net::IpAddr;

use crate::words::time::Millis;

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CertificateFacts {
    /// Host names and addresses it is for.
    pub names: Vec<String>,
    pub not_before: Millis,
    pub not_after: Millis,
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// Context tags of `TBSCertificate` and `GeneralName`, RFC 5280, sections 4.1 and 4.2.1.6.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17, subject alternative name.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// None where these bytes are not a certificate.
pub(super) fn facts(der: &[u8]) -> Option<CertificateFacts> {
    let mut signed = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
    signed.skip_if(VERSION);
    signed.expect(INTEGER)?; // serial number
    signed.expect(SEQUENCE)?; // signature algorithm
    signed.expect(SEQUENCE)?; // issuer
    let mut validity = Der(signed.expect(SEQUENCE)?);
    signed.expect(SEQUENCE)?; // subject
    Some(CertificateFacts {
        not_before: validity.time()?,
        not_after: validity.time()?,
        names: alt_names(signed).unwrap_or_default(),
    })
}

/// Looks through what follows the subject. None where there are no alternative names.
fn alt_names(mut rest: Der<'_>) -> Option<Vec<String>> {
    let mut extensions = loop {
        let (tag, content) = rest.next()?;
        if tag == EXTENSIONS {
            break Der(Der(content).expect(SEQUENCE)?);
        }
    };
    loop {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT_ID)?;
        extension.skip_if(BOOLEAN);
        let value = extension.expect(OCTET_STRING)?;
        if id == SUBJECT_ALT_NAME {
            let names = Der(Der(value).expect(SEQUENCE)?);
            return Some(names.filter_map(|(tag, name)| general_name(tag, name)).collect());
        }
    }
}

fn general_name(tag: u8, name: &[u8]) -> Option<String> {
    match tag {
        DNS_NAME => std::str::from_utf8(name).ok().map(str::to_owned),
        IP_ADDRESS => {
            let v4 = <[u8; 4]>::try_from(name).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(name).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// DER values one after the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Iterator for Der<'a> {
    /// Tag and content.
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let long_form = first & 0x80 != 0;
        let (length, rest) = if long_form {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                bytes
                    .iter()
                    .try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()))?,
                rest,
            )
        } else {
            (usize::from(first), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

impl<'a> Der<'a> {
    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    fn time(&mut self) -> Option<Millis> {
        let (tag, text) = self.next()?;
        let text = std::str::from_utf8(text).ok()?;
        let full = match tag {
            GENERALIZED_TIME => text.to_owned(),
            // Two digits of the year: from 50 on it is the last century's.
            UTC_TIME if text >= "50" => format!("19{text}"),
            UTC_TIME => format!("20{text}"),
            _ => return None,
        };
        let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &full).ok()?;
        let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
        // A certificate from before 1970 is from before everything we compare it with.
        Some(Millis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(names: &[&str], ends: i32) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(ends, 3, 4);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_times_are_read() {
        let names = ["hooks.example.com", "*.example.com", "192.0.2.1", "2001:db8::1"];
        // From 2050 on the time has another type.
        for (year, ends) in [(2026, "2026-03-04T00:00:00.000Z"), (2053, "2053-03-04T00:00:00.000Z")] {
            let facts = facts(&certificate(&names, year)).unwrap();
            assert_eq!(facts.names, names);
            assert_eq!(facts.not_before.to_string(), "2026-01-02T00:00:00.000Z");
            assert_eq!(facts.not_after.to_string(), ends);
        }
    }

    #[test]
    fn a_certificate_without_names_has_times() {
        assert_eq!(facts(&certificate(&[], 2030)).unwrap().names, Vec::<String>::new());
    }

    #[test]
    fn a_cut_certificate_is_none_or_lacks_names() {
        let whole = certificate(&["hooks.example.com"], 2030);
        for end in 0..whole.len() {
            assert_eq!(facts(&whole[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = facts(&bytes);
        }

        /// One wrong byte anywhere.
        #[test]
        fn no_damage_makes_it_panic(at in 0usize..400, byte in any::<u8>()) {
            let mut der = certificate(&["hooks.example.com", "192.0.2.1"], 2030);
            let at = at % der.len();
            der[at] = byte;
            let _ = facts(&der);
        }
    }
}
