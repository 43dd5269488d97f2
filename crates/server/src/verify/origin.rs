//! Where the keys of an issuer come from, and one reading of them.

use std::path::{Path, PathBuf};

use dayfly_token::alg::Alg;
use dayfly_token::excerpt::Excerpt;
use dayfly_token::json::{self, JsonError};
use dayfly_token::jwks::{KeySet, KeySetError};

use super::fetch::{self, FetchError, Request};
use crate::declared::{Issuer, JwksSource};

/// Everything that decides which keys an issuer has; equal origins share what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    place: Place,
    algs: Vec<Alg>,
    allow_private: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// By the metadata of the issuer of this URL (OpenID Connect Discovery 1.0, section 4).
    Discovery(String),
    /// By the metadata of the transmitter of this URL (OpenID Shared Signals Framework 1.0, section 7).
    Transmitter(String),
    /// From this URL.
    Url {
        url: String,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
    },
    /// From this file.
    File(PathBuf),
}

/// Why the keys of an issuer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OriginError {
    /// A document cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The issuer's metadata is no strict JSON object.
    #[error("metadata `{url}` is malformed")]
    Metadata {
        /// Its URL.
        url: String,
        /// Why.
        source: JsonError,
    },
    /// The issuer's metadata is about another issuer (OpenID Connect Discovery 1.0, section 4.3).
    #[error("metadata `{url}` must name the issuer `{wanted}`, got {got}")]
    OtherIssuer {
        /// Its URL.
        url: String,
        /// The declared issuer.
        wanted: String,
        /// Its `issuer`.
        got: Excerpt,
    },
    /// The issuer's metadata names no keys.
    #[error("metadata `{url}` has no `jwks_uri`")]
    NoKeys {
        /// Its URL.
        url: String,
    },
    /// The key set is malformed.
    #[error("key set is malformed")]
    KeySet(#[from] KeySetError),
}

impl Origin {
    /// Where the keys of this issuer come from.
    pub(super) fn of(issuer: &Issuer) -> Self {
        let place = match &issuer.jwks {
            JwksSource::Discovery => Place::Discovery(issuer.url.clone()),
            JwksSource::Transmitter => Place::Transmitter(issuer.url.clone()),
            JwksSource::Url {
                url,
                token_file,
                ca_file,
            } => Place::Url {
                url: url.clone(),
                token_file: token_file.clone(),
                ca_file: ca_file.clone(),
            },
            JwksSource::File { path, .. } => Place::File(path.clone()),
        };
        Self {
            place,
            algs: issuer.algs.clone(),
            allow_private: issuer.allow_private,
        }
    }

    /// Whether reading costs no more than a look at a file.
    pub(super) fn is_local(&self) -> bool {
        match self.place {
            Place::File(_) => true,
            Place::Discovery(_) | Place::Transmitter(_) | Place::Url { .. } => false,
        }
    }

    /// The URL or path, for a person.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Discovery(issuer) => metadata_url(issuer),
            Place::Transmitter(issuer) => transmitter_url(issuer),
            Place::Url { url, .. } => url.clone(),
            Place::File(path) => path.display().to_string(),
        }
    }

    /// Reads the keys, each pinned to the algorithms of the issuer.
    pub(super) async fn read(&self) -> Result<KeySet, OriginError> {
        let bytes = match &self.place {
            Place::File(path) => fetch::read(path, KeySet::MAX_BYTES).await?,
            Place::Url {
                url,
                token_file,
                ca_file,
            } => {
                self.get(url, token_file.as_deref(), ca_file.as_deref())
                    .await?
            }
            Place::Discovery(issuer) => {
                let url = self.discover(issuer, metadata_url(issuer)).await?;
                self.get(&url, None, None).await?
            }
            Place::Transmitter(issuer) => {
                let url = self.discover(issuer, transmitter_url(issuer)).await?;
                self.get(&url, None, None).await?
            }
        };
        Ok(KeySet::parse(&bytes, &self.algs)?)
    }

    /// The `jwks_uri` of the issuer's metadata; [`fetch`] judges it like any declared URL.
    async fn discover(&self, issuer: &str, url: String) -> Result<String, OriginError> {
        let text = self.get(&url, None, None).await?;
        let metadata = match json::object(&text) {
            Ok(metadata) => metadata,
            Err(source) => return Err(OriginError::Metadata { url, source }),
        };
        let named = metadata.get("issuer");
        if named.and_then(|named| named.as_str()) != Some(issuer) {
            return Err(OriginError::OtherIssuer {
                url,
                wanted: issuer.to_owned(),
                got: named.map_or_else(Excerpt::absent, Excerpt::of_json),
            });
        }
        match metadata.get("jwks_uri").and_then(|uri| uri.as_str()) {
            Some(uri) => Ok(uri.to_owned()),
            None => Err(OriginError::NoKeys { url }),
        }
    }

    async fn get(
        &self,
        url: &str,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Vec<u8>, FetchError> {
        let request = Request {
            url,
            allow_private: self.allow_private,
            token_file,
            ca_file,
        };
        fetch::get(request).await
    }
}

/// OpenID Connect Discovery 1.0, section 4.1: a slash at the end of the issuer is not doubled.
fn metadata_url(issuer: &str) -> String {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{base}/.well-known/openid-configuration")
}

/// OpenID Shared Signals Framework 1.0, section 7.2: what is well known stands between host and path.
fn transmitter_url(issuer: &str) -> String {
    const KNOWN: &str = "/.well-known/ssf-configuration";
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let host = base.find("://").map_or(0, |at| at + 3);
    let (before, rest) = base.split_at_checked(host).unwrap_or(("", base));
    match rest.split_once('/') {
        None => format!("{before}{rest}{KNOWN}"),
        Some((host, path)) => format!("{before}{host}{KNOWN}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_known_of_a_transmitter_stands_before_its_path() {
        for (issuer, wanted) in [
            (
                "https://a.example",
                "https://a.example/.well-known/ssf-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/ssf-configuration",
            ),
            (
                "https://a.example/b/c",
                "https://a.example/.well-known/ssf-configuration/b/c",
            ),
        ] {
            assert_eq!(transmitter_url(issuer), wanted);
        }
    }
}
