//! Making and renewing certificates: what must be in force now follows from what was, and from the time. Nothing is
//! kept here and nothing is written.
//!
//! A new authority is first only trusted, until everybody had the time to learn of it; then it signs. One that nodes were
//! not told of in time is replaced. The old one stays trusted until nobody can be using a certificate of its any more.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::Role;

/// By so much clocks may differ without a new certificate counting as not valid yet.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// A certificate and its key, PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Never the key.
impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Everything that mutual TLS needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    /// The authorities that are trusted, the oldest first.
    pub authorities: Vec<Pair>,
    /// What the controller shows.
    pub controller: Pair,
    /// What nodes show.
    pub node: Pair,
    /// The certificates of the authorities that nodes are told to trust; they may be behind.
    pub trusted_by_nodes: Vec<String>,
}

impl Keyring {
    /// From its parts as they are kept, PEM: the certificates of the authorities and their keys in the same order, what
    /// nodes are told to trust, and what is shown.
    pub fn new(trusted: &str, authority_keys: &str, trusted_by_nodes: &str, controller: Pair, node: Pair) -> Self {
        let both = pem_blocks(trusted, CERTIFICATE).into_iter().zip(pem_blocks(authority_keys, PRIVATE_KEY));
        let authorities = both.map(|(certificate, key)| Pair { certificate, key }).collect();
        Self { authorities, controller, node, trusted_by_nodes: pem_blocks(trusted_by_nodes, CERTIFICATE) }
    }

    /// The keys of all authorities, one after the other, PEM.
    pub fn authority_keys(&self) -> String {
        self.authorities.iter().map(|authority| authority.key.as_str()).collect()
    }

    /// The certificates of all authorities, one after the other, PEM.
    pub fn trusted(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }
}

/// How blocks of PEM end.
const CERTIFICATE: &str = "CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The single blocks of that kind in a PEM text.
fn pem_blocks(pem: &str, kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in pem.lines() {
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END") {
            let complete = std::mem::take(&mut block);
            blocks.extend(line.ends_with(kind).then_some(complete));
        }
    }
    blocks
}

/// How long certificates last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of an authority.
    pub authority: Duration,
    /// Of the certificates that it signs.
    pub leaf: Duration,
    /// How long it takes until everybody has learnt of a new authority. Kubernetes brings a changed Secret to all
    /// pods within about two minutes.
    pub spread: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self { authority: days(3650), leaf: days(90), spread: Duration::from_mins(30) }
    }
}

/// What is known of a certificate.
struct Known {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    made: SystemTime,
    ends: SystemTime,
    /// What it is for, as DNS writes it.
    names: Vec<String>,
}

impl Known {
    /// `None` if it cannot be read, or its key is not there or another one's.
    fn of(pair: &Pair) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
        let (_, certificate): (_, X509Certificate<'_>) = x509_parser::parse_x509_certificate(&der).ok()?;
        let key = KeyPair::from_pem(&pair.key).ok()?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return None;
        }
        let time = |time: x509_parser::time::ASN1Time| SystemTime::from(time.to_datetime());
        let (start, ends) = (time(certificate.validity().not_before), time(certificate.validity().not_after));
        let made = start + backdated(ends.duration_since(start).unwrap_or_default());
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Self {
            subject: certificate.subject().as_raw().into(),
            issuer: certificate.issuer().as_raw().into(),
            made,
            ends,
            names: names.collect(),
        })
    }

    /// Whether two thirds of its time are over.
    fn is_due(&self, now: SystemTime) -> bool {
        let life = self.ends.duration_since(self.made).unwrap_or_default();
        now >= self.made + life * 2 / 3
    }
}

/// How far before its making a certificate is valid already, from its whole time; little where it lives for seconds only.
fn backdated(whole: Duration) -> Duration {
    CLOCKS_DIFFER.min(whole / 10)
}

