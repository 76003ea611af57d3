//! What there is to say of a certificate: whose it is, until when, and its fingerprint.
//!
//! Not here: whether it can be trusted.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

/// As PowerShell prints it: `$certificate.GetCertHashString("SHA256")`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate of a server or a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its subject, such as `CN=mail.example.com`; often empty in newer ones.
    pub subject: String,
    /// The DNS names that it is for, in lower case, `*.example.com` among them, and addresses.
    pub names: Vec<String>,
    /// SHA-256.
    pub fingerprint: Fingerprint,
    /// Until when it is valid, in seconds since 1970 (UTC).
    pub not_after: i64,
    /// The same, for people: `2027-03-01 12:00`.
    pub not_after_text: String,
}

impl Leaf {
    /// Reads a certificate; or what the parser says if it isn't one.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, x509) =
            X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let alternative = x509
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        let names = alternative.iter().flat_map(|names| {
            let names = names.value.general_names.iter();
            names.filter_map(name)
        });
        let not_after = x509.validity().not_after;
        let at = not_after.to_datetime();
        Ok(Self {
            subject: x509.subject().to_string(),
            names: names.collect(),
            fingerprint: Fingerprint::of(certificate),
            not_after: not_after.timestamp(),
            not_after_text: format!(
                "{}-{:02}-{:02} {:02}:{:02}",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute()
            ),
        })
    }

    /// What to call it: its first name, or else its subject.
    pub fn title(&self) -> &str {
        self.names.first().map_or(&self.subject, String::as_str)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

    use super::*;

    #[test]
    fn what_a_certificate_says_is_read() {
        let names = [
            "Mail.Example.com",
            "*.example.com",
            "192.0.2.1",
            "2001:db8::1",
        ];
        let mut params = rcgen::CertificateParams::new(names.map(str::to_owned)).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "the mail");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let leaf = Leaf::read(made.der()).unwrap();
        assert!(leaf.subject.contains("CN=the mail"), "{}", leaf.subject);
        let expected = [
            "mail.example.com",
            "*.example.com",
            "192.0.2.1",
            "2001:db8::1",
        ];
        assert_eq!(leaf.names, expected);
        assert_eq!(leaf.not_after_text, "2031-02-03 00:00");
        assert_eq!(leaf.not_after, 1_927_843_200);
        assert_eq!(leaf.title(), "mail.example.com");
    }

    #[test]
    fn a_fingerprint_is_the_sha256_of_the_der_in_hex() {
        let empty = Fingerprint::of(&CertificateDer::from(Vec::new()));
        let expected = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        assert_eq!(empty.to_string(), expected);
        assert!(Leaf::read(&CertificateDer::from(vec![0x30, 0x00])).is_err());
    }
}
