//! Values of the domain as SQLite keeps them, and back.

use jiff::Timestamp;

/// Several times as one column. There are few, and none is ever sought.
pub(crate) fn packed(times: &[Timestamp]) -> Vec<u8> {
    times.iter().flat_map(|time| time.as_microsecond().to_be_bytes()).collect()
}

pub(crate) fn unpacked(packed: &[u8]) -> Option<Vec<Timestamp>> {
    let (times, rest) = packed.as_chunks();
    let time = |bytes: &[u8; 8]| Timestamp::from_microsecond(i64::from_be_bytes(*bytes)).ok();
    if rest.is_empty() { times.iter().map(time).collect() } else { None }
}
