//! The names in a client's certificate: its common name, and its DNS names. The handshake has verified it before.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Object identifier 2.5.4.3, common name.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF-8, printable and IA5 strings: all of them are UTF-8.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// Who is on the other side.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The names in its certificate. None: it showed none.
    pub(super) names: Option<Vec<String>>,
}

impl Peer {
    /// The peer with these certificates, its own first.
    pub(super) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        Self { names: certificates.and_then(<[_]>::first).map(names) }
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let mut names = common_names(certificate.subject());
    names.extend(certificate.valid_dns_names().map(str::to_owned));
    names
}

/// The common names of a subject: sets of sequences of an identifier and a value.
fn common_names(subject: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let attributes = elements(subject).filter(|it| it.0 == SET).flat_map(|it| elements(it.1)).filter(|it| it.0 == SEQUENCE);
    for (_, attribute) in attributes {
        let mut parts = elements(attribute);
        if parts.next() == Some((OBJECT_IDENTIFIER, COMMON_NAME)) {
            let value = parts.next().filter(|(tag, _)| TEXTS.contains(tag));
            names.extend(value.and_then(|(_, text)| std::str::from_utf8(text).ok()).map(str::to_owned));
        }
    }
    names
}

/// The DER elements that stand one behind the other, as tag and content; ends at the first that is none.
fn elements(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[tag, first], behind) = rest.split_first_chunk()?;
        let (length, behind) = match first {
            0..=0x7f => (usize::from(first), behind),
            0x81 => behind.split_first().map(|(&a, behind)| (usize::from(a), behind))?,
            0x82 => behind.split_first_chunk().map(|(&pair, behind)| (usize::from(u16::from_be_bytes(pair)), behind))?,
            _ => return None,
        };
        let (content, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some((tag, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(common: &str, dns: &[&str]) -> Vec<String> {
        let mut params = rcgen::CertificateParams::new(dns.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "an organization");
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        let key = rcgen::KeyPair::generate().unwrap();
        names(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn common_name_and_dns_names_are_read() {
        assert_eq!(names_of("kube-apiserver-audit", &["a.example", "b.example"]), ["kube-apiserver-audit", "a.example", "b.example"]);
        let long = "ä".repeat(200);
        assert_eq!(names_of(&long, &[]), [long], "a length of two bytes");
        assert_eq!(names_of("a.example\0.evil", &[]), ["a.example\0.evil"], "nothing is cut");
    }

    #[test]
    fn broken_der_ends_and_does_not_panic() {
        let subject = [SET, 9, SEQUENCE, 7, OBJECT_IDENTIFIER, 3, 0x55, 0x04, 0x03, 0x0c, 0];
        assert_eq!(common_names(&subject), [""]);
        for cut in 0..subject.len() {
            assert!(common_names(&subject[..cut]).is_empty());
        }
        for length in [0x80, 0x81, 0x82, 0x83, 0xff] {
            assert!(common_names(&[SET, length]).is_empty());
            assert!(common_names(&[SET, length, 0xff, 0xff, 1]).is_empty());
        }
        assert!(names(&CertificateDer::from_slice(b"no certificate")).is_empty());
    }
}
