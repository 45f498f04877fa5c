//! Who may do what, by bearer token.
//!
//! Read [`Authority`].

use subtle::ConstantTimeEq;
use tonic::{Request, Status};

use super::option_values::Secret;
use super::options::Role;

/// Knows the tokens.
#[derive(Debug)]
pub(super) struct Authority {
    tokens: Vec<(String, Secret, Vec<Role>)>,
}

/// Why someone may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// There is no token, or nobody knows it.
    Unknown,
    /// Its bearer may not do this.
    Forbidden,
}

impl Denial {
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Unknown => "a bearer token is needed, and one that is known",
            Self::Forbidden => "the bearer of this token may not do this",
        }
    }
}

impl Denial {
    /// The answer of a gRPC server.
    pub(super) fn status(self) -> Status {
        match self {
            Self::Unknown => Status::unauthenticated(self.message()),
            Self::Forbidden => Status::permission_denied(self.message()),
        }
    }
}

impl Authority {
    pub(super) fn new(tokens: Vec<(String, Secret, Vec<Role>)>) -> Self {
        Self { tokens }
    }

    /// The same for a gRPC request.
    pub(super) fn check_grpc(
        &self,
        request: Request<()>,
        role: Role,
    ) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization");
        let header = header.and_then(|value| value.to_str().ok());
        match self.check(header, role) {
            Ok(()) => Ok(request),
            Err(denial) => Err(denial.status()),
        }
    }

    /// Whether the value of an `authorization` header lets its sender do what `role` may.
    /// Without any token known, everybody may.
    pub(super) fn check(&self, header: Option<&str>, role: Role) -> Result<(), Denial> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let (scheme, given) = header
            .and_then(|header| header.split_once(' '))
            .ok_or(Denial::Unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denial::Unknown);
        }
        let given = given.trim().as_bytes();
        let mut found = None;
        // All are compared, each in constant time, so that the time says nothing.
        for (_, secret, roles) in &self.tokens {
            if bool::from(secret.expose().as_bytes().ct_eq(given)) {
                found = Some(roles);
            }
        }
        match found {
            Some(roles) if roles.contains(&role) => Ok(()),
            Some(_) => Err(Denial::Forbidden),
            None => Err(Denial::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_its_roles_say() {
        let secret = Secret::from("0123456789".to_string());
        let authority = Authority::new(vec![("a".into(), secret, vec![Role::Read])]);
        let check = |header, role| authority.check(header, role);
        assert_eq!(check(Some("Bearer 0123456789"), Role::Read), Ok(()));
        assert_eq!(
            check(Some("bearer 0123456789"), Role::Write),
            Err(Denial::Forbidden)
        );
        for header in [
            None,
            Some("Bearer"),
            Some("Bearer 01234567890"),
            Some("Basic 0123456789"),
        ] {
            assert_eq!(
                check(header, Role::Read),
                Err(Denial::Unknown),
                "{header:?}"
            );
        }
        assert_eq!(Authority::new(Vec::new()).check(None, Role::Write), Ok(()));
    }
}
