//! A counter as a row, and what a row must be.

use diesel::data_types::PgTimestamp;
use diesel::prelude::*;
use domain::{Counter, Tries, Whence};

use crate::error::BrokenRow;
use crate::schema::throttles;
use crate::sql_types::{self, timestamptz};

#[derive(AsChangeset, Insertable, Queryable, Selectable)]
#[diesel(table_name = throttles, primary_key(name, whence))]
pub(super) struct Row {
    pub(super) name: Vec<u8>,
    pub(super) whence: Vec<u8>,
    pub(super) failures: i64,
    pub(super) failed_at: PgTimestamp,
    pub(super) undecided: Vec<PgTimestamp>,
    pub(super) is_stray: bool,
}

impl Row {
    pub(super) fn new(counter: &Counter, tries: &Tries, is_stray: bool) -> Self {
        Self {
            name: counter.name.0.to_vec(),
            whence: counter.whence.to_bytes(),
            failures: tries.failures.into(),
            failed_at: timestamptz(tries.failed_at),
            undecided: tries.undecided.iter().copied().map(timestamptz).collect(),
            is_stray,
        }
    }

    /// See [`is_remembered`].
    pub(super) fn is_remembered(&self) -> bool {
        !self.is_stray || self.whence.is_empty()
    }
}

/// Whether a counter still says something of its name: not if it is of a network that was forgotten.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn is_remembered() -> _ {
    let elsewhere: &'static [u8] = &[];
    throttles::is_stray.eq(false).or(throttles::whence.eq(elsewhere))
}

impl TryFrom<Row> for (Whence, Tries) {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found: String| BrokenRow {
            table: "throttles",
            column,
            id: format!("({:02x?}, {:02x?})", row.name, row.whence),
            found,
        };
        let time =
            |column, stored| sql_types::time(stored).ok_or_else(|| broken(column, sql_types::shown(stored)));
        let whence = Whence::from_bytes(&row.whence)
            .ok_or_else(|| broken("whence", format!("{} bytes", row.whence.len())))?;
        let tries = Tries {
            failures: u32::try_from(row.failures)
                .map_err(|_| broken("failures", row.failures.to_string()))?,
            failed_at: time("failed_at", row.failed_at)?,
            undecided: row
                .undecided
                .iter()
                .map(|stored| time("undecided", *stored))
                .collect::<Result<_, BrokenRow>>()?,
        };
        Ok((whence, tries))
    }
}
