//! What a user changes of their own account.

use super::*;

#[tokio::test]
async fn another_name_is_the_only_one_and_the_rest_stays() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    open(&*store, login(user.id, 1, 0)).await;
    insert(&*store, "bob").await;
    let (ann, bob) = (account(&*store, "ann").await, account(&*store, "bob").await);

    let renaming = store.rename(user.id, 0, name("Mia"), tried(time(1))).await.unwrap();

    let renamed = User { name: name("Mia"), updated_at: time(1), ..user.clone() };
    assert_eq!(renaming, Renaming::Done { user: renamed.clone(), old_name: user.name });
    assert_eq!(account(&*store, "mia").await, Account { user: renamed.clone(), ..ann });
    assert_eq!(store.find_by_name(key("ann")).await.unwrap(), None);
    assert_eq!(account(&*store, "bob").await, bob);
    assert_eq!(live(&*store, renamed.id).await, [id(1)]);
    let next = insert(&*store, "ann").await;
    assert!(next.id > bob.user.id);
}

#[tokio::test]
async fn username_stays_when_the_password_changed_since_its_check() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    insert(&*store, "bob").await;
    store.set_password(key("ann"), hash("set"), tried(time(1))).await.unwrap();
    let before = account(&*store, "ann").await;

    for taken_or_not in ["mia", "ANN"] {
        let renaming = store.rename(user.id, 0, name(taken_or_not), tried(time(2))).await.unwrap();
        assert_eq!(renaming, Renaming::CredentialsChanged);
    }

    assert_eq!(account(&*store, "ann").await, before);
}

#[tokio::test]
async fn ones_own_name_can_be_spelt_anew_and_anybody_elses_in_no_spelling() {
    let store = super::super::fresh();
    let ann = insert(&*store, "ann").await;
    insert(&*store, "Bob").await;
    let before = account(&*store, "bob").await;

    for spelling in ["ANN", "ａｎｎ", "Ann", "Ann"] {
        let renaming = store.rename(ann.id, 0, name(spelling), tried(time(1))).await.unwrap();
        assert!(matches!(renaming, Renaming::Done { user, .. } if user.name == name(spelling)), "{spelling}");
    }
    for spelling in ["bob", "Bob", "ＢＯＢ"] {
        let renaming = store.rename(ann.id, 0, name(spelling), tried(time(2))).await.unwrap();
        assert_eq!(renaming, Renaming::UsernameTaken, "{spelling}");
    }

    assert_eq!(account(&*store, "ann").await.user, User { name: name("Ann"), updated_at: time(1), ..ann });
    assert_eq!(account(&*store, "bob").await, before);
}

#[tokio::test]
async fn of_many_who_want_one_name_by_sign_up_and_renaming_one_gets_it() {
    let store = super::super::fresh();
    let other = store.another();
    for round in 0..10 {
        let wanted = format!("wanted{round}");
        let mut owners = Vec::new();
        for n in 0..6 {
            owners.push(insert(&*store, &format!("user{round}.{n}")).await);
        }

        let renamings = join_all(owners.iter().enumerate().map(|(n, owner)| {
            let store = if n % 2 == 0 { &store } else { &other };
            store.rename(owner.id, 0, name(&wanted), tried(time(1)))
        }));
        let insertions = join_all((0..3).map(|_| other.insert(person(&wanted), tried(time(0)))));
        let (renamings, insertions) = tokio::join!(renamings, insertions);

        let mut got_it = Vec::new();
        for renaming in renamings {
            match renaming.unwrap() {
                Renaming::Done { user, .. } => got_it.push(user),
                lost => assert_eq!(lost, Renaming::UsernameTaken),
            }
        }
        for insertion in insertions {
            if let Insertion::Done(user) = insertion.unwrap() {
                got_it.push(user);
            }
        }
        assert_eq!(got_it, [account(&*store, &wanted).await.user]);
        for (n, owner) in owners.iter().enumerate().filter(|(_, owner)| owner.id != got_it[0].id) {
            assert_eq!(account(&*store, &format!("user{round}.{n}")).await.user, *owner);
        }
    }
}

#[tokio::test]
async fn two_who_swap_their_names_at_once_both_keep_one() {
    let store = super::super::fresh();
    let (ann, bob) = (insert(&*store, "ann").await, insert(&*store, "bob").await);

    let (one, other) = tokio::join!(
        store.rename(ann.id, 0, name("bob"), tried(time(1))),
        store.rename(bob.id, 0, name("ann"), tried(time(1)))
    );

    assert_eq!((one.unwrap(), other.unwrap()), (Renaming::UsernameTaken, Renaming::UsernameTaken));
    assert_eq!(account(&*store, "ann").await.user, ann);
}

#[tokio::test]
async fn a_confirmed_change_of_password_ends_every_session_but_the_one_it_opens() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    let bob = insert(&*store, "bob").await;
    for number in 1..4 {
        open(&*store, login(user.id, number, 0)).await;
    }
    open(&*store, login(bob.id, 9, 0)).await;
    let (ann, before) = (account(&*store, "ann").await, account(&*store, "bob").await);

    let change = store.change_password(hash("changed"), login(user.id, 4, 1), tried(time(0))).await.unwrap();

    let changed = Account {
        password_hash: hash("changed"),
        credentials_epoch: ann.credentials_epoch + 1,
        user: User { updated_at: time(1), ..ann.user },
        ..ann
    };
    assert_eq!(change, ConfirmedChange::Done(changed.user.clone()));
    assert_eq!(account(&*store, "ann").await, changed);
    assert_eq!(live(&*store, user.id).await, [id(4)]);
    assert_eq!(store.known_networks(user.id).await.unwrap().len(), 1);
    assert_eq!((account(&*store, "bob").await, live(&*store, bob.id).await), (before, vec![id(9)]));
}

