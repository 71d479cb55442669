//! What the server answers: a whole body, or one that goes on while events come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::{Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cluster::refusal::Refusal;

/// The body of an answer.
#[derive(Debug)]
pub enum Answer {
    /// All of it; `None` once it is sent.
    Whole(Option<Bytes>),
    /// Pieces, until the sender is dropped.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answer::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Answer::Pieces(_) => SizeHint::default(),
        }
    }
}

/// An answer of JSON text.
pub fn text(code: u16, bytes: Bytes) -> Response<Answer> {
    response(code, Answer::Whole(Some(bytes)))
}

/// An answer of a JSON value.
pub fn value(code: u16, value: &Value) -> Response<Answer> {
    text(code, value.to_string().into())
}

/// An answer that goes on.
pub fn pieces(pieces: mpsc::Receiver<Bytes>) -> Response<Answer> {
    response(200, Answer::Pieces(pieces))
}

/// The answer to a request that is refused.
pub fn refused(refusal: &Refusal) -> Response<Answer> {
    let mut response = value(refusal.code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn response(code: u16, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
