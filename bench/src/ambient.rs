//! The time and the randomness of the machine: the server takes them through ports, its benchmark from here.

use std::time::Instant;

use jiff::Timestamp;

/// For how long something takes.
#[expect(clippy::disallowed_methods, reason = "a stopwatch is what a benchmark is")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For when it was measured.
#[expect(clippy::disallowed_methods, reason = "figures carry their date")]
pub(crate) fn date() -> Timestamp {
    Timestamp::now()
}

/// 16 bytes that nobody can guess.
pub(crate) fn random() -> Result<[u8; 16], getrandom::Error> {
    Ok((u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?)).to_be_bytes())
}

/// 32 bytes that nobody can guess, in hexadecimal digits.
pub(crate) fn secret() -> Result<String, getrandom::Error> {
    let mut words = [0_u64; 4];
    for word in &mut words {
        *word = getrandom::u64()?;
    }
    Ok(words.map(|word| format!("{word:016x}")).concat())
}

/// Puts the items into an order that nobody chose (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T]) -> Result<(), getrandom::Error> {
    for last in (1..items.len()).rev() {
        let chosen = getrandom::u64()? % (u64::try_from(last).unwrap_or(u64::MAX - 1) + 1);
        items.swap(last, usize::try_from(chosen).unwrap_or(last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_item_and_not_the_order() {
        let mut items: Vec<u32> = (0..1000).collect();

        shuffle(&mut items).unwrap();

        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
    }

    #[test]
    fn no_two_secrets_are_alike() {
        let (one, other) = (secret().unwrap(), secret().unwrap());

        assert_ne!(one, other);
        assert_eq!((one.len(), other.len()), (64, 64));
    }
}
