//! Who may connect over the PostgreSQL protocol, by SCRAM-SHA-256.
//!
//! Read [`Users`] and [`Startup`].

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::SASLAuthStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::scram::{
    SCRAM_ITERATIONS, ScramAuth, gen_salted_password,
};
use datafusion_postgres::pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::Sink;

use super::option_values::Secret;

/// Name, salt, salted password.
type User = (String, Vec<u8>, Vec<u8>);

/// The users there are; without any, everybody may connect.
#[derive(Clone, Default)]
pub(super) struct Users {
    known: Arc<Vec<User>>,
}

impl Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.known.iter().map(|(name, _, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Users {
    pub(super) fn new(users: Vec<(String, Secret)>) -> Self {
        let known = users.into_iter().map(|(name, password)| {
            let salt = datafusion_postgres::pgwire::api::auth::sasl::scram::random_nonce();
            let salt = salt.into_bytes();
            let salted = gen_salted_password(password.expose(), &salt, SCRAM_ITERATIONS);
            (name, salt, salted)
        });
        Self {
            known: Arc::new(known.collect()),
        }
    }
}

#[async_trait]
impl AuthSource for Users {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let found = self
            .known
            .iter()
            .find(|(name, _, _)| Some(name.as_str()) == login.user());
        match found {
            Some((_, salt, salted)) => Ok(Password::new(Some(salt.clone()), salted.clone())),
            None => Err(refused("password authentication failed")),
        }
    }
}

fn refused(message: &str) -> PgWireError {
    let info = ErrorInfo::new("FATAL".into(), "28P01".into(), message.into());
    PgWireError::UserError(Box::new(info))
}

/// The start of one connection.
pub(super) struct Startup {
    needs_tls: bool,
    scram: Option<SASLAuthStartupHandler<DefaultServerParameterProvider>>,
}

impl Startup {
    pub(super) fn new(users: &Users, needs_tls: bool) -> Self {
        let scram = (!users.known.is_empty()).then(|| {
            let parameters = Arc::new(DefaultServerParameterProvider::default());
            SASLAuthStartupHandler::new(parameters)
                .with_scram(ScramAuth::new(Arc::new(users.clone())))
        });
        Self { needs_tls, scram }
    }
}

/// Lets everybody in.
struct Open;

impl NoopStartupHandler for Open {}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if self.needs_tls && !client.is_secure() {
            return Err(refused(
                "this server takes encrypted connections only; use sslmode=require",
            ));
        }
        match &self.scram {
            Some(scram) => scram.on_startup(client, message).await,
            None => Open.on_startup(client, message).await,
        }
    }
}
