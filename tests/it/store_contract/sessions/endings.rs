//! What ends a session.

use super::*;

#[tokio::test]
async fn somebody_ends_their_own_sessions_and_nobody_elses() {
    let store = super::super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;
    let bob = logged_in(&*store, "bob", 2).await;

    assert_eq!(end(&*store, 1, bob.id, 1).await, Ending::Unknown);
    assert_eq!(end(&*store, 3, bob.id, 1).await, Ending::Unknown);
    assert_eq!(live(&*store, ann.id).await, [id(1)]);

    assert_eq!(end(&*store, 1, ann.id, 1).await, Ending::Done);
    assert_eq!(end(&*store, 1, ann.id, 2).await, Ending::Unknown);
    assert_eq!(live(&*store, ann.id).await, []);
    assert_eq!(live(&*store, bob.id).await, [id(2)]);
    assert_eq!(show(&*store, 1, 1, 1).await, Rotation::Over);
}

#[tokio::test]
async fn all_sessions_but_one_are_ended_and_nobody_elses() {
    let store = super::super::fresh();
    let ann = logged_in(&*store, "ann", 1).await;
    open(&*store, login(ann.id, 2, 0)).await;
    open(&*store, login(ann.id, 3, 0)).await;
    let bob = logged_in(&*store, "bob", 4).await;
    let end_all = |but| store.end_all(ann.id, but, EndCause::Revoked, tried(time(1)));

    assert_eq!(end_all(Some(id(2))).await.unwrap(), EndingAll(2));
    assert_eq!(live(&*store, ann.id).await, [id(2)]);
    assert_eq!(end_all(Some(id(4))).await.unwrap(), EndingAll(1));
    assert_eq!(end_all(None).await.unwrap(), EndingAll(0));
    assert_eq!(live(&*store, bob.id).await, [id(4)]);
}

#[tokio::test]
async fn whoever_opens_more_sessions_than_there_may_be_ends_their_oldest() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    let bob = logged_in(&*store, "bob", 1000).await;
    let most = u64::from(MOST_SESSIONS);
    for number in 1..=most {
        let second = i64::try_from(number).unwrap();
        open(&*store, login(ann.id, number, second)).await;
    }
    assert_eq!(live(&*store, ann.id).await.len() as u64, most);

    open(&*store, login(ann.id, most + 1, HOUR)).await;
    // Before all the others, by a clock that was set back.
    open(&*store, login(ann.id, most + 2, -HOUR)).await;

    let live_now = live(&*store, ann.id).await;
    assert_eq!(live_now.len() as u64, most);
    assert!(!live_now.contains(&id(1)) && !live_now.contains(&id(2)));
    assert!(live_now.contains(&id(most + 1)) && live_now.contains(&id(most + 2)));
    assert_eq!(live(&*store, bob.id).await, [id(1000)]);
}

#[tokio::test]
async fn sessions_that_are_over_take_no_room() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann").await;
    for number in 1..=u64::from(MOST_SESSIONS) {
        open(&*store, login(ann.id, number, 0)).await;
    }
    for number in 1..=50 {
        end(&*store, number, ann.id, 1).await;
    }

    open(&*store, login(ann.id, 1000, 2)).await;

    assert_eq!(live(&*store, ann.id).await.len(), 51);
}

#[tokio::test]
async fn disabling_deleting_and_another_password_end_every_session_at_once() {
    let store = super::super::fresh();
    for (number, name) in [(1, "ann"), (2, "bob"), (3, "eve"), (4, "mia")] {
        logged_in(&*store, name, number).await;
    }

    store.disable(key("ann"), tried(time(1))).await.unwrap();
    store.set_password(key("bob"), hash("changed"), tried(time(1))).await.unwrap();
    store.delete(key("eve"), tried(time(0))).await.unwrap();

    for number in [1, 2, 3] {
        assert_eq!(show(&*store, number, 1, 1).await, Rotation::Over, "{number}");
    }
    assert_eq!(store.look_up(id(3)).await.unwrap(), None);
    store.enable(key("ann"), tried(time(2))).await.unwrap();
    assert_eq!(show(&*store, 1, 1, 2).await, Rotation::Over);
    assert!(matches!(show(&*store, 4, 1, 1).await, Rotation::Rotated(_)));
}

#[tokio::test]
async fn nothing_is_alive_after_an_ending_that_raced_with_a_refresh_or_a_login() {
    let store = super::super::fresh();
    let other = store.another();

    for round in 0..40 {
        let name = format!("user{round}");
        let user = logged_in(&*store, &name, 2 * round + 1).await;
        let at = time(1);
        let ending = async {
            match round % 4 {
                0 => _ = other.end(id(2 * round + 1), user.id, EndCause::LoggedOut, tried(at)).await.unwrap(),
                1 => _ = other.disable(key(&name), tried(at)).await.unwrap(),
                2 => _ = other.delete(key(&name), tried(time(0))).await.unwrap(),
                _ => _ = other.set_password(key(&name), hash("changed"), tried(at)).await.unwrap(),
            }
        };
        let second = login(user.id, 2 * round + 2, 1);
        let log_in = async {
            if round % 4 != 0 {
                store.open(second, tried(time(0))).await.unwrap();
            }
        };
        tokio::join!(show(&*store, 2 * round + 1, 1, 1), ending, log_in, show(&*other, 2 * round + 1, 1, 1));

        assert_eq!(live(&*store, user.id).await, [], "{round}");
        for number in 1..=3 {
            assert_eq!(show(&*store, 2 * round + 1, number, 1).await, Rotation::Over, "{round}");
        }
    }
}

#[tokio::test]
async fn whoever_ends_sessions_while_their_account_is_deleted_is_answered_and_both_are_gone() {
    let store = super::super::fresh();
    let other = store.another();

    for round in 0..60 {
        let name = format!("user{round}");
        let first = 10 * round + 1;
        let user = logged_in(&*store, &name, first).await;
        for number in first + 1..first + 5 {
            open(&*store, login(user.id, number, 0)).await;
        }
        let about = || tried_to(Action::LogOut, Subject::User(user.id), time(1));
        let deleting = async {
            match round % 2 {
                0 => _ = other.delete(key(&name), about()).await.unwrap(),
                _ => _ = other.close_account(user.id, 0, about()).await.unwrap(),
            }
        };
        let one = store.end(id(first), user.id, EndCause::LoggedOut, about());
        let all = async {
            let but = (round % 3 == 0).then(|| id(first + 4));
            store.end_all(user.id, but, EndCause::Revoked, about()).await.unwrap()
        };
        let seeing = store.mark_seen(id(first + 2), generation(1));
        let refreshing = other.rotate(shown(first + 1, 1, 1), about());

        // Whichever comes first, each of them is done, or finds nothing to do.
        let (one, _, (), refreshed, seen) = tokio::join!(one, all, deleting, refreshing, seeing);
        assert!(one.is_ok() && refreshed.is_ok() && seen.is_ok(), "{round}: {one:?} {refreshed:?} {seen:?}");

        for number in first..first + 5 {
            assert_eq!(store.look_up(id(number)).await.unwrap(), None, "{round}");
        }
        let again = store.end_all(user.id, None, EndCause::Revoked, tried(time(2))).await.unwrap();
        assert_eq!((again, store.find(user.id).await.unwrap()), (EndingAll(0), None), "{round}");
    }
}
