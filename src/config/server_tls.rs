//! TLS of a listener: a certificate and its key, in PEM.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;

/// The files of a listener's certificate, which were right when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, and those that lead from it to one that clients trust.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// A certificate that no listener can use.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// `cert_file` holds no certificate.
    #[error("expected a certificate in PEM: {0}")]
    Certificate(String),
    /// `key_file` holds no key.
    #[error("expected a private key in PEM: {0}")]
    Key(String),
    /// Both do not belong together.
    #[error("certificate and key do not make a server: {0}")]
    Pair(#[from] rustls::Error),
}

impl ServerTls {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, ServerTlsError> {
        let wrong = |error: rustls::pki_types::pem::Error| ServerTlsError::Certificate(error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.cert_file).map_err(wrong)?.collect();
        let chain = chain.map_err(wrong)?;
        if chain.is_empty() {
            return Err(ServerTlsError::Certificate("there is none".to_owned()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key_file).map_err(|error| ServerTlsError::Key(error.to_string()))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let server = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        Ok(Arc::new(server.with_single_cert(chain, key)?))
    }
}
