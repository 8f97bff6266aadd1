//! Counters of names that change hands, or that nobody has.

use super::*;

#[tokio::test]
async fn an_operator_a_new_password_and_a_new_owner_find_nothing_counted() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let place = admitted(&*store, elsewhere(&*store, "ann").await, 0).await;
    open(&*store, login(&ann, 1, place, 0)).await;
    let counters =
        [elsewhere(&*store, "ann").await, counter(&*store, "ann", Some(ClientNetwork::LOCALHOST), 1).await];
    let lock_all = async || {
        for counter in counters {
            lock(&*store, counter).await;
        }
        assert_eq!(store.tries(key("ann")).await.unwrap().len(), 2);
    };

    lock_all().await;
    let by = tried_to(Action::Unlock, Subject::Name(key("ann")), time(0));
    let Change::Done(unlocked) = store.unlock(key("ann"), by).await.unwrap() else { panic!("unknown") };
    assert_eq!(unlocked.user, ann);
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);

    lock_all().await;
    store.set_password(key("ann"), hash("set"), tried(time(0))).await.unwrap();
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);

    lock_all().await;
    let session = NewSession { credentials_epoch: 1, compared: None, ..login(&ann, 2, place, 0) };
    store.change_password(hash("changed"), session, tried(time(0))).await.unwrap();
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);

    lock_all().await;
    store.close_account(ann.id, 2, tried(time(0))).await.unwrap();
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);

    // Whoever guessed at it when it was nobody's keeps nobody from it.
    lock(&*store, elsewhere(&*store, "ann").await).await;
    sign_up(&*store, "Ann").await;
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
    lock(&*store, elsewhere(&*store, "ann").await).await;
    store.delete(key("ann"), tried(time(0))).await.unwrap();
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
}

#[tokio::test]
async fn what_changes_no_password_leaves_what_was_counted_and_nobodys_name_is_not_unlocked() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    lock(&*store, elsewhere(&*store, "ann").await).await;
    lock(&*store, elsewhere(&*store, "nobody").await).await;
    let taken = NewUser { name: name("ANN"), password_hash: hash("other"), at: time(0) };

    assert_eq!(store.insert(taken, tried(time(0))).await.unwrap(), Insertion::UsernameTaken);
    store.disable(key("ann"), tried(time(0))).await.unwrap();
    store.enable(key("ann"), tried(time(0))).await.unwrap();
    let stale = NewSession { credentials_epoch: 9, ..login(&ann, 1, place_of(&*store, "ann").await, 0) };
    store.change_password(hash("new"), stale, tried(time(0))).await.unwrap();
    store.close_account(ann.id, 9, tried(time(0))).await.unwrap();
    assert_eq!(store.unlock(key("nobody"), tried(time(0))).await.unwrap(), Change::UnknownUser);

    for name in ["ann", "nobody"] {
        assert_eq!(ask(&*store, elsewhere(&*store, name).await, HOUR).await, refused(86_400), "{name}");
    }
}

#[tokio::test]
async fn what_was_counted_goes_with_whoever_takes_another_name() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    sign_up(&*store, "bob").await;
    lock(&*store, elsewhere(&*store, "ann").await).await;
    fail(&*store, admitted(&*store, elsewhere(&*store, "mia").await, 0).await, 0).await;

    assert_eq!(store.rename(ann.id, 0, name("bob"), tried(time(0))).await.unwrap(), Renaming::UsernameTaken);
    assert!(matches!(
        store.rename(ann.id, 0, name("ANN"), tried(time(0))).await.unwrap(),
        Renaming::Done { .. }
    ));
    assert_eq!(store.tries(key("ann")).await.unwrap()[0].1.failures, 10);
    assert!(matches!(
        store.rename(ann.id, 0, name("Mia"), tried(time(0))).await.unwrap(),
        Renaming::Done { .. }
    ));

    let counted = store.tries(key("mia")).await.unwrap();
    assert_eq!((counted.len(), counted[0].1.failures), (1, 10));
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
    assert_eq!(store.tries(key("bob")).await.unwrap(), []);
}

#[tokio::test]
async fn whoever_changes_names_while_passwords_are_compared_has_tried_them() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(admitted(&*store, elsewhere(&*store, "ann").await, 0).await);
    }

    store.rename(ann.id, 0, name("bob"), tried(time(0))).await.unwrap();
    for place in places {
        fail(&*store, place, 0).await;
    }
    store.rename(ann.id, 0, name("ann"), tried(time(0))).await.unwrap();

    let counted = store.tries(key("ann")).await.unwrap();
    assert_eq!((counted.len(), counted[0].1.failures), (1, 5));
    assert_eq!(ask(&*store, elsewhere(&*store, "ann").await, 0).await, refused(1));
}

