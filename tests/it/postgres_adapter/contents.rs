use domain::ports::{AuditLog as _, Contents as _, Insertion, NewUser, PortError, UserRepo};
use domain::{CarryOverError, Kind, PasswordHash, UserId, Username, carry_over};
use jiff::Timestamp;

use crate::support::audit_fixtures::tried;
use crate::support::postgres::fresh;

#[tokio::test]
async fn whoever_signs_up_during_a_copy_gets_the_number_after_those_that_were_copied() {
    let (source, target) = (fresh(), fresh());
    sign_up(&*source, "ann").await;
    let elsewhere = target.another();
    let mut view = source.snapshot().await.unwrap();
    let intake = target.intake().await.unwrap().unwrap();

    let mut watch = |_| ();
    let (copied, ()) = tokio::join!(carry_over(&mut *view, intake, &mut watch), sign_up(&*elsewhere, "bob"));

    copied.unwrap();
    let there = target.list(UserId(0), 9).await.unwrap();
    let names: Vec<_> = there.iter().map(|it| (it.user.id, it.user.name.as_typed())).collect();
    assert_eq!(names, [(UserId(1), "ann"), (UserId(2), "bob")]);
    let head = source.head().await.unwrap();
    assert_eq!(target.inspect(Some(head)).await.unwrap().unwrap().number, head.number + 1);
}

#[tokio::test]
async fn a_copy_that_reads_otherwise_than_it_was_written_is_undone() {
    let (source, target) = (fresh(), fresh());
    sign_up(&*source, "ann").await;
    target.tamper(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.password_hash := 'another'; RETURN NEW; END $$; \
         CREATE TRIGGER spoiling BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION spoil()",
    );
    let mut view = source.snapshot().await.unwrap();
    let intake = target.intake().await.unwrap().unwrap();

    let undone = carry_over(&mut *view, intake, &mut |_| ()).await;

    assert!(matches!(undone, Err(CarryOverError::Differs { kind: Kind::Users, .. })), "{undone:?}");
    assert_eq!(target.list(UserId(0), 9).await.unwrap(), []);
}

#[tokio::test]
async fn there_is_no_view_of_a_log_that_is_never_sealed_to_its_end() {
    let source = fresh();
    source.tamper(
        "CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER hindering BEFORE UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION hinder()",
    );
    sign_up(&*source, "ann").await;

    let Err(PortError::Unavailable(why)) = source.snapshot().await else { panic!("a view") };

    assert!(why.to_string().contains("stop them first"), "{why}");
}

async fn sign_up(store: &impl UserRepo, name: &str) {
    let new = NewUser {
        name: Username::parse(name).unwrap(),
        password_hash: PasswordHash::new("kept".to_owned()),
        at: Timestamp::UNIX_EPOCH,
    };
    let done = store.insert(new, tried(Timestamp::UNIX_EPOCH)).await.unwrap();
    assert!(matches!(done, Insertion::Done(_)));
}
