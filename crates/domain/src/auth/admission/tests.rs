use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::ports::{
    Change, MockHasher, MockSessionRepo, MockThrottle, MockTimer, MockUserRepo, Opening, Verification,
};
use crate::testing::{
    self, Events, ann, auth_that_counts, broken, origin, password, ports, session, token_ports,
};
use crate::{
    Action, Attempt, AuthenticatedUser, ChangePasswordError, ClientNetwork, CountedName, Counter, LogInError,
    Outcome, ReauthenticateError, Subject, Tries, UserId, UsernameKey, Whence,
};

/// Counts in memory what a store counts on disk.
#[derive(Default)]
struct Counting(Mutex<HashMap<Counter, Tries>>, AtomicUsize);

impl Counting {
    fn change(&self, place: Place, change: impl FnOnce(&Tries) -> Tries) {
        let mut counters = self.0.lock().unwrap();
        let tries = counters.get_mut(&place.counter).unwrap();
        *tries = change(tries);
    }

    fn failures(&self) -> u32 {
        self.0.lock().unwrap().values().map(|tries| tries.failures).sum()
    }

    /// How often it was asked for a place.
    fn asked(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    fn undecided(&self) -> usize {
        self.0.lock().unwrap().values().map(|tries| tries.undecided.len()).sum()
    }
}

#[async_trait]
impl Throttle for Counting {
    async fn counter(
        &self,
        _: LoginName,
        _: Option<ClientNetwork>,
        _: Timestamp,
    ) -> Result<Counter, PortError> {
        Ok(COUNTER)
    }

    async fn admit(
        &self,
        counter: Counter,
        _: Requester,
        at: Timestamp,
        rules: ThrottleRules,
    ) -> Result<Admittance, PortError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let mut counters = self.0.lock().unwrap();
        let tries = counters.entry(counter).or_insert_with(|| Tries::none(at));
        let (after, verdict) = tries.admit(at, rules);
        *tries = after;
        Ok(Admittance::of(verdict, counter, at))
    }

    async fn fail(
        &self,
        compared: Compared,
        refusal: Refusal,
        _: Option<Attempt>,
    ) -> Result<Refusal, PortError> {
        self.change(compared.place, |tries| tries.failed(compared.place.taken_at, compared.at));
        Ok(refusal)
    }

    async fn give_back(&self, place: Place) -> Result<(), PortError> {
        self.change(place, |tries| tries.given_back(place.taken_at));
        Ok(())
    }

    async fn unlock(&self, _: UsernameKey, _: Attempt) -> Result<Change, PortError> {
        Err(broken())
    }

    async fn tries(&self, _: UsernameKey) -> Result<Vec<(Whence, Tries)>, PortError> {
        Err(broken())
    }

    async fn newest_strays_end(&self, _: u32) -> Result<Option<Timestamp>, PortError> {
        Err(broken())
    }

    async fn remove_strays(&self, _: Timestamp, _: u32) -> Result<usize, PortError> {
        Err(broken())
    }
}

const COUNTER: Counter =
    Counter { name: CountedName([1; 16]), whence: Whence::Elsewhere, owner: Some(UserId(7)) };

/// Time that passes at once for those who wait so long, and never for others.
fn timer(over: Option<Duration>) -> Arc<MockTimer> {
    let mut timer = MockTimer::new();
    timer.expect_sleep().returning(move |time| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if Some(time) == over { Box::pin(tokio::task::yield_now()) } else { Box::pin(pending()) }
    });
    Arc::new(timer)
}

fn one_that_counts(over: Option<Duration>) -> (Auth, Arc<Counting>) {
    let throttle = Arc::new(Counting::default());
    let ports = Ports {
        throttle: throttle.clone(),
        timer: timer(over),
        audit_stream: testing::audit_stream().0,
        ..ports()
    };
    (auth_that_counts(ports), throttle)
}

async fn take_place(auth: &Auth) -> Result<Admitted, NotAdmitted> {
    let taken = auth.take_place(LoginName::from_typed("ann"), origin().requester()).await?;
    Ok(taken.expect("nothing moves"))
}