/// What should be in force now; equal to `before` when nothing is due.
pub fn renewed(
    before: &Keyring,
    driver: &str,
    lifetimes: &Lifetimes,
    now: SystemTime,
) -> Result<Keyring, rcgen::Error> {
    let known = |pair: &Pair| Some((pair.clone(), Known::of(pair)?));
    let mut authorities: Vec<(Pair, Known)> = before.authorities.iter().filter_map(known).collect();
    authorities.retain(|(_, authority)| now < authority.ends);
    // Nodes may not have been told of the newest yet, although it is old: its maker may have ended before it could.
    let is_told = |(authority, _): &&(Pair, Known)| before.trusted_by_nodes.contains(&authority.certificate);
    // Told only now, they would have too little time before it signs. Nothing trusts it yet, so a fresh one takes its place.
    let is_late = |newest: &(Pair, Known)| !is_told(&newest) && now >= newest.1.made + lifetimes.spread / 2;
    if authorities.iter().any(|authority| is_told(&authority)) && authorities.last().is_some_and(is_late) {
        authorities.pop();
    }
    if authorities.last().is_none_or(|(_, newest)| newest.is_due(now)) {
        let made = authority(driver, lifetimes.authority, now)?;
        authorities.extend(known(&made));
    }
    let has_spread = |(_, authority): &&(Pair, Known)| now >= authority.made + lifetimes.spread;
    let spread = authorities.iter().rev().filter(is_told).find(has_spread);
    let signer = spread.or_else(|| authorities.iter().find(is_told)).or(authorities.first());
    let Some((signer, signs)) = signer else { return Err(rcgen::Error::CouldNotParseCertificate) };

    let in_force = |pair: &Pair, role: Role| -> Result<(Pair, SystemTime), rcgen::Error> {
        let name = role.name(driver);
        let is_good = |leaf: &Known| leaf.issuer == signs.subject && leaf.names == [name.as_str()] && !leaf.is_due(now);
        match Known::of(pair).filter(is_good) {
            Some(leaf) => Ok((pair.clone(), leaf.made)),
            None => Ok((leaf(role, driver, signer, lifetimes.leaf, now)?, now)),
        }
    };
    let (controller, controller_made) = in_force(&before.controller, Role::Controller)?;
    let (node, node_made) = in_force(&before.node, Role::Node)?;
    // Until the new ones have spread, somebody may show what an older authority signed.
    let is_old_one_used = now < controller_made.max(node_made) + lifetimes.spread;
    let signs_since = signs.made;
    authorities.retain(|(_, authority)| authority.made >= signs_since || is_old_one_used);
    let authorities: Vec<Pair> = authorities.into_iter().map(|(pair, _)| pair).collect();
    let trusted_by_nodes = authorities.iter().map(|authority| authority.certificate.clone()).collect();
    Ok(Keyring { authorities, controller, node, trusted_by_nodes })
}

fn authority(driver: &str, life: Duration, now: SystemTime) -> Result<Pair, rcgen::Error> {
    let mut parameters = lasting(CertificateParams::default(), life, now);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let number = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    // Each has a name of its own, by which what it signed is known.
    parameters.distinguished_name = named(&format!("{driver} authority {number}"));
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: parameters.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn leaf(role: Role, driver: &str, signer: &Pair, life: Duration, now: SystemTime) -> Result<Pair, rcgen::Error> {
    let name = role.name(driver);
    let mut parameters = lasting(CertificateParams::new([name.clone()])?, life, now);
    // A name longer than 64 bytes fits in the alternative names only, which are the ones that count.
    parameters.distinguished_name = named(role.word());
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![match role {
        Role::Controller => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Node => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    parameters.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(&signer.key)?)?;
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: parameters.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn lasting(mut parameters: CertificateParams, life: Duration, now: SystemTime) -> CertificateParams {
    // A ninth of the life is a tenth of the whole: what `backdated` makes of it.
    let start = now - CLOCKS_DIFFER.min(life / 9);
    parameters.not_before = OffsetDateTime::from(start);
    parameters.not_after = OffsetDateTime::from(now + life);
    parameters
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests;
