//! What people were told is done, written down.
//!
//! Each client keeps a ledger of an account of its own: what it sent, and what it was answered. It sends one thing
//! at a time, so of each account at most one thing is under way when the server, or what it stands on, goes away: that
//! has happened or it has not, and never by half. All else has to be as it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::client::{Answer, Client, PASSWORD};
use super::server::Deployment;

/// The ledger of one account.
pub(crate) struct Account {
    name: String,
    /// The password last acknowledged; none while there is no account.
    password: Option<String>,
    /// The sessions that are live, as far as the client knows.
    live: Vec<Session>,
    /// Those that were ended, the first ones looked at already.
    over: Vec<Session>,
    looked_at: usize,
    /// How often what was answered, by its name in the audit log.
    answered: BTreeMap<&'static str, usize>,
    /// What was sent and not answered yet.
    under_way: Option<Step>,
    chance: Chance,
}

#[derive(Clone)]
struct Session {
    id: String,
    /// Of each generation, oldest first.
    tokens: Vec<Tokens>,
}

#[derive(Clone)]
struct Tokens {
    access: String,
    refresh: String,
}

/// What a client may do next. The numbers are places among the live sessions.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    SignUp,
    LogIn,
    Refresh(usize),
    Show(usize),
    LogOut(usize),
    ChangePassword(usize, String),
    Close(usize),
}

impl Step {
    /// Its name in the audit log, if it is to be found there.
    fn event(&self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::LogIn => "log_in",
            Self::Refresh(_) | Self::Show(_) => "",
            Self::LogOut(_) => "log_out",
            Self::ChangePassword(..) => "change_password",
            Self::Close(_) => "close_account",
        }
    }
}

/// Looks once more at all that was over, in a later round as well.
pub(crate) async fn assert_nothing_came_back(accounts: &[Account], client: &Client) {
    join_all(accounts.iter().map(|account| account.check_what_is_over(client, 0))).await;
}

/// Holds the audit log to the ledgers: every account that was made or deleted is on record, and so is every session
/// that somebody has got or ended. Tells how many of each were acknowledged.
pub(crate) fn assert_on_record(accounts: &[Account], deployment: &Deployment) -> [usize; 5] {
    let listed = deployment.run(&["audit", "list", "--json"]).json();
    let succeeded = |event: &str| {
        let is_it = |listed: &&Value| listed["event"] == event && listed["outcome"] == "success";
        listed.as_array().unwrap().iter().filter(is_it).count()
    };
    ["sign_up", "log_in", "log_out", "change_password", "close_account"].map(|event| {
        let acknowledged = accounts.iter().filter_map(|account| account.answered.get(event)).sum();
        assert!(succeeded(event) >= acknowledged, "{event}: {acknowledged}");
        acknowledged
    })
}

impl Account {
    pub(crate) fn new(name: String, seed: u64) -> Self {
        let (live, over) = (Vec::new(), Vec::new());
        let (answered, chance) = (BTreeMap::new(), Chance(seed));
        Self { name, password: None, live, over, looked_at: 0, answered, under_way: None, chance }
    }

    /// What it does next.
    pub(crate) fn choose(&mut self) -> Step {
        if self.password.is_none() {
            return Step::SignUp;
        }
        if self.live.is_empty() {
            return Step::LogIn;
        }
        let session = usize::try_from(self.chance.next()).unwrap() % self.live.len();
        match self.chance.below(50) {
            0..3 => Step::LogIn,
            3..34 => Step::Refresh(session),
            34..42 => Step::Show(session),
            42..48 => Step::LogOut(session),
            48 => Step::ChangePassword(session, format!("{} brown otters sing", self.chance.next())),
            _ => Step::Close(session),
        }
    }

    /// Does it. It is under way until its answer is settled.
    pub(crate) async fn send(&mut self, client: &Client, step: Step) -> Result<Answer, reqwest::Error> {
        let request = self.request(client, &step);
        self.under_way = Some(step);
        client.try_send(request).await
    }

