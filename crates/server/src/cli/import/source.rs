//! Where users come from: a file, what a pipe holds, or a database of the Python service.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use domain::Candidate;
use store_sqlite::legacy_import::{MAGIC, PythonService, PythonUser};

use super::super::{Exit, Failure};
use super::lines::Lines;

/// How many rows are read at once.
const PAGE: u32 = 500;

/// Users, to be gone through more than once.
pub(super) struct Source {
    name: String,
    users: Users,
}

enum Users {
    Lines { lines: Lines, length: u64 },
    PythonService(PythonUsers),
}

/// Where a user stands, and who it is, or what is wrong there.
pub(super) type Entry = (i64, Result<Candidate, String>);

struct PythonUsers {
    service: PythonService,
    page: VecDeque<PythonUser>,
    /// How many were read.
    read: u64,
}

impl Source {
    /// Opens what is at `path`, where `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let name = "standard input".to_owned();
            let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
            let users = file.map_err(|error| not_read(&name, &error)).and_then(|file| Users::of(file, None));
            return Ok(Self { users: users?, name });
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| not_read(&name, &error))?;
        Ok(Self { users: Users::of(file, Some(path))?, name })
    }

    /// Begins again.
    pub(super) fn rewind(&mut self) -> Result<(), Failure> {
        match &mut self.users {
            Users::Lines { lines, .. } => lines.rewind().map_err(|error| not_read(&self.name, &error)),
            Users::PythonService(users) => {
                users.service.rewind();
                users.page.clear();
                users.read = 0;
                Ok(())
            }
        }
    }

    /// The next entry; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let name = &self.name;
        match &mut self.users {
            Users::Lines { lines, .. } => {
                let next = lines.next().map_err(|error| not_read(name, &error))?;
                Ok(next.map(|(number, line)| (number, line.map_err(|why| why.to_string()))))
            }
            Users::PythonService(users) => {
                let next = users.next().map_err(|error| not_read(name, &error))?;
                Ok(next.map(|PythonUser { id, user }| (id, user.map_err(|why| why.to_string()))))
            }
        }
    }

    /// How much there is, in whatever [`position`](Self::position) counts.
    pub(super) fn length(&mut self) -> Result<u64, Failure> {
        match &mut self.users {
            Users::Lines { length, .. } => Ok(*length),
            Users::PythonService(users) => {
                users.service.count().map_err(|error| not_read(&self.name, &error))
            }
        }
    }

    /// How much of it was read.
    pub(super) fn position(&self) -> u64 {
        match &self.users {
            Users::Lines { lines, .. } => lines.position(),
            Users::PythonService(users) => users.read,
        }
    }

    /// What users stand in.
    pub(super) fn unit(&self) -> &'static str {
        match self.users {
            Users::Lines { .. } => "line",
            Users::PythonService(_) => "the row with id",
        }
    }
}

impl Users {
    /// Tells by its first bytes what is in a file.
    fn of(file: File, path: Option<&Path>) -> Result<Self, Failure> {
        let name = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let failed = |error: io::Error| not_read(&name, &error);
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() || kind.is_char_device() || kind.is_block_device() {
            let what = if kind.is_dir() { "a folder" } else { "a device" };
            let advice = "name a file, or send JSON Lines by a pipe";
            return Err(Failure::new(Exit::Usage, format_args!("{name} is {what}; {advice}")));
        }
        let mut file = if kind.is_file() { file } else { kept(file).map_err(failed)? };
        let begin = file.stream_position().map_err(failed)?;
        let mut first = Vec::with_capacity(MAGIC.len());
        (&file).take(MAGIC.len() as u64).read_to_end(&mut first).map_err(failed)?;
        file.seek(SeekFrom::Start(begin)).map_err(failed)?;
        if first != MAGIC {
            let length = file.metadata().map_err(failed)?.len().saturating_sub(begin);
            return Ok(Self::Lines { lines: Lines::new(file, begin), length });
        }
        let Some(path) = path.filter(|_| kind.is_file()) else {
            return Err(Failure::new(Exit::Usage, "a SQLite database is read where it is; name its file"));
        };
        // Before SQLite opens the file: to close a handle of ours drops its locks.
        drop(file);
        let service = PythonService::open(path).map_err(|error| not_read(&name, &error))?;
        Ok(Self::PythonService(PythonUsers { service, page: VecDeque::new(), read: 0 }))
    }
}

impl PythonUsers {
    fn next(&mut self) -> Result<Option<PythonUser>, store_sqlite::legacy_import::PythonServiceError> {
        if self.page.is_empty() {
            self.page.extend(self.service.next_page(PAGE)?);
        }
        let next = self.page.pop_front();
        self.read += u64::from(next.is_some());
        Ok(next)
    }
}

/// All that comes by a pipe, in a file that has no name and goes with this process: it is read twice.
fn kept(mut pipe: File) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut pipe, &mut file)?;
    file.rewind()?;
    Ok(file)
}

fn not_read(name: &str, error: &dyn Error) -> Failure {
    let mut failure = Failure::from_error(Exit::Failed, error);
    failure.lines.iter_mut().for_each(|line| *line = format!("cannot import {name}: {line}"));
    failure
}
