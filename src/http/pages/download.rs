//! A list as a file: CSV, a page of the database at a time, so that memory does not grow with the history and no reader
//! stays open while a slow client reads.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::Problem;
use crate::core::sheet;

/// Rows read at a time.
pub(super) const ROWS: u32 = 1000;

/// The most rows of a file: spreadsheets end a little later. `export` writes everything.
const MAX_ROWS: usize = 1_000_000;

/// A page of rows, and the id after which the next begins.
pub(super) struct Part {
    pub(super) rows: Vec<Vec<String>>,
    pub(super) next: Option<i64>,
}

/// Reads the page after an id, or the first.
pub(super) type Read = Arc<dyn Fn(Option<i64>) -> BoxFuture<'static, Result<Part, Problem>> + Send + Sync>;

/// The file's name and its rows. A database that fails at once is told with a status; later it cuts the download off, which
/// browsers report.
pub(super) async fn csv(name: &'static str, columns: &[&str], read: Read) -> Result<Response, Problem> {
    let first = read(None).await?;
    let mut text = sheet::line(columns);
    let mut left = MAX_ROWS;
    text.extend(lines(&first, &mut left));
    let begun = stream::once(async move { Ok::<Bytes, CutOff>(Bytes::from(text)) });
    let rest = stream::try_unfold((first.next, left), move |(next, mut left)| {
        let read = Arc::clone(&read);
        async move {
            let Some(after) = next.filter(|_| left > 0) else { return Ok(None) };
            let part = read(Some(after)).await.map_err(|problem| CutOff(problem.told().1))?;
            let text = lines(&part, &mut left);
            Ok(Some((Bytes::from(text), (part.next, left))))
        }
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(begun, rest));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    Ok((headers, body).into_response())
}

fn lines(part: &Part, left: &mut usize) -> Vec<u8> {
    let rows = part.rows.iter().take(*left);
    *left -= part.rows.len().min(*left);
    rows.flat_map(|cells| sheet::line(cells)).collect()
}

/// Why a file ends too early.
#[derive(Debug, thiserror::Error)]
#[error("the download was cut off: {0}")]
struct CutOff(String);