    fn request(&self, client: &Client, step: &Step) -> RequestBuilder {
        let password = self.password.as_deref().unwrap_or(PASSWORD);
        let bearing = |method, path, session: usize| {
            client.request(method, path).bearer_auth(&self.live[session].newest().access)
        };
        let refresh_token = |session: usize| json!({ "refresh_token": self.live[session].newest().refresh });
        match step {
            Step::SignUp => client
                .request("POST", "/api/signup")
                .json(&json!({ "username": self.name, "password": PASSWORD })),
            Step::LogIn => client
                .request("POST", "/api/login")
                .json(&json!({ "username": self.name, "password": password })),
            Step::Refresh(session) => client.request("POST", "/api/refresh").json(&refresh_token(*session)),
            Step::Show(session) => bearing("GET", "/api/me", *session),
            Step::LogOut(session) if session % 2 == 0 => bearing("POST", "/api/logout", *session),
            Step::LogOut(session) => client.request("POST", "/api/logout").json(&refresh_token(*session)),
            Step::ChangePassword(session, new) => bearing("PUT", "/api/me/password", *session)
                .json(&json!({ "current_password": password, "new_password": new })),
            Step::Close(session) => {
                bearing("DELETE", "/api/me", *session).json(&json!({ "password": password }))
            }
        }
    }

    /// Writes down what was answered.
    pub(crate) fn settle(&mut self, answer: &Answer) {
        let step = self.under_way.take().expect("something was sent");
        let expected = match step {
            Step::SignUp => 201,
            Step::LogOut(_) | Step::Close(_) => 204,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{step:?} of {}: {answer:?}", self.name);
        *self.answered.entry(step.event()).or_default() += 1;
        match step {
            Step::Show(_) => {}
            Step::SignUp => self.password = Some(PASSWORD.to_owned()),
            Step::LogIn => self.live.push(Session::opened(answer)),
            Step::Refresh(session) => self.live[session].rotated(answer),
            Step::LogOut(session) => self.over.push(self.live.remove(session)),
            Step::ChangePassword(_, new) => {
                self.over.append(&mut self.live);
                self.live.push(Session::opened(answer));
                self.password = Some(new);
            }
            Step::Close(_) => {
                self.over.append(&mut self.live);
                self.password = None;
            }
        }
    }

    /// Strikes out what was refused before anything was done.
    pub(crate) fn withdraw(&mut self) {
        self.under_way = None;
    }

    /// Holds the server to the ledger, and leaves an account without a session.
    pub(crate) async fn check(&mut self, client: &Client) {
        let under_way = self.under_way.take();
        // The sessions that may be there, and must be, of which no answer told.
        let mut strays = 0..=0;
        match &under_way {
            Some(Step::LogIn) => strays = 0..=1,
            Some(Step::SignUp) if self.logs_in(client, PASSWORD).await => {
                self.password = Some(PASSWORD.to_owned());
            }
            Some(Step::ChangePassword(_, new)) if !self.logs_in(client, self.known_password()).await => {
                self.password = Some(new.clone());
                self.over.append(&mut self.live);
                strays = 1..=1;
            }
            Some(Step::Close(_)) if !self.logs_in(client, self.known_password()).await => {
                self.password = None;
                self.over.append(&mut self.live);
            }
            _ => {}
        }
        if self.password.is_none() {
            // Where nobody can log in, nothing is left in the way of somebody new.
            assert_eq!(client.sign_up(&self.name, PASSWORD).await.status, 201, "{under_way:?}");
            self.password = Some(PASSWORD.to_owned());
        }

        let visitor = client.log_in(&self.name, self.known_password()).await;
        assert_eq!(visitor.status, 200, "{}: {under_way:?}", self.name);
        let listed = client.send(client.request("GET", "/api/sessions").bearer_auth(visitor.token())).await;
        let listed: BTreeSet<_> = listed.json()["sessions"].as_array().unwrap().iter().map(id).collect();
        if let Some(Step::LogOut(session)) = under_way
            && !listed.contains(&self.live[session].id)
        {
            self.over.push(self.live.remove(session));
        }
        let known = self.live.iter().map(|session| session.id.clone());
        let known: BTreeSet<_> = known.chain([id(&visitor.json())]).collect();
        let name = &self.name;
        assert!(known.is_subset(&listed), "{name}: {under_way:?} took more along, {known:?}, {listed:?}");
        let more = listed.difference(&known).count();
        assert!(strays.contains(&more), "{name}: {under_way:?} leaves {more} more, {known:?}, {listed:?}");

        for (index, session) in self.live.iter().enumerate() {
            let lost = matches!(under_way, Some(Step::Refresh(session)) if session == index);
            session.check(client, lost, self.chance.below(2) == 0).await;
        }
        self.over.append(&mut self.live);
        for (method, path) in [("DELETE", "/api/sessions?except=current"), ("POST", "/api/logout")] {
            let ended = client.send(client.request(method, path).bearer_auth(visitor.token())).await;
            assert_eq!(ended.status, 204, "{path}");
        }
        self.check_what_is_over(client, self.looked_at).await;
        self.looked_at = self.over.len();
    }

    /// All sessions that are over, but for the first ones.
    async fn check_what_is_over(&self, client: &Client, but: usize) {
        for session in &self.over[but..] {
            session.assert_over(client).await;
        }
    }

    /// How many sessions of theirs are over.
    pub(crate) fn sessions_over(&self) -> usize {
        self.over.len()
    }

    /// Whether one of these was refreshed more than a few times.
    pub(crate) fn has_rotated(&self) -> bool {
        self.over.iter().any(|session| session.tokens.len() > 3)
    }

    async fn logs_in(&self, client: &Client, password: &str) -> bool {
        let answer = client.log_in(&self.name, password).await;
        if answer.status != 200 {
            answer.assert_problem(401, "invalid_credentials");
            return false;
        }
        assert_eq!(client.me(&answer.token()).await.json()["username"], self.name);
        let left = client.send(client.request("POST", "/api/logout").bearer_auth(answer.token())).await;
        left.status == 204
    }

    fn known_password(&self) -> &str {
        self.password.as_deref().unwrap()
    }
}

fn id(session: &Value) -> String {
    let id = session.get("session_id").unwrap_or(&session["id"]);
    id.as_str().unwrap().to_owned()
}

impl Session {
    fn opened(answer: &Answer) -> Self {
        Self { id: id(&answer.json()), tokens: vec![Tokens::of(answer)] }
    }

