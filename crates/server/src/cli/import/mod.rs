//! `auth-api users import`: users who come from elsewhere, with the hashes of their passwords.
//!
//! Twice through the source: once to look, and once to write, when it is known that nobody will be refused or that it
//! does not matter. What stands in a line is never repeated, for it may be a hash.

mod lines;
mod source;

use std::collections::HashSet;
use std::future::ready;
use std::path::PathBuf;
use std::pin::Pin;

use clap::Args;
use domain::ports::Hasher;
use domain::{Admin, Admission, Conflict, Importation, ImportedUser, Numbers, Unimportable};
use indicatif::ProgressBar;

use self::source::Source;
use super::accounts::not_reached;
use super::{Exit, Failure, output};
use crate::signals;

/// How many users are looked up at once, and written in one transaction: some hundredths of a second, in which nobody
/// else writes to a database on SQLite.
const BATCH: usize = 500;

/// What to do about a number that cannot be kept, which nobody can give back.
const NUMBERS_GIVEN: &str = "numbers that were given here cannot be kept, and every sign-up gives one: stop all servers, \
                             import the others with --keep-ids --skip-refused, and then the same file without \
                             --keep-ids, which gives new numbers to those who are left";

/// How many are named one by one where nobody is imported: whoever corrects a file wants no more at once, and one that
/// is something else has nothing but what is refused.
const NAMED: u64 = 100;

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// JSON Lines, or the SQLite database of the Python service; - is JSON Lines from standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Keep their numbers, which must be greater than every one that was given here; stop all servers for it
    #[arg(long)]
    keep_ids: bool,
    /// Import the others where some are refused, instead of nobody
    #[arg(long)]
    skip_refused: bool,
}

/// An import whose source is open.
pub(super) struct Import {
    source: Source,
    numbers: Numbers,
    skips_refused: bool,
}

/// One way through the source.
struct Pass<'import> {
    admin: &'import Admin,
    hasher: &'import dyn Hasher,
    source: &'import mut Source,
    admission: Admission,
    bar: ProgressBar,
    /// How many more are going to be named, if not all are.
    left: Option<u64>,
}

/// What was read at once.
#[derive(Default)]
struct Batch {
    users: Vec<ImportedUser>,
    /// Where they stand.
    places: Vec<i64>,
    /// How many there were, refused and passed over ones too.
    read: u64,
    /// Where those stand who cannot be imported, and why not.
    refused: Vec<(i64, String)>,
}

/// What was found before anything was written.
#[derive(Default)]
struct Findings {
    users: u64,
    refused: u64,
    /// Whether any of them cannot keep a number.
    lacks_numbers: bool,
    /// Where those stand, if the others are going to be imported.
    places: HashSet<i64>,
}

/// What became of those who were not refused before.
#[derive(Default)]
struct Counts {
    imported: u64,
    there: u64,
    refused: u64,
    /// How many of the imported, and of those who were there, have a hash of perhaps not the whole password.
    truncated: u64,
}

impl Arguments {
    /// Opens the source, before the database is.
    pub(super) fn prepare(self) -> Result<Import, Failure> {
        let numbers = if self.keep_ids { Numbers::Kept } else { Numbers::New };
        Ok(Import { source: Source::open(&self.file)?, numbers, skips_refused: self.skip_refused })
    }
}

impl Import {
    pub(super) async fn perform(mut self, admin: &Admin, hasher: &dyn Hasher) -> Result<(), Failure> {
        let mut interrupt = std::pin::pin!(signals::interrupted());
        let Findings { users, refused, lacks_numbers, places } =
            self.check(admin, hasher, interrupt.as_mut()).await?;
        if refused > 0 && !self.skips_refused {
            if refused > NAMED {
                output::line(format_args!("and {} more", refused - NAMED))?;
            }
            output::line(format_args!("{refused} of {users} users would be refused; nobody was imported"))?;
            let advice = "correct them, or say --skip-refused to import the others";
            let mut failure = Failure::new(Exit::Refused, format_args!("nothing was written; {advice}"));
            failure.lines.extend(lacks_numbers.then(|| NUMBERS_GIVEN.to_owned()));
            return Err(failure);
        }
        let mut counts = Counts { refused, ..Counts::default() };
        let written = self.write(admin, hasher, &places, &mut counts, interrupt).await;
        let Counts { imported, there, refused, truncated } = counts;
        output::line(format_args!(
            "imported {imported} users; {there} were there already; {refused} were refused"
        ))?;
        written?;
        if truncated > 0 {
            output::line(truncation_note(truncated))?;
        }
        if refused > 0 {
            return Err(Failure::new(Exit::Refused, format_args!("{refused} users were refused")));
        }
        Ok(())
    }

    /// Looks who could be imported as things are, and says of those who could not why.
    async fn check(
        &mut self,
        admin: &Admin,
        hasher: &dyn Hasher,
        mut interrupt: Pin<&mut impl Future>,
    ) -> Result<Findings, Failure> {
        let mut pass = Pass::begin(admin, hasher, &mut self.source, self.numbers, "checking")?;
        pass.left = (!self.skips_refused).then_some(NAMED);
        let mut findings = Findings::default();
        while let Some(mut batch) = pass.next(&HashSet::new())? {
            let preview = admin.preview_import(&batch.users).await.map_err(|error| not_reached(&error))?;
            for (place, outcome) in batch.places.iter().zip(preview) {
                if let Some(Importation::Refused(conflict)) = outcome {
                    findings.lacks_numbers |= conflict == Conflict::NumberGiven;
                    batch.refused.push((*place, conflict.to_string()));
                }
            }
            pass.tell(&mut batch.refused)?;
            findings.users += batch.read;
            findings.refused += batch.refused.len() as u64;
            if self.skips_refused {
                findings.places.extend(batch.refused.iter().map(|(place, _)| *place));
            }
            if is_over(interrupt.as_mut()).await {
                return Err(Failure::new(Exit::Failed, "interrupted; nothing was written"));
            }
        }
        pass.bar.finish_and_clear();
        Ok(findings)
    }

