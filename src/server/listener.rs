//! Takes connections, plain or encrypted, and hands them to a protocol.
//!
//! Read [`Incoming`]. Handshakes go on beside each other, so that a slow client holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::options::TlsOptions;
use crate::error::{Error, Result};

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long nothing must have come from a client for it to be asked whether it is there.
const GONE: Duration = Duration::from_secs(60);

/// Connections made, and not yet taken up by their protocol.
const WAITING: usize = 64;

/// The connections of one listener. Ends when it is told to.
pub(super) struct Incoming {
    address: SocketAddr,
    connections: mpsc::Receiver<Connection>,
}

impl Incoming {
    /// Listens, until `stop`.
    pub(super) async fn bind(
        (key, address): (&str, SocketAddr),
        tls: Option<TlsAcceptor>,
        max_connections: usize,
        stop: CancellationToken,
    ) -> Result<Self> {
        let listener = bind(key, address).await?;
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(WAITING);
        let places = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        tokio::spawn(accept(listener, tls, places, sender, stop));
        Ok(Self {
            address,
            connections,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens at an address; the error names the option's key.
pub(super) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::invalid_input(format!(
            "cannot listen at {address}; choose another address or stop who has it; key=`{key}`"
        ))
        .with_source(error)
    })
}

/// What encrypts connections, from certificate and key; `protocol` is its ALPN name.
pub(super) fn tls_acceptor(options: &TlsOptions, protocol: &[u8]) -> Result<TlsAcceptor> {
    let wrong = |what: &str, path: &std::path::Path| {
        let path = path.display();
        Error::invalid_input(format!("cannot use the TLS {what}; path=`{path}`"))
    };
    let certificates = CertificateDer::pem_file_iter(&options.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("certificate", &options.certificate).with_source(error))?;
    let key = PrivateKeyDer::from_pem_file(&options.key)
        .map_err(|error| wrong("key", &options.key).with_source(error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("cannot set up TLS").with_source(error))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| {
            wrong("certificate with its key", &options.certificate).with_source(error)
        })?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    connections: mpsc::Sender<Connection>,
    stop: CancellationToken,
) {
    loop {
        // Who comes while there is no place waits with the operating system.
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many files are open, mostly: it passes.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        prepare(&stream);
        let Some(tls) = &tls else {
            let connection = Connection::new(Wire::Plain(stream), place);
            if connections.send(connection).await.is_err() {
                return;
            }
            continue;
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // A protocol that ended takes no more.
                    let connection = Connection::new(Wire::Tls(Box::new(stream)), place);
                    let _ = connections.send(connection).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

/// Sets what every connection has. Where the system refuses, it works without.
pub(super) fn prepare(stream: &TcpStream) {
    // Answers are small; they must not wait for more.
    let _ = stream.set_nodelay(true);
    // A client that is gone without a word gives its place back.
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(GONE));
}

/// The next connection, with the place that it takes.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|next| next.map(Ok))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => {
                let address = connection.peer().unwrap_or(self.address);
                (connection, address)
            }
            // The server ends by its signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection to a client.
pub(super) struct Connection {
    wire: Wire,
    /// Given back at its end.
    _place: OwnedSemaphorePermit,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn new(wire: Wire, place: OwnedSemaphorePermit) -> Self {
        Self {
            wire,
            _place: place,
        }
    }

    fn peer(&self) -> io::Result<SocketAddr> {
        match &self.wire {
            Wire::Plain(stream) => stream.peer_addr(),
            Wire::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer().ok()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