async fn let_others_work() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn twenty_who_come_at_once_are_all_admitted_one_after_the_other_and_five_at_a_time() {
    let (auth, throttle) = one_that_counts(None);

    let admitted = join_all((0..20).map(|_| async {
        let admitted = take_place(&auth).await.ok().unwrap();
        assert!(throttle.undecided() <= 5);
        let_others_work().await;
        let place = admitted.compared().unwrap().place;
        throttle.change(place, |tries| tries.succeeded(place.taken_at));
        admitted.settle(&Ok(()));
    }));

    assert_eq!(admitted.await.len(), 20);
    assert_eq!(throttle.undecided(), 0);
}

#[tokio::test]
async fn of_three_hundred_wrong_ones_five_are_compared_and_the_others_hear_of_the_delay() {
    let (auth, throttle) = one_that_counts(None);

    let told = join_all((0..300).map(|_| async {
        match take_place(&auth).await {
            Ok(admitted) => {
                let_others_work().await;
                let attempt = auth.attempt(Action::LogIn, Subject::Unknown, origin());
                auth.refuse(attempt, admitted, Refusal::WrongPassword).await.unwrap();
                None
            }
            Err(NotAdmitted::Throttled(throttled)) => Some(throttled.retry_after),
            Err(NotAdmitted::Hasher(_) | NotAdmitted::Port(_)) => {
                panic!("neither admitted nor told when")
            }
        }
    }));
    let told = told.await;
    assert_eq!(throttle.failures(), 5);
    assert_eq!(told.iter().filter(|told| **told == Some(Duration::from_secs(1))).count(), 295);
    // Once each that went, and the first in line when it came and whenever one of them was decided.
    assert!(throttle.asked() <= 11, "{}", throttle.asked());
}

#[tokio::test]
async fn whoever_goes_away_gives_their_place_back_also_while_they_wait_for_it() {
    let (auth, throttle) = one_that_counts(None);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(take_place(&auth).await.ok().unwrap());
    }
    let mut waiting = Box::pin(take_place(&auth));
    assert!((&mut waiting).now_or_never().is_none());
    let mut behind = Box::pin(take_place(&auth));
    assert!((&mut behind).now_or_never().is_none());

    drop(waiting);
    held.pop();
    let_others_work().await;

    assert!(behind.await.is_ok());
    drop(held);
    let_others_work().await;
    assert_eq!(throttle.undecided(), 0);
}

#[tokio::test]
async fn what_another_instance_decided_is_learned_by_asking_again() {
    let (auth, throttle) = one_that_counts(Some(ASK_EVERY));
    let now = auth.throttling.as_ref().unwrap().now();
    throttle.0.lock().unwrap().insert(COUNTER, Tries { undecided: vec![now; 5], ..Tries::none(now) });
    let place = Place { counter: COUNTER, taken_at: now };

    let (admitted, ()) = futures_util::future::join(take_place(&auth), async {
        let_others_work().await;
        throttle.change(place, |tries| tries.given_back(now));
    })
    .await;

    assert!(admitted.is_ok());
}

#[tokio::test]
async fn who_waited_long_enough_is_told_that_there_are_too_many() {
    let (auth, throttle) = one_that_counts(Some(PATIENCE));
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(take_place(&auth).await.ok().unwrap());
    }

    let refused = take_place(&auth).await;

    assert!(matches!(refused, Err(NotAdmitted::Hasher(HasherError::Overloaded { .. }))));
    assert_eq!(throttle.undecided(), 5);
}

fn throttle_that_answers(admittance: fn() -> Result<Admittance, PortError>) -> MockThrottle {
    let mut throttle = MockThrottle::new();
    throttle.expect_counter().returning(|_, _, _| Ok(COUNTER));
    throttle.expect_admit().returning(move |_, _, _, _| admittance());
    throttle
}

fn admitting() -> MockThrottle {
    throttle_that_answers(|| Ok(Admittance::Admitted(Place { counter: COUNTER, taken_at: testing::noon() })))
}