#[tokio::test]
async fn of_many_changes_that_rest_on_one_password_one_is_made() {
    let store = super::super::fresh();
    let other = store.another();
    let user = insert(&*store, "ann").await;

    let changes = join_all((1..=20).map(|number| {
        let store = if number % 2 == 0 { &store } else { &other };
        store.change_password(hash(&number.to_string()), login(user.id, number, 1), tried(time(0)))
    }))
    .await;

    let changes: Vec<_> = changes.into_iter().map(Result::unwrap).collect();
    let made: Vec<_> = (1..).zip(&changes).filter(|(_, it)| matches!(it, ConfirmedChange::Done(_))).collect();
    let late = changes.iter().filter(|it| **it == ConfirmedChange::CredentialsChanged).count();
    assert_eq!((made.len(), late), (1, 19));
    let number = made[0].0;
    let ann = account(&*store, "ann").await;
    assert_eq!((ann.password_hash, ann.credentials_epoch), (hash(&number.to_string()), 1));
    assert_eq!(live(&*store, user.id).await, [id(number)]);
}

#[tokio::test]
async fn what_rests_on_a_password_that_an_operator_replaced_changes_nothing() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    store.set_password(key("ann"), hash("set"), tried(time(1))).await.unwrap();
    // The same hash again is another password all the same: its epoch is another.
    store.set_password(key("ann"), hash("ann's"), tried(time(2))).await.unwrap();
    let before = all(&*store).await;

    let change = store.change_password(hash("changed"), login(user.id, 1, 3), tried(time(0))).await.unwrap();
    let closing = store.close_account(user.id, 0, tried(time(0))).await.unwrap();

    assert_eq!(
        (&change, &closing),
        (&ConfirmedChange::CredentialsChanged, &ConfirmedChange::CredentialsChanged)
    );
    assert_eq!((all(&*store).await, live(&*store, user.id).await), (before, vec![]));
}

#[tokio::test]
async fn a_rehash_stands_in_the_way_of_no_change() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    store.rehash(user.id, hash("ann's"), hash("stronger")).await.unwrap();

    let change = store.change_password(hash("changed"), login(user.id, 1, 1), tried(time(0))).await.unwrap();
    assert!(matches!(change, ConfirmedChange::Done(_)));

    store.rehash(user.id, hash("changed"), hash("strongest")).await.unwrap();
    assert!(matches!(
        store.close_account(user.id, 1, tried(time(0))).await.unwrap(),
        ConfirmedChange::Done(_)
    ));
}

#[tokio::test]
async fn a_closed_account_is_gone_with_its_sessions_and_its_number() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    open(&*store, login(user.id, 1, 0)).await;
    insert(&*store, "bob").await;
    let bob = account(&*store, "bob").await;
    store.close_account(bob.user.id, 1, tried(time(0))).await.unwrap();

    assert_eq!(
        store.close_account(user.id, 0, tried(time(0))).await.unwrap(),
        ConfirmedChange::Done(user.clone())
    );

    assert_eq!(all(&*store).await, std::slice::from_ref(&bob));
    assert_eq!(store.look_up(id(1)).await.unwrap(), None);
    assert_eq!(store.known_networks(user.id).await.unwrap(), []);
    assert_eq!(store.close_account(user.id, 0, tried(time(0))).await.unwrap(), ConfirmedChange::NoAccount);
    // The last number of all, too.
    assert!(matches!(
        store.close_account(bob.user.id, 0, tried(time(0))).await.unwrap(),
        ConfirmedChange::Done(_)
    ));
    assert!(insert(&*store, "ann").await.id > bob.user.id);
}

#[tokio::test]
async fn of_a_change_and_a_closing_that_rest_on_one_password_one_is_made() {
    let store = super::super::fresh();
    let other = store.another();
    for n in 0..20 {
        let user = insert(&*store, &format!("user{n}")).await;

        let (change, closing) = tokio::join!(
            store.change_password(hash("changed"), login(user.id, n, 1), tried(time(0))),
            other.close_account(user.id, 0, tried(time(0)))
        );

        match (change.unwrap(), closing.unwrap()) {
            (ConfirmedChange::Done(_), ConfirmedChange::CredentialsChanged) => {
                assert_eq!(live(&*store, user.id).await, [id(n)]);
            }
            (ConfirmedChange::NoAccount, ConfirmedChange::Done(_)) => {
                assert_eq!(store.find(user.id).await.unwrap(), None);
            }
            both => panic!("{both:?}"),
        }
    }
}

#[tokio::test]
async fn the_owner_of_a_disabled_account_changes_nothing_of_it() {
    let store = super::super::fresh();
    let user = insert(&*store, "ann").await;
    store.disable(key("ann"), tried(time(1))).await.unwrap();
    let before = all(&*store).await;

    assert_eq!(store.rename(user.id, 0, name("mia"), tried(time(2))).await.unwrap(), Renaming::NoAccount);
    let change = store.change_password(hash("changed"), login(user.id, 1, 2), tried(time(0))).await.unwrap();
    assert_eq!(change, ConfirmedChange::NoAccount);
    assert_eq!(store.close_account(user.id, 0, tried(time(0))).await.unwrap(), ConfirmedChange::NoAccount);

    assert_eq!(all(&*store).await, before);
    assert_eq!(live(&*store, user.id).await, []);
}