    /// Imports all but those who stand at `refused`.
    async fn write(
        &mut self,
        admin: &Admin,
        hasher: &dyn Hasher,
        refused: &HashSet<i64>,
        counts: &mut Counts,
        mut interrupt: Pin<&mut impl Future>,
    ) -> Result<(), Failure> {
        let mut pass = Pass::begin(admin, hasher, &mut self.source, self.numbers, "importing")?;
        let mut lacks_numbers = false;
        while let Some(mut batch) = pass.next(refused)? {
            let truncated: Vec<bool> =
                batch.users.iter().map(|user| hasher.may_be_truncated(&user.password_hash)).collect();
            let imported = admin.import(batch.users).await;
            let imported = imported.map_err(|error| goes_on(not_reached(&error)))?;
            for ((place, outcome), truncated) in batch.places.iter().zip(imported).zip(truncated) {
                counts.truncated += u64::from(truncated && !matches!(outcome, Importation::Refused(_)));
                match outcome {
                    Importation::Done(_) => counts.imported += 1,
                    Importation::AlreadyThere => counts.there += 1,
                    // Somebody came between the two ways.
                    Importation::Refused(conflict) => {
                        lacks_numbers |= conflict == Conflict::NumberGiven;
                        batch.refused.push((*place, conflict.to_string()));
                    }
                }
            }
            pass.tell(&mut batch.refused)?;
            counts.refused += batch.refused.len() as u64;
            if counts.refused > 0 && !self.skips_refused {
                return Err(overtaken(lacks_numbers));
            }
            if is_over(interrupt.as_mut()).await {
                return Err(goes_on(Failure::new(Exit::Failed, "interrupted")));
            }
        }
        pass.bar.finish_and_clear();
        Ok(())
    }
}

impl<'import> Pass<'import> {
    fn begin(
        admin: &'import Admin,
        hasher: &'import dyn Hasher,
        source: &'import mut Source,
        numbers: Numbers,
        what: &'static str,
    ) -> Result<Self, Failure> {
        source.rewind()?;
        let bar = output::progress(source.length()?, what);
        Ok(Self { admin, hasher, source, admission: admin.begin_admission(numbers), bar, left: None })
    }

    /// Reads on, past those who stand at `skipped`; nothing at the end.
    fn next(&mut self, skipped: &HashSet<i64>) -> Result<Option<Batch>, Failure> {
        let (mut batch, unit) = (Batch::default(), self.source.unit());
        while batch.users.len() + batch.refused.len() < BATCH {
            let Some((place, candidate)) = self.source.next()? else { break };
            batch.read += 1;
            if skipped.contains(&place) {
                continue;
            }
            let admitted = candidate.and_then(|candidate| {
                let admitted = self.admin.admit(&mut self.admission, self.hasher, place, candidate);
                admitted.map_err(|why| match why {
                    Unimportable::SameName { first } => {
                        format!("{unit} {first} has the same name, in this spelling or another")
                    }
                    other => other.to_string(),
                })
            });
            match admitted {
                Ok(user) => {
                    batch.places.push(place);
                    batch.users.push(user);
                }
                Err(why) => batch.refused.push((place, why)),
            }
        }
        self.bar.set_position(self.source.position());
        Ok((batch.read > 0).then_some(batch))
    }

    /// Says who is refused and why, in the order of the source.
    fn tell(&mut self, refused: &mut [(i64, String)]) -> Result<(), Failure> {
        refused.sort_unstable_by_key(|(place, _)| *place);
        let mut named = &*refused;
        if let Some(left) = &mut self.left {
            named = &refused[..refused.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
            *left -= named.len() as u64;
        }
        let unit = self.source.unit();
        self.bar.suspend(|| {
            named.iter().try_for_each(|(place, why)| output::line(format_args!("{unit} {place}: {why}")))
        })
    }
}

/// What to know about users whose passwords may be longer than what was hashed of them.
fn truncation_note(users: u64) -> String {
    format!(
        "{users} of these users have bcrypt hashes. Other programs hash only the first 72 bytes of a \
         password, and do not compose its Unicode; logins here compare all of it. Whoever has a longer or a decomposed \
         password cannot log in until `auth-api users set-password NAME` gives them another."
    )
}

async fn is_over(event: Pin<&mut impl Future>) -> bool {
    tokio::select! {
        biased;
        _ = event => true,
        () = ready(()) => false,
    }
}

/// Somebody came between the two ways, and is there the next time as well.
fn overtaken(lacks_numbers: bool) -> Failure {
    let what = "since all were looked at, somebody signed up or took another name, and is in the way";
    let mut failure = Failure::new(Exit::Refused, what);
    failure
        .lines
        .push("what was imported stays; with --skip-refused the command goes on with the others".to_owned());
    failure.lines.extend(lacks_numbers.then(|| NUMBERS_GIVEN.to_owned()));
    failure
}

/// What is written stays, and is found again.
fn goes_on(mut failure: Failure) -> Failure {
    failure.lines.push("what was imported stays; the same command goes on with the others".to_owned());
    failure
}