/// Whose account is there, and whose hasher is not touched unless it is another one.
fn with_account(throttle: MockThrottle, hasher: MockHasher) -> (Auth, Events) {
    let mut users = MockUserRepo::new();
    users.expect_find().returning(|_| Ok(Some(ann())));
    users.expect_find_by_name().returning(|_| Ok(Some(ann())));
    let (audit_stream, events) = testing::audit_stream();
    let (tokens, refresh_tokens) = token_ports();
    let mut sessions = MockSessionRepo::new();
    sessions
        .expect_open()
        .withf(|new, _| new.compared.is_some_and(|compared| compared.place.counter == COUNTER))
        .returning(|_, _| Ok(Opening::Done(ann().user)));
    let auth = auth_that_counts(Ports {
        users: Arc::new(users),
        sessions: Arc::new(sessions),
        throttle: Arc::new(throttle),
        timer: timer(None),
        hasher: Arc::new(hasher),
        audit_stream,
        tokens,
        refresh_tokens,
        ..ports()
    });
    (auth, events)
}

#[tokio::test]
async fn wherever_a_password_is_asked_for_it_is_not_looked_at_when_too_many_were_wrong() {
    let retry_after = Duration::from_secs(8);
    let throttled =
        || throttle_that_answers(|| Ok(Admittance::Refused { retry_after: Duration::from_secs(8) }));
    let (auth, events) = with_account(throttled(), MockHasher::new());
    let holder = AuthenticatedUser { user: ann().user, session: session().id };

    let name = LoginName::from_typed("ann");
    let logged_in = auth.log_in(origin(), name, password("right")).await;
    let (old, new) = (password("right"), password("kq7wzmv1"));
    let changed = auth.change_password(origin(), &holder, old, new).await;
    let closed = auth.delete_account(origin(), &holder, password("right")).await;

    let throttled = Throttled { retry_after };
    assert!(matches!(logged_in, Err(LogInError::Throttled(it)) if it == throttled));
    assert!(matches!(
        changed,
        Err(ChangePasswordError::Confirm(ReauthenticateError::Throttled(it))) if it == throttled
    ));
    assert!(matches!(closed, Err(ReauthenticateError::Throttled(it)) if it == throttled));
    let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused("throttled"); 3]);
}

#[tokio::test]
async fn a_wrong_password_is_counted_wherever_it_is_asked_for() {
    let mut throttle = admitting();
    throttle.expect_fail().times(3).returning(|_, refusal, _| Ok(refusal));
    let mut hasher = MockHasher::new();
    hasher.expect_verify().returning(|_, _, _| Ok(Verification::Mismatch));
    let (auth, events) = with_account(throttle, hasher);
    let holder = AuthenticatedUser { user: ann().user, session: session().id };

    let name = LoginName::from_typed("ann");
    assert!(auth.log_in(origin(), name, password("wrong")).await.is_err());
    let (old, new) = (password("wrong"), password("kq7wzmv1"));
    assert!(auth.change_password(origin(), &holder, old, new).await.is_err());
    assert!(auth.delete_account(origin(), &holder, password("wrong")).await.is_err());

    let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused("wrong_password"); 3]);
}

