//! What is blanked when an account is deleted.

use super::*;

#[tokio::test]
async fn what_points_to_a_person_goes_with_the_account_and_the_chain_holds() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann", tried(time(0))).await;
    let bob = sign_up(&*store, "bob", tried(time(0))).await;
    let eve = sign_up(&*store, "eve", tried(time(0))).await;
    for user in [&ann, &bob, &eve] {
        store.open(login(user.id, user.id.0, 0), tried(time(1))).await.unwrap();
    }
    let head = store.head().await.unwrap();

    let about_ann = tried_to(Action::CloseAccount, Subject::User(ann.id), time(2));
    assert!(matches!(store.close_account(ann.id, 0, about_ann).await.unwrap(), ConfirmedChange::Done(_)));
    let about_bob = tried_to(Action::Delete, Subject::Name(key("bob")), time(2));
    assert!(matches!(store.delete(key("bob"), about_bob).await.unwrap(), Change::Done(_)));

    // What comes late, as a token that somebody still shows.
    let late =
        tried_to(Action::ShowToken, Subject::User(ann.id), time(3)).ended(Outcome::Refused("session_over"));
    store.append(vec![late]).await.unwrap();
    let late = store.open(login(bob.id, 9, 0), tried_to(Action::LogIn, Subject::User(bob.id), time(3))).await;
    assert_eq!(late.unwrap(), Opening::UnknownUser);

    let kept = all(&*store).await;
    for entry in &kept {
        let gone = [Some(ann.id), Some(bob.id)].contains(&entry.user);
        assert_eq!(entry.client.is_none(), gone, "{entry:?}");
    }
    assert_eq!(kept.iter().filter(|entry| entry.client.is_none()).count(), 7);
    assert_eq!(store.inspect(Some(head)).await.unwrap(), Ok(store.head().await.unwrap()));
}

#[tokio::test]
async fn username_change_holds_both_names_and_loses_their_salt() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann", tried(time(0))).await;
    let about_ann = |action| tried_to(action, Subject::User(ann.id), time(1));
    store.rename(ann.id, 0, name("Mia"), about_ann(Action::Rename)).await.unwrap();
    store.rename(ann.id, 0, name("ann"), about_ann(Action::Rename)).await.unwrap();
    let renamed = Renamed { old: key("ann"), new: key("mia") };
    let event = Event { renamed: Some(renamed), ..about_ann(Action::Rename).ended(Outcome::Success) };

    let kept = all(&*store).await;

    assert_eq!(kept[1], audit_key().entry(&event));
    let (there, back) = (kept[1].renamed.clone().unwrap(), kept[2].renamed.clone().unwrap());
    assert_eq!((&there.old, &there.new), (&back.new, &back.old), "one salt in this test");
    store.close_account(ann.id, 0, about_ann(Action::CloseAccount)).await.unwrap();
    let blanked = all(&*store).await;
    assert_eq!((blanked[1].client.clone(), &blanked[1].renamed), (None, &Some(there)));
    assert!(store.inspect(None).await.unwrap().is_ok());
}

#[tokio::test]
async fn deletion_of_a_large_account_blanks_its_events_in_batches() {
    let store = super::super::fresh();
    let ann = sign_up(&*store, "ann", tried(time(0))).await;
    let bob = sign_up(&*store, "bob", tried(time(0))).await;
    let refused =
        |user| tried_to(Action::LogIn, Subject::User(user), time(1)).ended(Outcome::Refused("told"));
    for _ in 0..12 {
        let events = (0..100).flat_map(|_| [refused(ann.id), refused(bob.id)]).collect();
        store.append(events).await.unwrap();
    }
    let left = async |store: &dyn AuditLog, user: &User| {
        let listed = store.list_events(AuditQuery::default(), 0, u32::MAX).await.unwrap();
        let is_left = |it: &&ListedEvent| it.entry.user == Some(user.id) && it.entry.client.is_some();
        listed.iter().filter(is_left).count()
    };
    let bobs = left(&*store, &bob).await;
    assert!(!store.blank_deleted(100).await.unwrap());

    store
        .close_account(ann.id, 0, tried_to(Action::CloseAccount, Subject::User(ann.id), time(2)))
        .await
        .unwrap();

    let remaining = left(&*store, &ann).await;
    assert!((1..1200).contains(&remaining), "{remaining}");
    assert!(store.inspect(None).await.unwrap().is_ok());
    // Whoever stops in the midst of it goes on.
    let store = store.reopened().await;
    assert!(store.blank_deleted(100).await.unwrap());
    assert_eq!(left(&*store, &ann).await, remaining - 100);
    assert!(store.inspect(None).await.unwrap().is_ok());
    let other = store.another();
    while store.blank_deleted(100).await.unwrap() | other.blank_deleted(70).await.unwrap() {}

    assert_eq!((left(&*store, &ann).await, left(&*store, &bob).await), (0, bobs));
    assert!(store.inspect(None).await.unwrap().is_ok());
}

#[tokio::test]
async fn nothing_points_to_a_person_whose_account_was_deleted_while_it_was_written() {
    let store = super::super::fresh();
    let other = store.another();
    let mut gone = Vec::new();

    for round in 0..40 {
        let name = format!("user{round}");
        let user = logged_in(&*store, &name, 10 * round).await;
        let about = |action| tried_to(action, Subject::User(user.id), time(1));
        let late = || vec![about(Action::ShowToken).ended(Outcome::Refused("session_over"))];
        let deleting = async {
            if round % 2 == 0 {
                let by_name = tried_to(Action::Delete, Subject::Name(key(&name)), time(1));
                _ = other.delete(key(&name), by_name).await.unwrap();
            } else {
                _ = other.close_account(user.id, 0, about(Action::CloseAccount)).await.unwrap();
            }
        };
        let logging_in = async {
            _ = store.open(login(user.id, 10 * round + 1, 0), about(Action::LogIn)).await.unwrap();
        };
        let (appended, there, ..) =
            tokio::join!(store.append(late()), other.append(late()), deleting, logging_in, other.head());
        appended.unwrap();
        there.unwrap();
        gone.push(user.id);
    }

    let kept = all(&*store).await;
    assert!(kept.len() >= 40 * 5, "{}", kept.len());
    for entry in kept.iter().filter(|entry| entry.user.is_some()) {
        assert!(gone.contains(&entry.user.unwrap()) && entry.client.is_none(), "{entry:?}");
    }
    assert_eq!(store.inspect(None).await.unwrap(), Ok(other.head().await.unwrap()));
}
