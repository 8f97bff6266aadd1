//! Taking users in who come from elsewhere, and letting all go elsewhere.

use std::collections::HashMap;

use super::Admin;
use crate::import::Admission;
use crate::ports::{Hasher, PortError};
use crate::{
    Account, Action, Candidate, Importation, ImportedUser, Numbers, Subject, Unimportable, UserId,
    UsernameKey,
};

impl Admin {
    /// Begins to check users who are to be imported.
    pub fn begin_admission(&self, numbers: Numbers) -> Admission {
        Admission::new(numbers, self.ports.clock.now())
    }

    /// Checks the user who stands at `place`, after those who were checked before, without a look at who is here.
    pub fn admit(
        &self,
        admission: &mut Admission,
        hasher: &dyn Hasher,
        place: i64,
        candidate: Candidate,
    ) -> Result<ImportedUser, Unimportable> {
        admission.admit(place, candidate, |hash| hasher.inspect(hash))
    }

    /// What importing each of these would come to as things are, where that is known: nobody knows a number that was
    /// not given yet.
    pub async fn preview_import(
        &self,
        users: &[ImportedUser],
    ) -> Result<Vec<Option<Importation>>, PortError> {
        let names = users.iter().map(|user| user.name.key().clone()).collect();
        let there = self.ports.users.find_by_names(names).await?;
        let there: HashMap<&UsernameKey, &Account> =
            there.iter().map(|account| (account.user.name.key(), account)).collect();
        let last = self.ports.users.last_number().await?;
        let preview = |user: &ImportedUser| match there.get(user.name.key()) {
            Some(account) => Some(user.compared_with(account)),
            None => user.after(last),
        };
        Ok(users.iter().map(preview).collect())
    }

    /// Imports these, and tells of each what it came to. A number of them large enough to be quick, and small enough
    /// for others to get their turns, is some hundred.
    pub async fn import(&self, users: Vec<ImportedUser>) -> Result<Vec<Importation>, PortError> {
        let attempt = self.begin(Action::Import, Subject::Unknown);
        let subjects = users.iter().map(|user| Subject::from(&user.name)).collect();
        let repo = self.ports.users.clone();
        self.recorder
            .finish(
                attempt
                    .commit_each_with(subjects, |attempt| async move { repo.import(users, attempt).await }),
            )
            .await?
    }

    /// Puts on record that all accounts are going to be taken out, hashes included, which is to be done before the
    /// first one is.
    pub async fn begin_export(&self) -> Result<(), PortError> {
        self.begin(Action::Export, Subject::Unknown).record_success().await
    }

    /// The highest number that was given to anybody.
    pub async fn last_number(&self) -> Result<UserId, PortError> {
        self.ports.users.last_number().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockAuditLog, MockHasher, MockUserRepo, Ports, UnusableHash};
    use crate::testing::{admin, ann, audit_stream, broken, noon, ports, username};
    use crate::{Conflict, Outcome, PasswordHash};

    fn coming(name: &str, id: Option<i64>) -> ImportedUser {
        ImportedUser {
            id: id.map(UserId),
            name: username(name),
            password_hash: PasswordHash::new("kept".to_owned()),
            created_at: noon(),
            updated_at: noon(),
            disabled_at: None,
        }
    }

    #[tokio::test]
    async fn the_hasher_says_which_hashes_are_of_use() {
        let mut hasher = MockHasher::new();
        hasher
            .expect_inspect()
            .returning(|hash| if hash.as_str() == "kept" { Ok(()) } else { Err(UnusableHash::Format) });
        let admin = admin(ports());
        let candidate = |name: &str, hash: &str| Candidate {
            id: None,
            username: name.to_owned(),
            password_hash: PasswordHash::new(hash.to_owned()),
            created_at: noon(),
            updated_at: noon(),
            disabled_at: None,
        };

        let mut admission = admin.begin_admission(Numbers::New);

        assert_eq!(
            admin.admit(&mut admission, &hasher, 1, candidate("Ann", "kept")),
            Ok(coming("Ann", None))
        );
        let foreign = admin.admit(&mut admission, &hasher, 2, candidate("bob", "foreign"));
        assert_eq!(foreign, Err(Unimportable::Hash(UnusableHash::Format)));
    }

    #[tokio::test]
    async fn a_preview_tells_of_names_and_numbers_and_changes_nothing() {
        let mut users = MockUserRepo::new();
        users.expect_find_by_names().withf(|names| names.len() == 4).returning(|_| Ok(vec![ann()]));
        users.expect_last_number().returning(|| Ok(UserId(7)));
        let admin = admin(Ports { users: Arc::new(users), ..ports() });
        let later =
            ImportedUser { created_at: noon() + std::time::Duration::from_secs(1), ..coming("ANN", None) };

        let preview = [coming("ann", Some(7)), later, coming("bob", Some(7)), coming("cleo", Some(8))];
        let preview = admin.preview_import(&preview).await.unwrap();

        assert_eq!(
            preview,
            [
                Some(Importation::AlreadyThere),
                Some(Importation::Refused(Conflict::UsernameTaken)),
                Some(Importation::Refused(Conflict::NumberGiven)),
                None
            ]
        );
    }

    #[tokio::test]
    async fn each_who_comes_is_told_of_by_number_and_each_who_is_refused_by_name() {
        let outcomes = || {
            let refused = Importation::Refused(Conflict::UsernameTaken);
            vec![Importation::Done(UserId(7)), Importation::AlreadyThere, refused]
        };
        let mut users = MockUserRepo::new();
        users
            .expect_import()
            .withf(|users, attempt| users.len() == 3 && attempt.action == Action::Import)
            .returning(move |_, _| Ok(outcomes()));
        let (audit_stream, events) = audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let users = ["ann", "bob", "cleo"].map(|name| coming(name, None)).to_vec();
        let imported = admin.import(users).await.unwrap();

        assert_eq!(imported, outcomes());
        assert_eq!(
            events.taken(),
            [
                (Action::Import, Outcome::Success, Subject::User(UserId(7))),
                (Action::Import, Outcome::Refused("username_taken"), (&username("cleo")).into()),
            ]
        );
    }

    #[tokio::test]
    async fn an_import_that_failed_is_told_of_once() {
        let mut users = MockUserRepo::new();
        users.expect_import().returning(|_, _| Err(broken()));
        let (audit_stream, events) = audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let users = vec![coming("ann", None), coming("bob", None)];
        let failed = admin.import(users).await;

        assert!(failed.is_err());
        assert_eq!(events.taken(), [(Action::Import, Outcome::Failed, Subject::Unknown)]);
    }

    #[tokio::test]
    async fn an_export_is_on_record_before_it_begins_or_does_not() {
        for is_kept in [true, false] {
            let mut audit_log = MockAuditLog::new();
            audit_log.expect_append().once().returning(move |events| {
                let [event] = &events[..] else { panic!("{events:?}") };
                assert_eq!((event.attempt.action, event.outcome), (Action::Export, Outcome::Success));
                if is_kept { Ok(()) } else { Err(broken()) }
            });
            let (audit_stream, events) = audit_stream();
            let admin = admin(Ports { audit_log: Arc::new(audit_log), audit_stream, ..ports() });

            assert_eq!(admin.begin_export().await.is_ok(), is_kept);

            let outcome = if is_kept { Outcome::Success } else { Outcome::Failed };
            assert_eq!(events.taken(), [(Action::Export, outcome, Subject::Unknown)]);
        }
    }
}