#[tokio::test]
async fn nobody_is_admitted_by_a_name_that_changed_hands_since_it_was_looked_up() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let by_name = elsewhere(&*store, "ann").await;
    lock(&*store, by_name).await;

    store.rename(ann.id, 0, name("bob"), tried(time(0))).await.unwrap();

    assert_eq!(ask(&*store, by_name, HOUR).await, Admittance::Moved);
    sign_up(&*store, "ann").await;
    assert_eq!(ask(&*store, by_name, HOUR).await, Admittance::Moved);
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
    assert_eq!(ask(&*store, elsewhere(&*store, "bob").await, HOUR).await, refused(86_400));
}

#[tokio::test]
async fn whoever_guesses_while_changing_names_is_admitted_no_more_often_than_others() {
    let store = super::super::fresh();
    let other = store.another();
    let ann = sign_up(&*store, "name0").await;

    let mut admitted = 0;
    for number in 0..20 {
        let guesses = join_all((0..3).map(async |_| {
            let counter = elsewhere(&*other, &format!("name{number}")).await;
            if counter.owner != Some(ann.id) {
                return 0;
            }
            match ask(&*other, counter, 0).await {
                Admittance::Admitted(place) => {
                    fail(&*other, place, 0).await;
                    1
                }
                _ => 0,
            }
        }));
        let next = name(&format!("name{}", number + 1));
        let (guesses, renamed) = join(guesses, store.rename(ann.id, 0, next, tried(time(0)))).await;
        assert!(matches!(renamed.unwrap(), Renaming::Done { .. }));
        admitted += guesses.iter().sum::<u32>();
    }

    assert!(admitted <= 5, "{admitted}");
}

#[tokio::test]
async fn whoever_takes_a_name_that_somebody_tries_at_that_moment_gets_it_and_keeps_what_was_counted() {
    let store = super::super::fresh();
    let other = store.another();
    let ann = sign_up(&*store, "name0").await;
    lock(&*store, elsewhere(&*store, "name0").await).await;

    for number in 1..20 {
        let next = format!("name{number}");
        let nobodys = elsewhere(&*other, &next).await;
        let (renamed, asked) =
            join(store.rename(ann.id, 0, name(&next), tried(time(0))), ask(&*other, nobodys, 0)).await;
        assert!(matches!(renamed.unwrap(), Renaming::Done { .. }));
        if let Admittance::Admitted(place) = asked {
            store.give_back(place).await.unwrap();
        }
        let counted = store.tries(key(&next)).await.unwrap();
        assert_eq!(counted.iter().map(|(_, tries)| tries.failures).collect::<Vec<_>>(), [10], "{number}");
    }
}

#[tokio::test]
async fn whoever_knows_one_network_after_the_other_leaves_no_more_counters_than_they_may_know() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let address = |number: u8| Ipv4Addr::new(192, 0, 2, number).into();
    let fail_from = async |number: u8| {
        let second = number.into();
        let counter = counter(&*store, "ann", Some(ClientNetwork::of(address(number))), second).await;
        assert_eq!(counter.whence, Whence::Known(ClientNetwork::of(address(number))));
        fail(&*store, admitted(&*store, counter, second).await, second).await;
    };

    for number in 0..12 {
        let place = admitted(&*store, elsewhere(&*store, "ann").await, number.into()).await;
        let login =
            NewSession { address: Some(address(number)), ..login(&ann, number, place, number.into()) };
        assert!(matches!(open(&*store, login).await, Opening::Done(_)));
        fail_from(number).await;
    }

    assert_eq!(store.tries(key("ann")).await.unwrap().len(), 8);
    // Of the eight that are known still, none has lost what was counted.
    for number in 4..12 {
        fail_from(number).await;
    }
    let counted = store.tries(key("ann")).await.unwrap();
    assert!(counted.iter().all(|(_, tries)| tries.failures == 2), "{counted:?}");
    // What was forgotten goes as what was counted of nobody goes, and does not follow to another name.
    store.rename(ann.id, 0, name("mia"), tried(time(0))).await.unwrap();
    assert_eq!(store.tries(key("mia")).await.unwrap().len(), 8);
    assert_eq!(store.remove_strays(time(DAY), 99).await.unwrap(), 0);
}

