//! Sends spans to an OTLP receiver over gRPC.
//!
//! Read [`OtlpSender`].

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::otlp_grpc::EXPORT;
use super::raw_codec::RawCodec;
use crate::error::{Error, ErrorKind, Result};

/// A connection to an OTLP receiver. Clones share it.
#[derive(Debug, Clone)]
pub struct OtlpSender {
    grpc: Grpc<Channel>,
}

impl OtlpSender {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Error::invalid_input(format!("not an address; address=`{address}`")).with_source(error)
        })?;
        let channel = endpoint.connect().await.map_err(|error| {
            let message = format!("nobody takes OTLP there; address=`{address}`");
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })?;
        Ok(Self {
            grpc: Grpc::new(channel),
        })
    }

    /// Sends an encoded `ExportTraceServiceRequest` and returns when it is acknowledged.
    /// `Unavailable` where it should be sent again.
    pub async fn send(&mut self, request: Bytes) -> Result<()> {
        let failure = |code: Code, message: &str| {
            let kind = match code {
                Code::Unavailable | Code::ResourceExhausted => ErrorKind::Unavailable,
                Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
                _ => ErrorKind::Internal,
            };
            Error::new(kind, format!("spans were not taken: {message}"))
        };
        self.grpc
            .ready()
            .await
            .map_err(|error| failure(Code::Unavailable, &error.to_string()))?;
        let path = PathAndQuery::from_static(EXPORT);
        let answer = self.grpc.unary(Request::new(request), path, RawCodec).await;
        match answer {
            Ok(_) => Ok(()),
            Err(status) => Err(failure(status.code(), status.message())),
        }
    }
}