    fn rotated(&mut self, answer: &Answer) {
        assert_eq!(answer.headers.get("Refresh-Reuse"), None, "{answer:?}");
        assert_eq!(id(&answer.json()), self.id);
        self.tokens.push(Tokens::of(answer));
    }

    fn newest(&self) -> &Tokens {
        self.tokens.last().unwrap()
    }

    /// Goes on with a session that is live, and ends it by a replay. If an answer to a refresh was `lost`, it may
    /// have been exchanged already.
    async fn check(&self, client: &Client, lost: bool, replayed_first: bool) {
        assert_eq!(client.me(&self.newest().access).await.status, 200, "{}", self.id);
        if replayed_first && let [.., oldest, _, _] = &*self.tokens {
            // Long superseded, also where the newest is newer than the client knows.
            refused(&refresh(client, oldest).await);
            return self.assert_over(client).await;
        }

        let next = refresh(client, self.newest()).await;
        assert_eq!(next.status, 200, "{}: {next:?}", self.id);
        assert_eq!(id(&next.json()), self.id);
        assert!(lost || next.headers.get("Refresh-Reuse").is_none(), "exchanged by nobody: {next:?}");
        // Whether it was exchanged before or only now, there is one successor and no other.
        let again = refresh(client, self.newest()).await;
        assert_eq!((again.status.as_u16(), again.header("Refresh-Reuse")), (200, "recovered"));
        assert_eq!(again.refresh_token(), next.refresh_token());
        let newest = refresh(client, &Tokens::of(&next)).await;
        assert_eq!((newest.status.as_u16(), newest.headers.get("Refresh-Reuse")), (200, None));
        assert_eq!(client.me(&newest.token()).await.status, 200);

        refused(&refresh(client, self.newest()).await);
        let tokens = [&next, &again, &newest].map(Tokens::of).into();
        Self { id: self.id.clone(), tokens }.assert_over(client).await;
    }

    async fn assert_over(&self, client: &Client) {
        for tokens in &self.tokens {
            refused(&refresh(client, tokens).await);
            client.me(&tokens.access).await.assert_problem(401, "invalid_token");
        }
    }
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        Self { access: answer.token(), refresh: answer.refresh_token() }
    }
}

async fn refresh(client: &Client, tokens: &Tokens) -> Answer {
    client.post("/api/refresh", &json!({ "refresh_token": tokens.refresh })).await
}

#[track_caller]
fn refused(answer: &Answer) {
    answer.assert_problem(401, "invalid_refresh_token");
}

/// Numbers that come back with their seed (`SplitMix64`).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Another one at every run, or the one that a failed run has shown.
pub(crate) fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "whoever looks into a failure gives the seed")]
    let given = std::env::var("TESTS_SEED").ok();
    given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().unwrap())
}