#[tokio::test]
async fn what_comes_of_an_attempt_when_nobody_has_its_name_any_more_is_removed_like_that_of_any_such_name() {
    let store = super::super::fresh();
    let home = Some(ClientNetwork::LOCALHOST);
    for (number, way) in (0..).zip(["deleted", "closed", "renamed"]) {
        let user = sign_up(&*store, way).await;
        let place = admitted(&*store, elsewhere(&*store, way).await, 0).await;
        open(&*store, login(&user, number, place, 0)).await;
        let counters = [elsewhere(&*store, way).await, counter(&*store, way, home, 0).await];
        assert_ne!(counters[0], counters[1]);
        let under_way = [admitted(&*store, counters[0], 0).await, admitted(&*store, counters[1], 0).await];

        match way {
            "deleted" => _ = store.delete(key(way), tried(time(0))).await.unwrap(),
            "closed" => _ = store.close_account(user.id, 0, tried(time(0))).await.unwrap(),
            _ => _ = store.rename(user.id, 0, name("other"), tried(time(0))).await.unwrap(),
        }

        assert_eq!(store.tries(key(way)).await.unwrap(), [], "{way}");
        // One that has its place by then, and one that only knows by what it is counted.
        for place in under_way {
            fail(&*store, place, 0).await;
        }
        for counter in counters {
            assert_eq!(ask(&*store, counter, 0).await, Admittance::Moved, "{way}");
        }
        // The other one is of a network that nobody is known from any more.
        assert_eq!(store.tries(key(way)).await.unwrap().len(), 1, "{way}");
    }

    // Up to as many as were asked for.
    assert_eq!(store.remove_strays(time(DAY), 5).await.unwrap(), 5);
    assert_eq!(store.remove_strays(time(DAY), 5).await.unwrap(), 1);
    for way in ["deleted", "closed", "renamed"] {
        assert_eq!(store.tries(key(way)).await.unwrap(), [], "{way}");
    }
}

#[tokio::test]
async fn an_attempt_at_the_moment_in_which_a_name_becomes_nobodys_is_counted_as_one_of_a_name_that_is() {
    let store = super::super::fresh();
    let other = store.another();
    let names: Vec<_> = (0..40).map(|number| format!("user{number}")).collect();
    for name in &names {
        sign_up(&*store, name).await;
    }

    join_all(names.iter().map(async |name| {
        let counter = elsewhere(&*store, name).await;
        let (deleted, asked) = join(store.delete(key(name), tried(time(0))), ask(&*other, counter, 0)).await;
        assert!(matches!(deleted.unwrap(), Change::Done(_)));
        match asked {
            Admittance::Admitted(place) => fail(&*other, place, 0).await,
            Admittance::Moved => {}
            asked => panic!("{asked:?}"),
        }
    }))
    .await;

    store.remove_strays(time(DAY), 99).await.unwrap();
    for name in &names {
        assert_eq!(store.tries(key(name)).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn what_failed_for_an_account_stays_whatever_began_when_its_name_was_nobodys() {
    let store = super::super::fresh();
    let stale = [elsewhere(&*store, "ann").await, elsewhere(&*store, "bob").await];
    let under_way = [admitted(&*store, stale[0], 0).await, admitted(&*store, stale[1], 0).await];
    sign_up(&*store, "ann").await;
    let mia = sign_up(&*store, "mia").await;
    fail(&*store, admitted(&*store, elsewhere(&*store, "mia").await, 0).await, 0).await;
    store.rename(mia.id, 0, name("bob"), tried(time(0))).await.unwrap();

    // Of one account some are heard of, and it is refused before it was ever admitted; of the other one is.
    fail(&*store, under_way[0], 0).await;
    for _ in 0..4 {
        fail(&*store, admitted(&*store, stale[0], 0).await, 0).await;
    }
    assert_eq!(ask(&*store, elsewhere(&*store, "ann").await, 0).await, refused(1));
    fail(&*store, under_way[1], 0).await;
    fail(&*store, admitted(&*store, stale[1], 0).await, 0).await;

    assert_eq!(store.remove_strays(time(DAY), 9).await.unwrap(), 0);
    let [ann, bob] = ["ann", "bob"].map(|name| store.tries(key(name)));
    assert_eq!((ann.await.unwrap()[0].1.failures, bob.await.unwrap()[0].1.failures), (5, 3));
}

#[tokio::test]
async fn the_oldest_of_too_many_names_that_nobody_has_are_forgotten_and_no_account_is() {
    let store = super::super::fresh();
    sign_up(&*store, "ann").await;
    for (number, name) in ["ann", "one", "two", "three", "four", "five"].into_iter().enumerate() {
        let second = i64::try_from(number).unwrap();
        fail(&*store, admitted(&*store, elsewhere(&*store, name).await, second).await, second).await;
    }
    let left = async || {
        let mut left = Vec::new();
        for name in ["ann", "one", "two", "three", "four", "five"] {
            if !store.tries(key(name)).await.unwrap().is_empty() {
                left.push(name);
            }
        }
        left
    };

    assert_eq!(store.newest_strays_end(5).await.unwrap(), None);
    assert_eq!(store.newest_strays_end(3).await.unwrap(), Some(time(2)));

    // One at a time.
    assert_eq!(store.remove_strays(time(2), 1).await.unwrap(), 1);
    assert_eq!(left().await, ["ann", "two", "three", "four", "five"]);
    assert_eq!(store.remove_strays(time(2), 1).await.unwrap(), 1);
    assert_eq!(store.remove_strays(time(2), 1).await.unwrap(), 0);
    assert_eq!(left().await, ["ann", "three", "four", "five"]);
    assert_eq!(store.remove_strays(time(DAY), 9).await.unwrap(), 3);
    assert_eq!(left().await, ["ann"]);
}
