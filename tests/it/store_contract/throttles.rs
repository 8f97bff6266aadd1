use std::net::Ipv4Addr;
use std::time::Duration;

use domain::ports::{
    Admittance, Change, Compared, Insertion, NewSession, NewUser, Opening, Place, Renaming, Requester,
    SessionRepo, Throttle, UserRepo,
};
use domain::{
    Action, ClientNetwork, Counter, LoginName, Nonce, PasswordHash, RESERVATION_TTL, Refusal, SessionId,
    Subject, ThrottleRules, User, UserId, Username, UsernameKey, Whence,
};
use futures_util::future::{join, join_all};
use jiff::Timestamp;

use crate::support::audit_fixtures::{tried, tried_to};

const RULES: ThrottleRules = ThrottleRules { most_failures: 10 };
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[tokio::test]
async fn all_spellings_of_a_name_are_counted_together_and_other_names_apart() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;

    for (one, other, together) in [
        ("Ann", "ＡＮＮ", true),
        ("zoe\u{301}", "zo\u{e9}", true),
        ("ann", "anna", false),
        ("a name with blanks", "a name with blanks", true),
        ("a name with blanks", "A name with blanks", false),
    ] {
        let [one_counter, other_counter] = [elsewhere(&*store, one).await, elsewhere(&*store, other).await];
        assert_eq!(one_counter.name == other_counter.name, together, "{one} and {other}");
    }
    assert_eq!(elsewhere(&*store, "ann").await.owner, Some(ann.id));
    assert_eq!(elsewhere(&*store, "eve").await.owner, None);
}

