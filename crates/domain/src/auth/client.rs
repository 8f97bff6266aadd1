//! Recognising a backend that asks about tokens.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::Auth;
use crate::{Action, Origin, Outcome, Subject};

/// A backend that was recognised. What is for backends alone asks for one, and there is no other way to have it.
#[derive(Debug)]
pub struct Client(());

/// What a backend shows of itself.
pub struct ClientCredentials {
    /// The identifier an operator gave it.
    pub id: String,
    /// What proves that it is the one.
    pub secret: Zeroizing<String>,
}

/// Nobody is configured of this identifier and this secret. Whoever answers must not tell which of them is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client is not known by this secret")]
pub struct UnknownClient;

impl Auth {
    /// The backend that these credentials are of.
    pub fn recognise_client(
        &self,
        origin: Origin,
        credentials: &ClientCredentials,
    ) -> Result<Client, UnknownClient> {
        if self.ports.clients.admits(&credentials.id, &credentials.secret) {
            return Ok(Client(()));
        }
        let attempt = self.attempt(Action::RecogniseClient, Subject::Unknown, origin);
        attempt.fail(Outcome::Refused("unknown_client_or_wrong_secret"));
        Err(UnknownClient)
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCredentials(..)")
    }
}

#[cfg(test)]
impl Client {
    pub(super) fn recognised() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockClients, Ports};
    use crate::testing::{self, auth, origin, ports};

    fn credentials(id: &str, secret: &str) -> ClientCredentials {
        ClientCredentials { id: id.to_owned(), secret: secret.to_owned().into() }
    }

    #[test]
    fn a_backend_is_recognised_by_both_and_a_refusal_alone_is_put_on_record() {
        let mut clients = MockClients::new();
        clients.expect_admits().returning(|id, secret| (id, secret) == ("shop", "its secret"));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { clients: Arc::new(clients), audit_stream, ..ports() });

        assert!(auth.recognise_client(origin(), &credentials("shop", "its secret")).is_ok());
        assert_eq!(events.taken(), []);
        for (id, secret) in [("shop", "another"), ("bank", "its secret")] {
            assert_eq!(auth.recognise_client(origin(), &credentials(id, secret)).unwrap_err(), UnknownClient);
            let refused = Outcome::Refused("unknown_client_or_wrong_secret");
            assert_eq!(events.taken(), [(Action::RecogniseClient, refused, Subject::Unknown)]);
        }
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", credentials("shop", "its secret")), "ClientCredentials(..)");
    }
}
