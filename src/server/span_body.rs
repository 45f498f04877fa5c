//! Reads the body of a request with spans within the memory that all such requests share.
//!
//! Read [`SpanBody::read`]. Room is taken before bytes are: at once where a request says how long it
//! is, else as it grows.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::engine::{CommitQueue, Room};
use crate::error::{Error, ErrorKind};

/// What is expected of a request that does not say its length.
const FIRST_BYTES: usize = 32 << 10;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// A body and the memory taken for it.
pub(super) struct SpanBody {
    pub(super) bytes: Bytes,
    pub(super) room: Room,
}

/// Why a body was not read.
pub(super) enum BodyError {
    TooLong,
    Failed(Error),
}

impl SpanBody {
    /// Reads at most `max` bytes. `length` finds the whole length in the bytes there are, as soon
    /// as they tell it.
    pub(super) async fn read(
        queue: &CommitQueue,
        body: Body,
        max: usize,
        length: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Self, BodyError> {
        let reading = Self::read_all(queue, body, max, length);
        match tokio::time::timeout(BODY_TIME, reading).await {
            Ok(outcome) => outcome,
            Err(_) => Err(BodyError::Failed(broken("it took too long to come"))),
        }
    }

    async fn read_all(
        queue: &CommitQueue,
        body: Body,
        max: usize,
        length: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Self, BodyError> {
        let mut expected = length(&[]).unwrap_or(FIRST_BYTES.min(max));
        if expected > max {
            return Err(BodyError::TooLong);
        }
        let mut room = queue.room_for_request(expected).await?;
        let mut pieces = body.into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| broken(&error.to_string()))?;
            if piece.len() > max - bytes.len() {
                return Err(BodyError::TooLong);
            }
            bytes.extend_from_slice(&piece);
            let told = length(&bytes).unwrap_or_default();
            if told > max {
                return Err(BodyError::TooLong);
            }
            let wanted = told.max(bytes.len());
            if wanted > expected {
                // Twice as much each time, so that this is seldom.
                expected = wanted.max(expected.saturating_mul(2)).min(max);
                queue.enlarge_for_request(&mut room, expected).await?;
            }
        }
        Ok(Self {
            bytes: bytes.freeze(),
            room,
        })
    }
}

impl From<Error> for BodyError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn broken(why: &str) -> Error {
    let message = format!("the request was not read to its end; send it again: {why}");
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CommitConfig, Config};
    use crate::engine::Lake;

    async fn queue() -> CommitQueue {
        let config = Config {
            commit: CommitConfig {
                pending_bytes: 300 << 10,
                max_wait: Duration::from_millis(20),
                ..CommitConfig::default()
            },
            ..Config::default()
        };
        CommitQueue::new(&Lake::create("memory://", config).await.unwrap())
    }

    fn pieces(count: usize) -> Body {
        let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(vec![7u8; 10 << 10]));
        Body::from_stream(futures::stream::iter(pieces.collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn a_body_takes_room_as_it_grows_and_no_more_than_it_may() {
        let queue = queue().await;
        let pending = || {
            queue
                .stats()
                .pending_bytes
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        let read = SpanBody::read(&queue, pieces(6), 1 << 20, |_| None).await;
        let Ok(one) = read else {
            panic!("there is room");
        };
        assert_eq!((one.bytes.len(), pending()), (60 << 10, 3 * (64 << 10)));
        let more = SpanBody::read(&queue, pieces(6), 1 << 20, |_| None).await;
        assert!(
            matches!(more, Err(BodyError::Failed(error)) if error.kind() == ErrorKind::Unavailable)
        );
        drop(one);
        assert_eq!(pending(), 0);
        let long = SpanBody::read(&queue, pieces(6), 40 << 10, |_| None).await;
        assert!(matches!(long, Err(BodyError::TooLong)));
        let told = SpanBody::read(&queue, pieces(1), 40 << 10, |_| Some(41 << 10)).await;
        assert!(matches!(told, Err(BodyError::TooLong)));
        // What takes all there is comes in alone.
        let large = SpanBody::read(&queue, pieces(60), 1 << 20, |_| None).await;
        assert!(large.is_ok());
        drop(large);
        assert_eq!(pending(), 0);
    }
}