#[tokio::test]
async fn a_success_is_kept_by_what_opens_the_session_and_a_failure_by_what_counts_it() {
    for (verification, is_in) in [(Verification::Match, true), (Verification::Mismatch, false)] {
        let given_back = Arc::new(AtomicUsize::new(0));
        let count = given_back.clone();
        let mut throttle = admitting();
        throttle.expect_fail().returning(|_, refusal, _| Ok(refusal));
        throttle.expect_give_back().returning(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let mut hasher = MockHasher::new();
        hasher.expect_verify().returning(move |_, _, _| Ok(verification));
        let (auth, _) = with_account(throttle, hasher);

        let logged_in = auth.log_in(origin(), LoginName::from_typed("ann"), password("some")).await;
        let_others_work().await;

        assert_eq!((logged_in.is_ok(), given_back.load(Ordering::SeqCst)), (is_in, 0));
    }
}

#[tokio::test]
async fn a_password_is_compared_only_where_it_is_counted_for_the_one_whose_it_is() {
    let nobodys = Counter { owner: None, ..COUNTER };
    let somebodys = Counter { owner: Some(UserId(8)), ..COUNTER };
    for before in [nobodys, somebodys] {
        let mut throttle = MockThrottle::new();
        // The name becomes ann's in the midst of each attempt.
        for counter in [before, COUNTER, before, COUNTER] {
            throttle.expect_counter().once().returning(move |_, _, _| Ok(counter));
        }
        throttle
            .expect_admit()
            .returning(|counter, _, at, _| Ok(Admittance::Admitted(Place { counter, taken_at: at })));
        throttle.expect_give_back().withf(move |place| place.counter == before).returning(|_| Ok(()));
        throttle
            .expect_fail()
            .withf(|compared, _, _| compared.place.counter == COUNTER)
            .times(2)
            .returning(|_, refusal, _| Ok(refusal));
        let mut hasher = MockHasher::new();
        hasher.expect_verify().times(2).returning(|_, _, _| Ok(Verification::Mismatch));
        let (auth, _) = with_account(throttle, hasher);
        let holder = AuthenticatedUser { user: ann().user, session: session().id };

        assert!(auth.log_in(origin(), LoginName::from_typed("ann"), password("wrong")).await.is_err());
        assert!(auth.delete_account(origin(), &holder, password("wrong")).await.is_err());
    }
}

#[tokio::test]
async fn a_name_that_changes_hands_again_and_again_is_told_to_try_later_and_nothing_is_compared() {
    let (auth, events) = with_account(throttle_that_answers(|| Ok(Admittance::Moved)), MockHasher::new());
    let holder = AuthenticatedUser { user: ann().user, session: session().id };

    let logged_in = auth.log_in(origin(), LoginName::from_typed("ann"), password("right")).await;
    let closed = auth.delete_account(origin(), &holder, password("right")).await;

    assert!(matches!(logged_in, Err(LogInError::Hasher(HasherError::Overloaded { .. }))));
    assert!(matches!(closed, Err(ReauthenticateError::Hasher(HasherError::Overloaded { .. }))));
    let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused("overloaded"); 2]);
}

#[tokio::test]
async fn a_place_is_given_back_when_the_hasher_has_none() {
    let mut throttle = admitting();
    throttle.expect_give_back().withf(|place| place.counter == COUNTER).once().returning(|_| Ok(()));
    let mut hasher = MockHasher::new();
    hasher
        .expect_verify()
        .returning(|_, _, _| Err(HasherError::Overloaded { retry_after: Duration::from_secs(1) }));
    let (auth, events) = with_account(throttle, hasher);

    let refused = auth.log_in(origin(), LoginName::from_typed("ann"), password("right")).await;

    assert!(matches!(refused, Err(LogInError::Hasher(_))));
    let_others_work().await;
    assert_eq!(events.taken()[0].1, Outcome::Refused("overloaded"));
}

#[tokio::test]
async fn where_nothing_can_be_counted_nothing_is_compared_and_nothing_is_told() {
    let (auth, events) = with_account(throttle_that_answers(|| Err(broken())), MockHasher::new());

    let refused = auth.log_in(origin(), LoginName::from_typed("ann"), password("right")).await;

    assert!(matches!(refused, Err(LogInError::Port(_))));
    assert_eq!(events.taken()[0].1, Outcome::Failed);

    let mut throttle = admitting();
    throttle.expect_fail().once().returning(|_, _, _| Err(broken()));
    throttle.expect_give_back().once().returning(|_| Err(broken()));
    let mut hasher = MockHasher::new();
    hasher.expect_verify().returning(|_, _, _| Ok(Verification::Mismatch));
    let (auth, _) = with_account(throttle, hasher);
    let refused = auth.log_in(origin(), LoginName::from_typed("ann"), password("wrong")).await;
    assert!(matches!(refused, Err(LogInError::Port(_))));
    let_others_work().await;
}
