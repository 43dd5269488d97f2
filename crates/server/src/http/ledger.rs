//! Heads and tiles of the ledger (C2SP tlog-tiles): hashes only, for anyone.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_ledger::tile::{TilePath, encode_hashes};

use super::Named;
use crate::app::App;

pub(super) async fn checkpoint(State(app): State<Arc<App>>, Named(tenant, _): Named) -> Response {
    match app.head_note(&tenant) {
        Ok(note) => (
            [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::CACHE_CONTROL, "no-cache"),
            ],
            note,
        )
            .into_response(),
        Err(why) => {
            tracing::error!(%why, "no head");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// Serves hash tiles. Tiles of entries are not for anyone: they need an auditor's right.
pub(super) async fn tile(
    State(app): State<Arc<App>>,
    Named(tenant, _): Named,
    Path((_, path)): Path<(String, String)>,
) -> Response {
    let Ok(TilePath::Hashes {
        level,
        index,
        width,
    }) = format!("tile/{path}").parse::<TilePath>()
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match app.store().tile(tenant.name(), level, index, width) {
        Ok(hashes) => (
            [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            encode_hashes(&hashes),
        )
            .into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
