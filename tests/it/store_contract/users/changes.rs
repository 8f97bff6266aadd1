//! What an operator changes of an account.

use super::*;

#[tokio::test]
async fn a_new_password_raises_the_epoch_and_leaves_the_rest() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;
    insert(&*store, "bob").await;
    store.disable(key("ann"), tried(time(1))).await.unwrap();
    let (ann, bob) = (account(&*store, "ann").await, account(&*store, "bob").await);

    let change = store.set_password(key("ann"), hash("changed"), tried(time(2))).await.unwrap();

    let changed = Account {
        password_hash: hash("changed"),
        credentials_epoch: ann.credentials_epoch + 1,
        user: User { updated_at: time(2), ..ann.user },
        ..ann
    };
    assert_eq!(change, Change::Done(changed.clone()));
    assert_eq!(account(&*store, "ann").await, changed);
    assert_eq!(account(&*store, "bob").await, bob);
}

#[tokio::test]
async fn no_change_of_password_is_lost_among_many() {
    let store = super::super::fresh();
    let other = store.another();
    insert(&*store, "ann").await;

    let changes = join_all((0..20).map(|n| {
        let store = if n % 2 == 0 { &store } else { &other };
        store.set_password(key("ann"), hash(&n.to_string()), tried(time(1)))
    }))
    .await;

    let mut epochs: Vec<i64> =
        changes.into_iter().map(|change| done(change.unwrap()).credentials_epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=20).collect::<Vec<_>>());
    assert_eq!(account(&*store, "ann").await.credentials_epoch, 20);
}

#[tokio::test]
async fn a_disabled_account_is_disabled_since_it_first_was() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;
    insert(&*store, "bob").await;
    let (ann, bob) = (account(&*store, "ann").await, account(&*store, "bob").await);

    let first = store.disable(key("ann"), tried(time(1))).await.unwrap();
    let second = store.disable(key("ann"), tried(time(2))).await.unwrap();

    let disabled =
        Account { disabled_at: Some(time(1)), user: User { updated_at: time(1), ..ann.user }, ..ann };
    assert_eq!(first, Change::Done(disabled.clone()));
    assert_eq!(second, first);
    assert_eq!(account(&*store, "ann").await, disabled);
    assert_eq!(account(&*store, "bob").await, bob);
}

#[tokio::test]
async fn an_enabled_account_stays_as_it_is() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;
    let before = account(&*store, "ann").await;

    let change = store.enable(key("ann"), tried(time(1))).await.unwrap();

    assert_eq!(change, Change::Done(before.clone()));
    assert_eq!(account(&*store, "ann").await, before);
}

#[tokio::test]
async fn a_disabled_account_can_be_enabled_and_disabled_anew() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;
    store.disable(key("ann"), tried(time(1))).await.unwrap();

    let enabled = done(store.enable(key("ann"), tried(time(2))).await.unwrap());
    let disabled = done(store.disable(key("ann"), tried(time(3))).await.unwrap());

    assert_eq!((enabled.disabled_at, enabled.user.updated_at), (None, time(2)));
    assert_eq!((disabled.disabled_at, disabled.user.updated_at), (Some(time(3)), time(3)));
    assert_eq!(account(&*store, "ann").await, disabled);
}

#[tokio::test]
async fn a_deleted_account_is_answered_as_it_last_was_and_gone() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    insert(&*store, "bob").await;
    store.disable(key("ann"), tried(time(1))).await.unwrap();
    let (ann, bob) = (account(&*store, "ann").await, account(&*store, "bob").await);

    assert_eq!(store.delete(key("ann"), tried(time(0))).await.unwrap(), Change::Done(ann));

    assert_eq!(store.find(user.id).await.unwrap(), None);
    assert_eq!(store.find_by_name(key("ann")).await.unwrap(), None);
    assert_eq!(all(&*store).await, [bob]);
}

#[tokio::test]
async fn a_deleted_name_is_free_and_its_number_is_not() {
    let store = super::super::fresh();
    let mut numbers = vec![insert(&*store, "ann").await.id];

    for _ in 0..3 {
        store.delete(key("ann"), tried(time(0))).await.unwrap();
        numbers.push(insert(&*store, "ann").await.id);
    }

    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

#[tokio::test]
async fn of_ten_who_delete_one_account_one_does() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;

    let changes = join_all((0..10).map(|_| store.delete(key("ann"), tried(time(0))))).await;

    let done = changes.iter().filter(|change| matches!(change, Ok(Change::Done(_)))).count();
    let late = changes.iter().filter(|change| matches!(change, Ok(Change::UnknownUser))).count();
    assert_eq!((done, late), (1, 9));
}

#[tokio::test]
async fn an_account_that_nobody_has_cannot_be_changed() {
    let store = super::super::fresh();
    insert(&*store, "ann").await;
    let before = all(&*store).await;

    assert_eq!(store.set_password(key("bob"), hash("x"), tried(time(1))).await.unwrap(), Change::UnknownUser);
    assert_eq!(store.disable(key("bob"), tried(time(1))).await.unwrap(), Change::UnknownUser);
    assert_eq!(store.enable(key("bob"), tried(time(1))).await.unwrap(), Change::UnknownUser);
    assert_eq!(store.delete(key("bob"), tried(time(0))).await.unwrap(), Change::UnknownUser);

    assert_eq!(all(&*store).await, before);
}
