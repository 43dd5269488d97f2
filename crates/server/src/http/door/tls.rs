//! TLS at the front door: one certificate, taken again from its files while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::config::TlsFiles;

/// The one protocol that is offered (RFC 7301): this server speaks HTTP/1.1 alone.
const PROTOCOL: &[u8] = b"http/1.1";

/// The certificate in force, and where it comes from.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// What the files looked like when they were last tried.
    tried: Mutex<[Stamp; 2]>,
}

/// Why a certificate and a key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("`{}` {why}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not go together.
    #[error("the key of `{}` is not that of the certificate in `{}`: {why}", .files.key.display(), .files.cert.display())]
    Pair {
        /// Both.
        files: TlsFiles,
        /// What the TLS library says.
        why: tokio_rustls::rustls::Error,
    },
}

/// What a file looked like; none for one that cannot be looked at.
type Stamp = Option<(u64, u64, SystemTime)>;

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let tried = Mutex::new(stamps(&files));
        let current = RwLock::new(read(&files)?);
        Ok(Self {
            files,
            current,
            tried,
        })
    }

    /// Takes the files again. Where they do not do, what was there stays in force.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        let fresh = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Takes the files again when they changed since they were last tried; whether they did.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let changed =
            *self.tried.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.files);
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |file: &Path, why: String| TlsError::File {
        file: file.to_owned(),
        why,
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| failed(&files.cert, format!("holds no certificates: {why}")))?;
    if chain.is_empty() {
        return Err(failed(&files.cert, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|why| failed(&files.key, format!("holds no private key: {why}")))?;
    let pair = |why| TlsError::Pair {
        files: files.clone(),
        why,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(pair)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn stamps(files: &TlsFiles) -> [Stamp; 2] {
    [stamp(&files.cert), stamp(&files.key)]
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    // Links are followed: certificates are often put in force by turning one.
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()?))
}
