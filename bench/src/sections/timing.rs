//! Whether the time that a refusal takes tells its cause, which the refusal itself must not.

use serde_json::Value;

use crate::Result;
use crate::ambient::{now, shuffle};
use crate::callers::{LogIn, PASSWORD, WRONG_PASSWORD, log_in, object, unexpected};
use crate::client::{Answer, Connection};
use crate::database::{Account, name};
use crate::load::while_calling;
use crate::report::{Figure, Target, Wrong};
use crate::sections::Bench;
use crate::server::Server;
use crate::stats::{area_under_curve, median, milliseconds};
use crate::yardstick::hash;

pub(super) const NAME: &str = "timing";

const COST: u32 = 11;
const OLD_COST: u32 = 10;

/// How often each is tried. The area that chance alone gives is then half of it give or take 0.033, and beyond
/// 0.1 once in four hundred.
const TRIES: usize = 150;

/// How many others log in meanwhile, in the second part.
const OTHERS: usize = 8;

/// What is refused. The others are told from the first one.
const CAUSES: [Cause; 5] = [
    Cause { label: "a wrong password", name: "known", password: Typed::Wrong },
    Cause { label: "an unknown user", name: "nobody", password: Typed::Wrong },
    Cause { label: "a disabled account, right password", name: "disabled", password: Typed::Right },
    Cause { label: "an old hash of a lower cost", name: "veteran", password: Typed::Wrong },
    Cause { label: "a password of 200 bytes", name: "known", password: Typed::Long },
];

#[derive(Clone, Copy)]
struct Cause {
    label: &'static str,
    name: &'static str,
    password: Typed,
}

#[derive(Clone, Copy)]
enum Typed {
    Right,
    Wrong,
    /// Longer than what bcrypt reads.
    Long,
}

/// The milliseconds that each cause took, in the order of [`CAUSES`].
type Latencies = [Vec<f64>; CAUSES.len()];

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = serve(bench)?;
    let tries = bench.plan.many(TRIES);

    eprintln!("{NAME}: {tries} refusals of each kind, alone");
    let alone = try_all(&server, tries)?;
    report(bench, alone, "alone");

    eprintln!("{NAME}: {tries} refusals of each kind, among {OTHERS} others");
    let others = (1..=OTHERS).map(|number| LogIn::new(&name(number))).collect();
    let (among, tally) = while_calling(server.address, others, || try_all(&server, tries))?;
    report(bench, among?, &format!("among {OTHERS} others"));
    bench.report.blame(NAME, tally.wrong);
    server.stop()
}

fn serve(bench: &Bench) -> Result<Server> {
    let deployment = bench.deployment(COST)?;
    let database = deployment.migrate()?;
    let (hash, old_hash) = (hash(COST)?, hash(OLD_COST)?);
    database.populate(OTHERS, &hash)?;
    for (name, hash, is_disabled) in
        [("known", &hash, false), ("disabled", &hash, true), ("veteran", &old_hash, false)]
    {
        database.add(Account { name, hash, is_disabled })?;
    }
    deployment.serve()
}

/// Tries every cause so many times, in no order, over one connection.
fn try_all(server: &Server, tries: usize) -> Result<(Latencies, Wrong)> {
    let requests = CAUSES.map(|cause| log_in(cause.name, &cause.password.text()));
    let mut connection = Connection::open(server.address)?;
    let mut body: Option<Value> = None;
    let (mut latencies, mut wrong) = (Latencies::default(), Wrong::default());
    let mut turns: Vec<usize> = (0..CAUSES.len()).flat_map(|cause| vec![cause; tries]).collect();
    shuffle(&mut turns)?;
    // The first of anything is slower.
    connection.ask(&requests[0])?;
    for cause in turns {
        let begun = now();
        let answer = connection.ask(&requests[cause])?;
        let took = milliseconds(begun.elapsed());
        match anonymous(&answer) {
            Ok(this) if *body.get_or_insert_with(|| this.clone()) == this => latencies[cause].push(took),
            Ok(_) => wrong.add(format!("{}: another body: {}", CAUSES[cause].label, unexpected(&answer))),
            Err(what) => wrong.add(format!("{}: {what}", CAUSES[cause].label)),
        }
    }
    Ok((latencies, wrong))
}

/// The body of a 401, without the one field that may differ.
fn anonymous(answer: &Answer<'_>) -> std::result::Result<Value, String> {
    let mut body = if answer.status == 401 { object(answer)? } else { return Err(unexpected(answer)) };
    let identifier = body.as_object_mut().and_then(|fields| fields.remove("request_id"));
    if identifier.is_some() { Ok(body) } else { Err(unexpected(answer)) }
}

fn report(bench: &mut Bench, (latencies, wrong): (Latencies, Wrong), when: &str) {
    let [usual, others @ ..] = latencies;
    let p50 = Figure::new(NAME, format!("{when}: {}: p50", CAUSES[0].label), "ms", vec![median(&usual)]);
    bench.report.add(p50);
    for (cause, latencies) in CAUSES[1..].iter().zip(others) {
        let area = area_under_curve(&latencies, &usual);
        let figure = Figure::new(NAME, format!("{when}: {}", cause.label), "AUC", vec![area]);
        bench.report.add(figure.with_target(Target::Between(0.4, 0.6)));
    }
    bench.report.blame(NAME, wrong);
}

impl Typed {
    fn text(self) -> String {
        match self {
            Self::Right => PASSWORD.to_owned(),
            Self::Wrong => WRONG_PASSWORD.to_owned(),
            Self::Long => WRONG_PASSWORD.repeat(10)[..200].to_owned(),
        }
    }
}
