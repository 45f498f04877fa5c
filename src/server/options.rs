//! How a server runs: one TOML file, over which go variables and flags.
//!
//! Read [`ServeOptions`]; its fields are the keys of the file. What cannot be is refused before
//! anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::option_values::{Listen, Secret, Size, Time};
use crate::config::{self, Config};
use crate::error::{Error, ErrorKind, Result};

/// What variables begin with; `TRACELAKE_HTTP__LISTEN` is the key `http.listen`.
const VARIABLE_PREFIX: &str = "TRACELAKE_";

/// Connections that a listener has at the most, unless told otherwise: of all listeners together
/// fewer than a process may have files open, by the default of most systems.
const MAX_CONNECTIONS: usize = 150;

/// Every option of a server, with its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeOptions {
    /// Queries over HTTP, health and metrics.
    pub http: HttpOptions,
    /// Spans in.
    pub otlp: OtlpOptions,
    /// Queries over the PostgreSQL protocol.
    pub postgres: PostgresOptions,
    /// Queries over Arrow Flight SQL.
    pub flight: FlightOptions,
    /// Certificate and key of every listener.
    pub tls: Option<TlsOptions>,
    /// Who may do what.
    pub auth: AuthOptions,
    /// What queries may use.
    pub query: QueryOptions,
    /// How the lake is kept in shape.
    pub maintenance: MaintenanceOptions,
    /// What the server tells of itself.
    pub telemetry: TelemetryOptions,
    /// How the server ends.
    pub shutdown: ShutdownOptions,
}

/// Queries over HTTP, health and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Where to listen.
    pub listen: Listen,
    /// Bytes of a request's body at the most.
    pub max_request: Size,
    /// Connections at the most; more wait.
    pub max_connections: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            listen: Listen::local(4320),
            max_request: Size(4 << 20),
            max_connections: MAX_CONNECTIONS,
        }
    }
}

/// Spans in: OTLP over gRPC and HTTP, Zipkin over HTTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpOptions {
    /// Where to listen for gRPC.
    pub grpc: Listen,
    /// Where to listen for HTTP.
    pub http: Listen,
    /// Bytes of a request at the most, as sent.
    pub max_request: Size,
    /// Connections of each listener at the most; more wait.
    pub max_connections: usize,
    /// Requests under way at the most; more are refused, to be sent again.
    pub max_requests: usize,
    /// How long a request waits for others to share its commit, 500 ms at the most.
    pub max_delay: Time,
    /// Bytes of requests that are read and of spans that wait for a commit, of all listeners
    /// together; more are refused, to be sent again.
    pub pending: Size,
    /// The length to which text values of attributes are cut; 0 leaves them.
    pub max_attribute: usize,
}

impl Default for OtlpOptions {
    fn default() -> Self {
        let commit = config::CommitConfig::default();
        Self {
            grpc: Listen::local(4317),
            http: Listen::local(4318),
            max_request: Size(16 << 20),
            max_connections: MAX_CONNECTIONS,
            max_requests: 256,
            max_delay: Time(commit.max_delay),
            pending: Size(commit.pending_bytes),
            max_attribute: 0,
        }
    }
}

/// Queries over the PostgreSQL protocol.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresOptions {
    /// Where to listen.
    pub listen: Listen,
    /// Connections at the most; more are refused.
    pub max_connections: usize,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            listen: Listen::local(5432),
            max_connections: MAX_CONNECTIONS,
        }
    }
}

/// Queries over Arrow Flight SQL.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlightOptions {
    /// Where to listen.
    pub listen: Listen,
    /// Connections at the most; more wait.
    pub max_connections: usize,
}

impl Default for FlightOptions {
    fn default() -> Self {
        Self {
            listen: Listen::local(4321),
            max_connections: MAX_CONNECTIONS,
        }
    }
}

/// Certificate and key of every listener, as PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// The certificate, followed by those it is signed with.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Who may do what. Without tokens and users, everybody may do everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthOptions {
    /// Whether to listen beyond this machine without asking who comes.
    pub allow_anonymous: bool,
    /// Bearer tokens for HTTP, gRPC and Flight SQL.
    pub tokens: Vec<TokenOptions>,
    /// Users of the PostgreSQL protocol; they may query.
    pub users: Vec<UserOptions>,
}