#[tokio::test]
async fn of_three_hundred_who_guess_at_once_over_two_stores_five_are_admitted() {
    let store = super::fresh();
    let other = store.another();
    sign_up(&*store, "ann").await;

    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        let mut admitted = Vec::new();
        // As many as a line lets through, for the queue before a disk is bounded.
        for _ in 0..10 {
            let asked = join_all((0..30).map(|n| {
                let store = if n % 2 == 0 { &store } else { &other };
                store.admit(counter, Requester::Bulk, time(0), RULES)
            }));
            for answer in asked.await {
                match answer.unwrap() {
                    Admittance::Admitted(place) => admitted.push(place),
                    Admittance::Undecided => {}
                    other @ (Admittance::Refused { .. } | Admittance::Moved) => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(admitted.len(), 5, "{name}");

        join_all(admitted.iter().map(|place| fail(&*other, *place, 0))).await;

        assert_eq!(ask(&*store, counter, 0).await, refused(1));
        let again = join_all((0..30).map(|_| store.admit(counter, Requester::Bulk, time(1), RULES))).await;
        let admitted = again.into_iter().filter(|answer| matches!(answer, Ok(Admittance::Admitted(_))));
        assert_eq!(admitted.count(), 1, "{name}");
    }
}

#[tokio::test]
async fn no_more_failures_than_the_limit_are_admitted_in_a_row_whoever_has_the_name_and_after_a_restart() {
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        let mut second = 0;
        for _ in 0..10 {
            fail(&*store, admitted(&*store, counter, second).await, second).await;
            second += 300;
        }
    }

    let store = store.reopened().await;

    for name in ["ann", "nobody"] {
        let counter = elsewhere(&*store, name).await;
        for second in [0, 300 * 10, 300 * DAY] {
            assert_eq!(ask(&*store, counter, second).await, refused(86_400), "{name}");
        }
    }
}

#[tokio::test]
async fn a_success_forgets_what_failed_from_there_and_a_refusal_at_the_door_counts_as_a_failure() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let counter = elsewhere(&*store, "ann").await;
    for _ in 0..4 {
        fail(&*store, admitted(&*store, counter, 0).await, 0).await;
    }

    let place = admitted(&*store, counter, 0).await;
    let opened = open(&*store, NewSession { credentials_epoch: 9, ..login(&ann, 1, place, 0) }).await;

    assert_eq!(opened, Opening::CredentialsChanged);
    assert_eq!(ask(&*store, counter, 0).await, refused(1));
    let place = admitted(&*store, counter, 1).await;
    assert_eq!(open(&*store, login(&ann, 1, place, 1)).await, Opening::Done(ann));
    assert_eq!(store.tries(key("ann")).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_given_back_or_never_heard_of_again_makes_room() {
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    let counter = elsewhere(&*store, "ann").await;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(admitted(&*store, counter, 0).await);
    }
    assert_eq!(ask(&*store, counter, 0).await, Admittance::Undecided);

    store.give_back(places[0]).await.unwrap();

    admitted(&*store, counter, 0).await;
    assert_eq!(ask(&*store, counter, 14).await, Admittance::Undecided);
    let expired = RESERVATION_TTL.as_secs().cast_signed();
    admitted(&*store, counter, expired).await;
    assert_eq!(store.tries(key("ann")).await.unwrap()[0].1.undecided.len(), 1);
    // It counts though it comes late.
    fail(&*store, places[1], expired).await;
    assert_eq!(store.tries(key("ann")).await.unwrap()[0].1.failures, 1);
}

#[tokio::test]
async fn a_counter_whose_times_lie_ahead_keeps_nobody_out_for_longer_than_its_delay() {
    const YEAR: i64 = 365 * DAY;
    let store = super::fresh();
    let [failed, under_way] = [elsewhere(&*store, "ann").await, elsewhere(&*store, "eve").await];
    for _ in 0..5 {
        fail(&*store, admitted(&*store, failed, YEAR).await, YEAR).await;
        admitted(&*store, under_way, YEAR).await;
    }

    // By a clock that is right.
    assert_eq!(ask(&*store, failed, 0).await, refused(1));
    assert_eq!(ask(&*store, under_way, 0).await, Admittance::Undecided);

    admitted(&*store, failed, 1).await;
    assert_eq!(ask(&*store, under_way, 14).await, Admittance::Undecided);
    admitted(&*store, under_way, 15).await;
}

#[tokio::test]
async fn nothing_is_kept_of_an_attempt_that_was_given_back() {
    let store = super::fresh();
    let counter = elsewhere(&*store, "nobody").await;

    let place = admitted(&*store, counter, 0).await;
    assert_eq!(store.tries(key("nobody")).await.unwrap().len(), 1);
    store.give_back(place).await.unwrap();

    assert_eq!(store.tries(key("nobody")).await.unwrap(), []);
}

#[tokio::test]
async fn a_known_network_is_counted_apart_for_ninety_days_and_cannot_be_locked_out_from_elsewhere() {
    let store = super::fresh();
    let ann = sign_up(&*store, "ann").await;
    sign_up(&*store, "bob").await;
    let place = admitted(&*store, elsewhere(&*store, "ann").await, 0).await;
    assert!(matches!(open(&*store, login(&ann, 1, place, 0)).await, Opening::Done(_)));
    lock(&*store, elsewhere(&*store, "ann").await).await;

    let home = ClientNetwork::LOCALHOST;
    let from_home = counter(&*store, "ＡＮＮ", Some(home), HOUR).await;

    assert_eq!(from_home.whence, Whence::Known(home));
    fail(&*store, admitted(&*store, from_home, HOUR).await, HOUR).await;
    let counted = store.tries(key("ann")).await.unwrap();
    let counted: Vec<_> = counted.iter().map(|(whence, tries)| (*whence, tries.failures)).collect();
    assert_eq!(counted, [(Whence::Elsewhere, 10), (Whence::Known(home), 1)]);
    // And the other way round.
    let place = admitted(&*store, from_home, HOUR).await;
    open(&*store, login(&ann, 2, place, 0)).await;
    assert_eq!(ask(&*store, elsewhere(&*store, "ann").await, HOUR).await, refused(86_400));

    for (name, network, second) in [
        ("ann", ClientNetwork::of(Ipv4Addr::new(127, 0, 0, 2).into()), HOUR),
        ("ann", home, 90 * DAY),
        ("bob", home, HOUR),
        ("nobody", home, HOUR),
        ("no name", home, HOUR),
    ] {
        assert_eq!(counter(&*store, name, Some(network), second).await.whence, Whence::Elsewhere, "{name}");
    }
    assert_eq!(counter(&*store, "ann", Some(home), 90 * DAY - 1).await.whence, Whence::Known(home));
}

#[tokio::test]
async fn an_operator_a_new_password_and_a_new_owner_find_nothing_counted() {
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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
    let store = super::fresh();
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

#[tokio::test]
async fn a_failure_is_on_record_by_the_commit_that_counts_it() {
    use domain::ports::{AuditLog, AuditQuery};
    let store = super::fresh();
    sign_up(&*store, "ann").await;
    let place = admitted(&*store, elsewhere(&*store, "ann").await, 0).await;
    let attempt = tried_to(Action::LogIn, Subject::Name(key("ann")), time(7));
    let compared = Compared { place, at: time(0) };

    let refusal = store.fail(compared, Refusal::WrongPassword, Some(attempt)).await.unwrap();

    assert_eq!(refusal, Refusal::WrongPassword);
    let query = AuditQuery { since: Some(time(7)), ..AuditQuery::default() };
    let kept = store.list_events(query, 0, 9).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|it| (it.entry.at, it.entry.reason.as_deref())).collect();
    assert_eq!(kept, [(time(7), Some("wrong_password"))]);
}

#[tokio::test]
async fn a_store_that_is_gone_admits_nobody() {
    let store = super::fresh();
    let counter = elsewhere(&*store, "ann").await;
    store.take_away();

    assert!(store.admit(counter, Requester::Bulk, time(0), RULES).await.is_err());

    store.bring_back();
}

async fn sign_up(store: &impl UserRepo, text: &str) -> User {
    let user = NewUser { name: name(text), password_hash: hash("kept"), at: time(0) };
    match store.insert(user, tried(time(0))).await.unwrap() {
        Insertion::Done(user) => user,
        Insertion::UsernameTaken => panic!("{text} is taken"),
    }
}

async fn elsewhere(store: &impl Throttle, name: &str) -> Counter {
    counter(store, name, None, 0).await
}

async fn counter(store: &impl Throttle, name: &str, network: Option<ClientNetwork>, second: i64) -> Counter {
    store.counter(LoginName::from_typed(name), network, time(second)).await.unwrap()
}

async fn ask(store: &impl Throttle, counter: Counter, second: i64) -> Admittance {
    store.admit(counter, Requester::Bulk, time(second), RULES).await.unwrap()
}

async fn admitted(store: &impl Throttle, counter: Counter, second: i64) -> Place {
    match ask(store, counter, second).await {
        Admittance::Admitted(place) => place,
        other => panic!("{other:?} at {second}"),
    }
}

async fn place_of(store: &impl Throttle, name: &str) -> Place {
    Place { counter: elsewhere(store, name).await, taken_at: time(0) }
}

async fn fail(store: &impl Throttle, place: Place, second: i64) {
    let compared = Compared { place, at: time(second) };
    store.fail(compared, Refusal::WrongPassword, Some(tried(time(second)))).await.unwrap();
}

/// Fills a counter, some time before.
async fn lock(store: &impl Throttle, counter: Counter) {
    for second in (-3600..-600).step_by(300) {
        fail(store, admitted(store, counter, second).await, second).await;
    }
}

async fn open(store: &impl SessionRepo, new: NewSession) -> Opening {
    store.open(new, tried(time(0))).await.unwrap()
}

fn refused(seconds: u64) -> Admittance {
    Admittance::Refused { retry_after: Duration::from_secs(seconds) }
}

/// A login from this machine.
fn login(user: &User, number: u8, place: Place, second: i64) -> NewSession {
    NewSession {
        id: SessionId::from_bytes([number; 16]),
        user: UserId(user.id.0),
        credentials_epoch: 0,
        nonce: Nonce([7; 16]),
        at: time(second),
        expires_at: time(100 * DAY),
        ends_at: time(100 * DAY),
        address: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: None,
        compared: Some(Compared { place, at: time(second) }),
    }
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn key(text: &str) -> UsernameKey {
    name(text).key().clone()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
