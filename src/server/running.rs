//! A running server: everything it listens to, and how it ends.
//!
//! Read [`Server::start`] and [`Server::run_until`].

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_util::sync::CancellationToken;

use super::auth::Authority;
use super::flight::FlightSql;
use super::http::{self, Api};
use super::listener::{Incoming, bind, tls_acceptor};
use super::metrics::Metrics;
use super::options::{Role, ServeOptions};
use super::otlp_grpc::TraceService;
use super::otlp_http;
use super::own_traces::{self, OwnTraces};
use super::postgres::{self, Postgres, Running};
use super::postgres_auth::Users;
use super::postgres_statement::Planner;
use super::query_gate::QueryGate;
use super::span_door::SpanDoor;
use crate::engine::{CommitQueue, Lake, SessionOptions};
use crate::error::{Error, Result};

/// Where a server listens; ports chosen by the system are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Queries over HTTP.
    pub http: Option<SocketAddr>,
    /// Queries over the PostgreSQL protocol.
    pub postgres: Option<SocketAddr>,
    /// Queries over Arrow Flight SQL.
    pub flight: Option<SocketAddr>,
    /// OTLP over gRPC.
    pub otlp_grpc: Option<SocketAddr>,
    /// OTLP over HTTP.
    pub otlp_http: Option<SocketAddr>,
}

impl Addresses {
    /// What is to be had where, for people.
    pub fn listed(&self) -> Vec<(&'static str, SocketAddr)> {
        let all = [
            ("OTLP over gRPC", self.otlp_grpc),
            ("OTLP and Zipkin over HTTP", self.otlp_http),
            ("queries over HTTP", self.http),
            ("queries over the PostgreSQL protocol", self.postgres),
            ("queries over Arrow Flight SQL", self.flight),
        ];
        let on = all.into_iter();
        on.filter_map(|(what, address)| Some((what, address?)))
            .collect()
    }
}

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    stop: CancellationToken,
    protocols: JoinSet<Result<()>>,
    queue: CommitQueue,
    deadline: Duration,
}

/// What all protocols share.
struct Common<'a> {
    options: &'a ServeOptions,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    gate: Arc<QueryGate>,
    queue: CommitQueue,
    stop: CancellationToken,
}

impl Server {
    /// Listens at every address, and answers. The lake must have been opened with
    /// [`ServeOptions::apply`].
    pub async fn start(lake: &Lake, options: &ServeOptions) -> Result<Self> {
        // Two providers are compiled in, so that none is the default by itself. One that was
        // chosen already is left.
        let _ = aws_lc_rs::default_provider().install_default();
        let (queue, stop) = (CommitQueue::new(lake), CancellationToken::new());
        let mut protocols = JoinSet::new();
        let mut metrics = Metrics::try_new()?;
        if options.telemetry.own_traces {
            let (own_traces, spans) = OwnTraces::new();
            metrics = metrics.with_own_traces(own_traces);
            let service_name = options.telemetry.service_name.clone();
            let writing = own_traces::write(spans, queue.clone(), service_name, stop.clone());
            protocols.spawn(async move {
                writing.await;
                Ok(())
            });
        }
        let metrics = Arc::new(metrics);
        let common = Common {
            options,
            authority: Arc::new(Authority::new(options.tokens()?)),
            gate: Arc::new(QueryGate::try_new(
                options.query.clone(),
                lake.config().query.threads,
                Arc::clone(&metrics),
            )?),
            metrics,
            queue,
            stop,
        };
        let mut server = Self {
            addresses: Addresses::default(),
            stop: common.stop.clone(),
            protocols,
            queue: common.queue.clone(),
            deadline: options.shutdown.deadline.0,
        };
        // If one address cannot be had, those before are given back by the drop of `server`.
        let started = server.listen(lake, &common).await;
        let (lake, stop) = (lake.clone(), common.stop.clone());
        server.protocols.spawn(async move {
            lake.keep_in_shape(stop.cancelled_owned()).await;
            Ok(())
        });
        if started.is_err() {
            server.stop.cancel();
        }
        started.map(|()| server)
    }

    async fn listen(&mut self, lake: &Lake, common: &Common<'_>) -> Result<()> {
        let options = common.options;
        let door = SpanDoor::new(
            common.queue.clone(),
            Arc::clone(&common.authority),
            options.otlp.max_requests,
            Arc::clone(&common.metrics),
        );
        let max_request = options.otlp.max_request.0;
        if let Some(address) = options.otlp.grpc.0 {
            let incoming = common
                .incoming(("otlp.grpc", address), options.otlp.max_connections, b"h2")
                .await?;
            self.addresses.otlp_grpc = Some(incoming.address());
            let stop = common.stop.clone();
            let service = TraceService::new(door.clone(), max_request);
            self.protocols.spawn(async move {
                tonic::transport::Server::builder()
                    .http2_keepalive_interval(Some(Duration::from_secs(30)))
                    .max_concurrent_streams(256)
                    .add_service(service)
                    .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
                    .await
                    .map_err(|error| Error::internal("the gRPC server ended").with_source(error))
            });
        }
        if let Some(address) = options.otlp.http.0 {
            let incoming = common
                .incoming(
                    ("otlp.http", address),
                    options.otlp.max_connections,
                    b"http/1.1",
                )
                .await?;
            self.addresses.otlp_http = Some(incoming.address());
            let router = otlp_http::router(door, max_request);
            self.serve_http(incoming, router);
        }
        if let Some(address) = options.http.listen.0 {
            let incoming = common
                .incoming(
                    ("http.listen", address),
                    options.http.max_connections,
                    b"http/1.1",
                )
                .await?;
            self.addresses.http = Some(incoming.address());
            let api = common.api(lake).await?;
            self.serve_http(incoming, http::router(Arc::new(api)));
        }
        if let Some(address) = options.postgres.listen.0 {
            self.listen_for_postgres(lake, common, address).await?;
        }
        if let Some(address) = options.flight.listen.0 {
            self.listen_for_flight(lake, common, address).await?;
        }
        Ok(())
    }