/// One user of the PostgreSQL protocol.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserOptions {
    /// The name.
    pub name: String,
    /// The password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file that holds the password instead.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// One bearer token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenOptions {
    /// What logs call its bearer.
    pub name: String,
    /// The token itself.
    #[serde(default)]
    pub token: Option<Secret>,
    /// A file that holds the token instead.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What its bearer may do.
    pub roles: Vec<Role>,
}

/// What someone may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Query.
    Read,
    /// Send spans.
    Write,
}

/// What queries may use.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryOptions {
    /// Queries that run at once; 0 for two a core.
    pub max_concurrent: usize,
    /// Queries that wait for their turn at the most; more are refused.
    pub max_queued: usize,
    /// How long a query waits for its turn.
    pub max_wait: Time,
    /// How long a query may run.
    pub timeout: Time,
    /// Memory one query may use; as much as all where not said.
    pub memory: Option<Size>,
    /// Rows of a result at the most; 0 for any number.
    pub max_rows: u64,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            max_concurrent: 0,
            max_queued: 256,
            max_wait: Time(Duration::from_secs(30)),
            timeout: Time(Duration::from_secs(60)),
            memory: None,
            max_rows: 0,
        }
    }
}

/// How the lake is kept in shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceOptions {
    /// The wait between two looks for what is due.
    pub interval: Time,
    /// Whether hours are compacted.
    pub compact: bool,
    /// How long nobody must have written to an hour before it gets its final form.
    pub quiet: Time,
    /// Files as ingested that an hour still written to may have before they are merged.
    pub max_ingested_files: usize,
    /// The age from which hours are dropped; none where not said.
    pub retention_age: Option<Time>,
    /// The bytes of the lake from which the oldest hours are dropped; none where not said.
    pub retention_size: Option<Size>,
    /// Whether files that no longer belong to the lake are deleted.
    pub vacuum: bool,
    /// How long they are kept for queries that still read them, ten minutes at the least.
    pub vacuum_age: Time,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        let config = config::MaintenanceConfig::default();
        Self {
            interval: Time(config.interval),
            compact: config.compact,
            quiet: Time(config.quiet),
            max_ingested_files: config.max_ingested_files,
            retention_age: None,
            retention_size: None,
            vacuum: config.vacuum,
            vacuum_age: Time(config.vacuum_age),
        }
    }
}

/// What the server tells of itself, besides metrics and logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryOptions {
    /// Whether each query and each request with spans leaves a span in the lake.
    pub own_traces: bool,
    /// The service of these spans.
    pub service_name: String,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            own_traces: false,
            service_name: "tracelake".to_string(),
        }
    }
}

/// How the server ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownOptions {
    /// How long requests under way may take to end.
    pub deadline: Time,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self {
            deadline: Time(Duration::from_secs(20)),
        }
    }
}

