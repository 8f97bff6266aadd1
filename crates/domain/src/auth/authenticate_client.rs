//! Recognising a backend that asks about tokens.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::Auth;
use crate::{Action, Origin, Outcome, Subject};

/// A backend that was recognised. What is for backends alone asks for one, and there is no other way to have it.
#[derive(Debug)]
pub struct Client(());

/// An identifier and the secret that proves it.
#[derive(Clone)]
pub struct ClientKey {
    /// The identifier an operator gave the backend.
    pub id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

/// What a backend shows of itself, in both readings of HTTP Basic. One of them has to be right.
pub struct ClientCredentials {
    /// The pair as it came (RFC 7617).
    pub plain: ClientKey,
    /// The pair that it stands for if both parts are encoded as in a form (RFC 6749, section 2.3.1).
    pub form_decoded: ClientKey,
}

/// Nobody is configured of this identifier and this secret. Whoever answers must not tell which of them is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client is not known by this secret")]
pub struct UnknownClient;

impl Auth {
    /// The backend that these credentials are of.
    pub fn authenticate_client(
        &self,
        origin: Origin,
        credentials: &ClientCredentials,
    ) -> Result<Client, UnknownClient> {
        let admits = |key: &ClientKey| self.ports.clients.admits(&key.id, &key.secret);
        // Both are tried, whichever it is: how long it takes must not tell which one came close.
        if admits(&credentials.plain) | admits(&credentials.form_decoded) {
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

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}

#[cfg(test)]
impl Client {
    pub(super) fn authenticated() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ports::{MockClients, Ports};
    use crate::testing::{self, auth, origin, ports};

    fn key(id: &str, secret: &str) -> ClientKey {
        ClientKey { id: id.to_owned(), secret: secret.to_owned().into() }
    }

    fn credentials(id: &str, secret: &str) -> ClientCredentials {
        ClientCredentials { plain: key(id, secret), form_decoded: key(id, secret) }
    }

    #[test]
    fn a_backend_is_recognised_by_both_and_a_refusal_alone_is_put_on_record() {
        let mut clients = MockClients::new();
        clients.expect_admits().returning(|id, secret| (id, secret) == ("shop", "its secret"));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { clients: Arc::new(clients), audit_stream, ..ports() });

        assert!(auth.authenticate_client(origin(), &credentials("shop", "its secret")).is_ok());
        assert_eq!(events.taken(), []);
        for (id, secret) in [("shop", "another"), ("bank", "its secret")] {
            assert_eq!(
                auth.authenticate_client(origin(), &credentials(id, secret)).unwrap_err(),
                UnknownClient
            );
            let refused = Outcome::Refused("unknown_client_or_wrong_secret");
            assert_eq!(events.taken(), [(Action::RecogniseClient, refused, Subject::Unknown)]);
        }
    }

    #[test]
    fn either_reading_of_basic_recognises_after_equal_work() {
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let mut clients = MockClients::new();
        clients.expect_admits().returning(move |_, secret| {
            *count.lock().unwrap() += 1;
            secret == "right"
        });
        let (audit_stream, _) = testing::audit_stream();
        let auth = auth(Ports { clients: Arc::new(clients), audit_stream, ..ports() });

        for (plain, form_decoded, is_known) in [
            ("right", "wrong", true),
            ("wrong", "right", true),
            ("right", "right", true),
            ("wrong", "wrong", false),
        ] {
            let shown =
                ClientCredentials { plain: key("shop", plain), form_decoded: key("shop", form_decoded) };
            assert_eq!(
                auth.authenticate_client(origin(), &shown).is_ok(),
                is_known,
                "{plain} {form_decoded}"
            );
            assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), 2, "{plain} {form_decoded}");
        }
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", key("shop", "its secret")), "ClientKey(..)");
        assert_eq!(format!("{:?}", credentials("shop", "its secret")), "ClientCredentials(..)");
    }
}
