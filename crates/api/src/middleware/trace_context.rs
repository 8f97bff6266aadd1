//! To which trace a request belongs (W3C Trace Context, level 2).
//!
//! `tracestate` is for whoever sends requests on behalf of this one, and nobody does.

use std::fmt;

use actix_web::http::header::{HeaderMap, HeaderName};
use data_encoding::HEXLOWER;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace of a request, and what came before it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which trace.
    pub id: TraceId,
    /// The span of whoever sent the request, if they told.
    pub parent: Option<u64>,
    /// Whether it is to be recorded. A trace that begins here is.
    pub is_sampled: bool,
}

/// The identifier of a trace, never zero. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl Trace {
    /// One that begins here.
    pub(crate) fn new(random: [u8; 16]) -> Self {
        // Zero is no identifier.
        let id = TraceId(u128::from_be_bytes(random).max(1));
        Self { id, parent: None, is_sampled: true }
    }

    /// The one that the header `traceparent` names. Where it is not as it must be, or stands there twice, there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(&TRACEPARENT);
        let (Some(only), None) = (given.next(), given.next()) else { return None };
        Self::parse(only.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(55)?;
        let [version] = bytes(&known[..2])?;
        // A later version may have more, after another dash; 255 is none.
        let ends_well = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        let dashes = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        if !ends_well || !dashes || version == 0xff {
            return None;
        }
        let id = bytes(&known[3..35]).map(u128::from_be_bytes).filter(|id| *id != 0)?;
        let parent = bytes(&known[36..52]).map(u64::from_be_bytes).filter(|parent| *parent != 0)?;
        let [flags] = bytes(&known[53..])?;
        Some(Self { id: TraceId(id), parent: Some(parent), is_sampled: flags & 1 == 1 })
    }
}

impl TraceId {
    /// As it goes into a record.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The bytes that these lower-case digits stand for.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    HEXLOWER.decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<Trace> {
        Trace::parse(text.as_bytes())
    }

    #[test]
    fn the_example_of_the_recommendation_is_read() {
        let trace = parse(EXAMPLE).unwrap();

        assert_eq!(trace.id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((trace.parent, trace.is_sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
        for (flags, is_sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            assert_eq!(parse(&format!("{}{flags}", &EXAMPLE[..53])).unwrap().is_sampled, is_sampled);
        }
    }

    #[test]
    fn what_is_not_as_it_must_be_names_no_trace() {
        for text in [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-"),
            &format!("{EXAMPLE}0"),
            &format!(" {EXAMPLE}"),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replace("00-4b", "ff-4b"),
            &EXAMPLE.replace("00-4b", "0g-4b"),
            &EXAMPLE.replace("-01", "-0x"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_later_version_may_have_more_after_a_dash() {
        let later = EXAMPLE.replacen("00", "cc", 1);

        assert_eq!(parse(&later), parse(EXAMPLE));
        assert_eq!(parse(&format!("{later}-what-will-be")), parse(EXAMPLE));
        assert_eq!(parse(&format!("{later}.what-will-be")), None);
    }

    #[test]
    fn two_headers_name_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        assert_eq!(Trace::of(&headers), parse(EXAMPLE));

        headers.append(TRACEPARENT, HeaderValue::from_static(EXAMPLE));

        assert_eq!(Trace::of(&headers), None);
    }

    #[test]
    fn a_trace_that_begins_here_is_never_zero() {
        assert_eq!(Trace::new([0; 16]).id.to_string(), format!("{:032x}", 1));
    }
}