impl ServeOptions {
    /// The options of a file's text (empty for none), over which go variables that begin with
    /// `TRACELAKE_` and have `__` between the parts of a key, over which go `settings` of the
    /// form `key=value`.
    pub fn parse(
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
        settings: &[String],
    ) -> Result<Self> {
        let mut table: toml::Table = text.parse().map_err(|error| {
            Error::invalid_input(format!("the configuration is no TOML: {error}"))
        })?;
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            if key.contains("__") {
                set(&mut table, &key.to_lowercase().replace("__", "."), &value)?;
            }
        }
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::invalid_input(format!("use KEY=VALUE; setting=`{setting}`"))
            })?;
            set(&mut table, key.trim(), value.trim())?;
        }
        let options: Self = table.try_into().map_err(|error: toml::de::Error| {
            let message = error.to_string();
            let message = message.trim().replace('\n', " ");
            Error::invalid_input(format!("the configuration is wrong: {message}"))
        })?;
        options.validate()?;
        Ok(options)
    }

    /// Whether what the options name can be used: secrets, certificates and keys.
    pub fn check(&self) -> Result<()> {
        self.tokens()?;
        self.users()?;
        if let Some(tls) = &self.tls {
            super::listener::tls_acceptor(tls, b"h2")?;
        }
        Ok(())
    }

    /// The engine's options with what a server's add to them.
    pub fn apply(&self, config: &mut Config) {
        config.commit.max_delay = self.otlp.max_delay.0;
        config.commit.pending_bytes = self.otlp.pending.0;
        config.commit.max_attribute_bytes =
            (self.otlp.max_attribute > 0).then_some(self.otlp.max_attribute);
        let given = &self.maintenance;
        config.maintenance = config::MaintenanceConfig {
            interval: given.interval.0,
            compact: given.compact,
            quiet: given.quiet.0,
            max_ingested_files: given.max_ingested_files,
            retention_age: given.retention_age.map(|age| age.0),
            retention_bytes: given.retention_size.map(|size| size.0 as u64),
            vacuum: given.vacuum,
            vacuum_age: given.vacuum_age.0,
            ..config::MaintenanceConfig::default()
        };
    }

    /// Every listener with its name and address.
    pub(super) fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let all = [
            ("http.listen", self.http.listen),
            ("otlp.grpc", self.otlp.grpc),
            ("otlp.http", self.otlp.http),
            ("postgres.listen", self.postgres.listen),
            ("flight.listen", self.flight.listen),
        ];
        let on = all
            .into_iter()
            .filter_map(|(name, listen)| Some((name, listen.0?)));
        on.collect()
    }

    fn validate(&self) -> Result<()> {
        if self.listeners().is_empty() {
            return Err(Error::invalid_input("every listener is off; turn one on"));
        }
        if self.otlp.max_delay.0 > Duration::from_millis(500) {
            return Err(Error::invalid_input(
                "spans may wait for their commit 500ms at the most; key=`otlp.max_delay`",
            ));
        }
        if self.maintenance.vacuum_age.0 < Duration::from_secs(600) {
            return Err(Error::invalid_input(
                "queries that run may still read what is dropped: keep it for ten minutes at \
                 the least; key=`maintenance.vacuum_age`",
            ));
        }
        for token in &self.auth.tokens {
            let name = &token.name;
            if token.token.is_some() == token.token_file.is_some() {
                return Err(Error::invalid_input(format!(
                    "give a token either `token` or `token_file`; name=`{name}`"
                )));
            }
            if token.roles.is_empty() {
                return Err(Error::invalid_input(format!(
                    "a token without a role may do nothing; name=`{name}`"
                )));
            }
        }
        for user in &self.auth.users {
            if user.password.is_some() == user.password_file.is_some() {
                return Err(Error::invalid_input(format!(
                    "give a user either `password` or `password_file`; name=`{}`",
                    user.name
                )));
            }
        }
        for (key, address) in self.listeners() {
            let (known, what) = match key {
                "postgres.listen" => (!self.auth.users.is_empty(), "auth.users"),
                _ => (!self.auth.tokens.is_empty(), "auth.tokens"),
            };
            if !known && !self.auth.allow_anonymous && !address.ip().is_loopback() {
                return Err(Error::invalid_input(format!(
                    "without authentication, tracelake listens on loopback addresses only; add \
                     `{what}`, or set `auth.allow_anonymous` where the network may be trusted; \
                     key=`{key}`"
                )));
            }
        }
        Ok(())
    }

    /// The tokens, those in files read.
    pub(super) fn tokens(&self) -> Result<Vec<(String, Secret, Vec<Role>)>> {
        let tokens = self.auth.tokens.iter().map(|token| {
            let secret = secret_of(token.token.as_ref(), token.token_file.as_ref())?;
            if secret.expose().len() < 8 {
                return Err(Error::invalid_input(format!(
                    "a token has at least eight characters; name=`{}`",
                    token.name
                )));
            }
            Ok((token.name.clone(), secret, token.roles.clone()))
        });
        tokens.collect()
    }

    /// The users with their passwords, those in files read.
    pub(super) fn users(&self) -> Result<Vec<(String, Secret)>> {
        let users = self.auth.users.iter().map(|user| {
            let password = secret_of(user.password.as_ref(), user.password_file.as_ref())?;
            Ok((user.name.clone(), password))
        });
        users.collect()
    }
}