    async fn listen_for_flight(
        &mut self,
        lake: &Lake,
        common: &Common<'_>,
        address: SocketAddr,
    ) -> Result<()> {
        let incoming = common
            .incoming(
                ("flight.listen", address),
                common.options.flight.max_connections,
                b"h2",
            )
            .await?;
        self.addresses.flight = Some(incoming.address());
        let session = lake.session_with(common.session_options()).await?;
        let service = FlightSql::try_new(session, Arc::clone(&common.gate))?;
        let authority = Arc::clone(&common.authority);
        let service =
            FlightServiceServer::with_interceptor(service, move |request: tonic::Request<()>| {
                authority.check_grpc(request, Role::Read)
            });
        let stop = common.stop.clone();
        self.protocols.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
                .await
                .map_err(|error| Error::internal("the Flight server ended").with_source(error))
        });
        Ok(())
    }

    async fn listen_for_postgres(
        &mut self,
        lake: &Lake,
        common: &Common<'_>,
        address: SocketAddr,
    ) -> Result<()> {
        let options = common.options;
        let listener = bind("postgres.listen", address).await?;
        self.addresses.postgres = Some(listener.local_addr()?);
        let tls = options.tls.as_ref();
        let tls = tls
            .map(|tls| tls_acceptor(tls, b"postgresql"))
            .transpose()?;
        let session = lake.session_with(common.session_options()).await?;
        let shared = Arc::new(Postgres {
            planner: Planner::try_new(session)?,
            gate: Arc::clone(&common.gate),
            users: Users::new(options.users()?),
            running: Running::default(),
        });
        let stop = common.stop.clone();
        let max_connections = options.postgres.max_connections;
        self.protocols.spawn(postgres::serve(
            listener,
            tls,
            shared,
            max_connections,
            stop,
        ));
        Ok(())
    }

    fn serve_http(&mut self, incoming: Incoming, router: axum::Router) {
        let stop = self.stop.clone();
        self.protocols.spawn(async move {
            axum::serve(incoming, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .map_err(|error| Error::internal("an HTTP server ended").with_source(error))
        });
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Answers until `signal`, or until a protocol fails; then ends in good order: takes nothing
    /// new, ends or commits what is under way, and leaves at the deadline whatever is left.
    pub async fn run_until(mut self, signal: impl Future<Output = ()>) -> Result<()> {
        let failure = tokio::select! {
            () = signal => None,
            ended = self.protocols.join_next() => ended,
        };
        tracing::info!("shutting down");
        self.stop.cancel();
        let protocols = &mut self.protocols;
        let ended = tokio::time::timeout(self.deadline, async {
            while protocols.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!("requests under way were cut off at the deadline");
            self.protocols.abort_all();
        }
        // What was taken in is committed all the same.
        if tokio::time::timeout(self.deadline, self.queue.close())
            .await
            .is_err()
        {
            tracing::error!("a commit did not end; its spans were not acknowledged");
        }
        match failure {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(Error::internal("a protocol stopped").with_source(error)),
            None => Ok(()),
        }
    }
}

impl Common<'_> {
    async fn incoming(
        &self,
        (key, address): (&str, SocketAddr),
        max_connections: usize,
        protocol: &[u8],
    ) -> Result<Incoming> {
        let tls = self.options.tls.as_ref();
        let tls = tls.map(|tls| tls_acceptor(tls, protocol)).transpose()?;
        Incoming::bind((key, address), tls, max_connections, self.stop.clone()).await
    }

    fn session_options(&self) -> SessionOptions {
        SessionOptions {
            only_queries: true,
            statement_memory_bytes: self.options.query.memory.map(|size| size.0),
        }
    }

    async fn api(&self, lake: &Lake) -> Result<Api> {
        Ok(Api {
            lake: lake.clone(),
            session: lake.session_with(self.session_options()).await?,
            gate: Arc::clone(&self.gate),
            authority: Arc::clone(&self.authority),
            metrics: Arc::clone(&self.metrics),
            queue: Some(self.queue.clone()),
            max_request: self.options.http.max_request.0,
            stop: self.stop.clone(),
        })
    }
}
