//! What one end of a connection shows, and whom it trusts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::CertifiedKey;

/// Certificates and a key.
#[derive(Debug)]
pub struct Material {
    /// The authorities whose certificates are believed.
    pub authorities: RootCertStore,
    /// One's own certificate and those between it and an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first of them.
    pub key: PrivateKeyDer<'static>,
    /// When one's own certificate expires.
    pub expires: SystemTime,
}

/// Why texts are no material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct MaterialError {
    part: &'static str,
    problem: String,
}

impl Material {
    /// From PEM: the authorities, one's own chain, its key.
    pub fn parse(authorities: &[u8], chain: &[u8], key: &[u8]) -> Result<Self, MaterialError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("ca.crt", authorities)? {
            roots.add(authority).map_err(|problem| error("ca.crt", &problem))?;
        }
        let chain = certificates("tls.crt", chain)?;
        let own = chain.first().ok_or_else(|| error("tls.crt", "holds no certificate"))?;
        let expires = expiry(own).map_err(|problem| error("tls.crt", &problem))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|problem| error("tls.key", &problem))?;
        // Files that are just being replaced may not belong together.
        let provider = ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
            .map_err(|problem| error("tls.key", &problem))?;
        Ok(Self { authorities: roots, chain, key, expires })
    }
}

fn error(part: &'static str, problem: &(impl ToString + ?Sized)) -> MaterialError {
    MaterialError { part, problem: problem.to_string() }
}

fn certificates(part: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|problem| error(part, &problem))?;
    if found.is_empty() { Err(error(part, "holds no certificate")) } else { Ok(found) }
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}