/// The secret that is given, or that stands in a file.
fn secret_of(given: Option<&Secret>, file: Option<&PathBuf>) -> Result<Secret> {
    match (given, file) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Some(path)) => read_secret(path),
        (None, None) => Err(Error::internal("a secret that was not checked")),
    }
}

/// A secret that stands alone in a file.
fn read_secret(path: &PathBuf) -> Result<Secret> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let error = Error::from(error);
        let message = format!("cannot read a secret; path=`{}`", path.display());
        let kind = match error.kind() {
            ErrorKind::Internal => ErrorKind::InvalidInput,
            kind => kind,
        };
        Error::new(kind, message).with_source(error)
    })?;
    Ok(Secret::from(text.trim().to_string()))
}

/// Sets one key, given with dots. What reads as a TOML value is one, anything else is text.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let entry = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| {
            Error::invalid_input(format!("this key has no keys below it; key=`{part}`"))
        })?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, variables: &[(&str, &str)], settings: &[&str]) -> Result<ServeOptions> {
        let variables = variables
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()));
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        ServeOptions::parse(text, variables, &settings)
    }

    #[test]
    fn flags_go_over_variables_and_those_over_the_file() {
        let text = "[http]\nlisten = \"127.0.0.1:1\"\n[query]\ntimeout = \"5s\"\nmax_rows = 7";
        let variables = [
            ("TRACELAKE_HTTP__LISTEN", "127.0.0.1:2"),
            ("TRACELAKE_LAKE", "x"),
            ("TRACELAKE_QUERY__MEMORY", "1GiB"),
        ];
        let options = parsed(text, &variables, &["http.listen=[::1]:3"]).unwrap();
        assert_eq!(options.http.listen.0.unwrap().port(), 3);
        assert_eq!(options.query.timeout.0, Duration::from_secs(5));
        assert_eq!(options.query.memory, Some(Size(1 << 30)));
        assert_eq!(options.query.max_rows, 7);
        assert_eq!(parsed("", &[], &[]).unwrap().otlp.grpc, Listen::local(4317));
        let off = parsed(
            "",
            &[],
            &[
                "otlp.grpc=off",
                "otlp.http=off",
                "postgres.listen=off",
                "flight.listen=off",
            ],
        )
        .unwrap();
        assert_eq!(off.listeners().len(), 1);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_key() {
        for (text, said) in [
            ("nonsense", "TOML"),
            ("[http]\nlistn = 1", "listn"),
            ("[http]\nlisten = \"here\"", "address"),
            ("[http]\nlisten = \"0.0.0.0:80\"", "allow_anonymous"),
            ("[otlp]\nmax_delay = \"2s\"", "500ms"),
            ("[query]\ntimeout = \"soon\"", "duration"),
            (
                "[[auth.tokens]]\nname = \"a\"\nroles = [\"read\"]",
                "token_file",
            ),
            (
                "[[auth.tokens]]\nname = \"a\"\ntoken = \"x\"\nroles = [\"god\"]",
                "god",
            ),
        ] {
            let error = parsed(text, &[], &[]).unwrap_err();
            assert!(
                error.message().contains(said),
                "{text}: {}",
                error.message()
            );
        }
        assert!(
            parsed(
                "",
                &[],
                &["auth.allow_anonymous=true", "http.listen=0.0.0.0:80"]
            )
            .is_ok()
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = "[[auth.tokens]]\nname = \"a\"\ntoken = \"verysecret\"\nroles = [\"read\"]";
        let options = parsed(text, &[], &[]).unwrap();
        assert!(!format!("{options:?}").contains("verysecret"));
        assert_eq!(options.tokens().unwrap()[0].1.expose(), "verysecret");
    }
}
