//! The PRECIS profile `UsernameCaseMapped` (RFC 8265, section 3.3), by the properties of current Unicode.
//!
//! The registry of IANA stops at Unicode 6.3. RFC 8264, section 8, says how the class of a character follows from its
//! properties, and that is done here.

use icu_properties::props::{
    BidiClass, CanonicalCombiningClass, DefaultIgnorableCodePoint, EastAsianWidth, GeneralCategory,
    HangulSyllableType, JoinControl, JoiningType, NoncharacterCodePoint, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::decompose_compatible;

/// What the `IdentifierClass` (RFC 8264, section 4.2) says of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Valid,
    /// Valid where its neighbours allow it (RFC 5892, appendix A).
    Contextual,
    Disallowed,
}

/// The text in the form in which names are compared, or `None` if the profile disallows it.
pub(crate) fn enforce(text: &str) -> Option<String> {
    let mapped: String = map_width(text);
    if mapped.is_empty() || !is_allowed(&mapped) {
        return None;
    }
    let lower: String = mapped.chars().flat_map(char::to_lowercase).collect();
    let key: String = lower.nfc().collect();
    satisfies_bidi_rule(&key).then_some(key)
}

/// Replaces full-width and half-width characters by their usual ones (RFC 8265, section 3.3.1).
pub(crate) fn map_width(text: &str) -> String {
    let width = CodePointMapData::<EastAsianWidth>::new();
    let mut mapped = String::with_capacity(text.len());
    for c in text.chars() {
        match width.get(c) {
            EastAsianWidth::Fullwidth | EastAsianWidth::Halfwidth => {
                decompose_compatible(c, |part| mapped.push(part));
            }
            _ => mapped.push(c),
        }
    }
    mapped
}

/// Whether every character is in the `IdentifierClass` where it stands.
pub(crate) fn is_allowed(text: &str) -> bool {
    let all: Vec<char> = text.chars().collect();
    all.iter().enumerate().all(|(place, c)| match class(*c) {
        Class::Valid => true,
        Class::Contextual => is_allowed_between(&all[..place], *c, &all[place + 1..]),
        Class::Disallowed => false,
    })
}

/// RFC 8264, section 8, for the `IdentifierClass`. The order of the cases is the RFC's.
fn class(c: char) -> Class {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    match c {
        // Section 9.6, exceptions.
        '\u{df}' | '\u{3c2}' | '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => return Class::Valid,
        '\u{b7}'
        | '\u{375}'
        | '\u{5f3}'
        | '\u{5f4}'
        | '\u{30fb}'
        | '\u{660}'..='\u{669}'
        | '\u{6f0}'..='\u{6f9}' => {
            return Class::Contextual;
        }
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => {
            return Class::Disallowed;
        }
        _ if category == GeneralCategory::Unassigned => return Class::Disallowed,
        '!'..='~' => return Class::Valid,
        _ if CodePointSetData::new::<JoinControl>().contains(c) => return Class::Contextual,
        _ => {}
    }
    let is_old_hangul_jamo = matches!(
        CodePointMapData::<HangulSyllableType>::new().get(c),
        HangulSyllableType::LeadingJamo | HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo
    );
    let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c);
    let has_compatibility_form = || !std::iter::once(c).nfkc().eq([c]);
    let is_letter_or_digit = matches!(
        category,
        GeneralCategory::LowercaseLetter
            | GeneralCategory::UppercaseLetter
            | GeneralCategory::OtherLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::DecimalNumber
            | GeneralCategory::NonspacingMark
            | GeneralCategory::SpacingMark
    );
    if is_letter_or_digit && !is_old_hangul_jamo && !is_ignorable && !has_compatibility_form() {
        Class::Valid
    } else {
        Class::Disallowed
    }
}

/// The contextual rules of RFC 5892, appendix A.
fn is_allowed_between(before: &[char], c: char, after: &[char]) -> bool {
    let script = |c: char| CodePointMapData::<Script>::new().get(c);
    let is_in = |digits: std::ops::RangeInclusive<char>| {
        before.iter().chain(after).any(|other| digits.contains(other))
    };
    match c {
        '\u{200c}' => follows_virama(before) || breaks_a_join(before, after),
        '\u{200d}' => follows_virama(before),
        '\u{b7}' => before.last() == Some(&'l') && after.first() == Some(&'l'),
        '\u{375}' => after.first().is_some_and(|next| script(*next) == Script::Greek),
        '\u{5f3}' | '\u{5f4}' => before.last().is_some_and(|last| script(*last) == Script::Hebrew),
        '\u{30fb}' => before
            .iter()
            .chain(after)
            .any(|other| matches!(script(*other), Script::Hiragana | Script::Katakana | Script::Han)),
        '\u{660}'..='\u{669}' => !is_in('\u{6f0}'..='\u{6f9}'),
        '\u{6f0}'..='\u{6f9}' => !is_in('\u{660}'..='\u{669}'),
        _ => false,
    }
}

fn follows_virama(before: &[char]) -> bool {
    let class = CodePointMapData::<CanonicalCombiningClass>::new();
    before.last().is_some_and(|last| class.get(*last) == CanonicalCombiningClass::Virama)
}

fn breaks_a_join(before: &[char], after: &[char]) -> bool {
    let joining = |c: &char| CodePointMapData::<JoiningType>::new().get(*c);
    let last = before.iter().rev().map(joining).find(|it| *it != JoiningType::Transparent);
    let next = after.iter().map(joining).find(|it| *it != JoiningType::Transparent);
    matches!(last, Some(JoiningType::LeftJoining | JoiningType::DualJoining))
        && matches!(next, Some(JoiningType::RightJoining | JoiningType::DualJoining))
}

/// The Bidi Rule (RFC 5893, section 2), which is for texts with a right-to-left character in them.
fn satisfies_bidi_rule(text: &str) -> bool {
    use BidiClass as B;
    let classes: Vec<BidiClass> = text.chars().map(|c| CodePointMapData::<BidiClass>::new().get(c)).collect();
    let has = |wanted: &[BidiClass]| classes.iter().any(|class| wanted.contains(class));
    let only = |allowed: &[BidiClass]| classes.iter().all(|class| allowed.contains(class));
    let end = classes.iter().rev().find(|class| **class != B::NonspacingMark);
    let ends_with = |wanted: &[BidiClass]| end.is_some_and(|end| wanted.contains(end));
    if !has(&[B::RightToLeft, B::ArabicLetter, B::ArabicNumber]) {
        return true;
    }
    match classes.first() {
        Some(&(B::RightToLeft | B::ArabicLetter)) => {
            only(&[
                B::RightToLeft,
                B::ArabicLetter,
                B::ArabicNumber,
                B::EuropeanNumber,
                B::EuropeanSeparator,
                B::CommonSeparator,
                B::EuropeanTerminator,
                B::OtherNeutral,
                B::BoundaryNeutral,
                B::NonspacingMark,
            ]) && ends_with(&[B::RightToLeft, B::ArabicLetter, B::EuropeanNumber, B::ArabicNumber])
                && !(has(&[B::EuropeanNumber]) && has(&[B::ArabicNumber]))
        }
        // A text from left to right may not have them.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_every_unicode_version_are_valid() {
        for name in [
            "\u{2c386}", // CJK extension E, Unicode 8
            "\u{1f63b}", // an emoji, which is no letter
            "\u{16e40}", // Medefaidrin, Unicode 11
            "\u{1e900}", // Adlam, Unicode 9
            "\u{30000}", // CJK extension G, Unicode 13
            "\u{31350}", // CJK extension H, Unicode 15
            "\u{2ebf0}", // CJK extension I, Unicode 15.1
            "\u{1c89}",  // Cyrillic, Unicode 16
            "\u{a7cb}",  // Latin, Unicode 16
            "\u{10ec5}", // Arabic, Unicode 17
            "\u{10d4a}", // Garay, Unicode 16
        ] {
            let is_letter = name != "\u{1f63b}";
            assert_eq!(is_allowed(name), is_letter, "{}", name.escape_unicode());
        }
    }

    #[test]
    fn characters_are_classified_as_the_rfcs_say() {
        for (c, expected) in [
            ('a', Class::Valid),
            ('\'', Class::Valid),
            (' ', Class::Disallowed),
            ('ß', Class::Valid),
            ('ς', Class::Valid),
            ('\u{3007}', Class::Valid),
            ('\u{640}', Class::Disallowed),
            ('\u{660}', Class::Contextual),
            ('\u{b7}', Class::Contextual),
            ('\u{200d}', Class::Contextual),
            ('\u{200b}', Class::Disallowed),
            ('\u{1100}', Class::Disallowed),
            ('\u{3164}', Class::Disallowed),
            ('ﬁ', Class::Disallowed),
            ('ǅ', Class::Disallowed),
            ('Ⅷ', Class::Disallowed),
            ('\u{378}', Class::Disallowed),
            ('\u{e000}', Class::Disallowed),
            ('\u{fdd0}', Class::Disallowed),
            ('\u{85}', Class::Disallowed),
            ('€', Class::Disallowed),
            ('\u{301}', Class::Valid),
            ('각', Class::Valid),
            ('王', Class::Valid),
        ] {
            assert_eq!(class(c), expected, "{}", c.escape_unicode());
        }
    }

    #[test]
    fn contextual_characters_are_allowed_by_their_neighbours() {
        for (allowed, refused) in [
            ("l\u{b7}l", "a\u{b7}l"),
            ("\u{375}α", "\u{375}a"),
            ("א\u{5f3}", "a\u{5f3}"),
            ("カ\u{30fb}", "a\u{30fb}"),
            ("ب\u{661}", "ب\u{661}\u{6f1}"),
            ("ب\u{6f1}", "\u{6f1}\u{661}"),
            ("क\u{94d}\u{200d}", "क\u{200d}"),
            ("क\u{94d}\u{200c}", "a\u{200c}b"),
            ("ب\u{200c}ب", "ب\u{200c}"),
            ("ب\u{64e}\u{200c}\u{64e}ب", "\u{200c}ب"),
        ] {
            assert!(is_allowed(allowed), "{}", allowed.escape_unicode());
            assert!(!is_allowed(refused), "{}", refused.escape_unicode());
        }
    }

    #[test]
    fn right_to_left_names_follow_the_bidi_rule() {
        for name in ["محمد", "שלום1", "ب\u{661}", "שלום\u{5b0}", "ann"] {
            assert!(enforce(name).is_some(), "{name}");
        }
        for name in ["1שלום", "שלוםa", "aשלום", "ب1\u{661}", "שלום-", "-שלום"] {
            assert_eq!(enforce(name), None, "{name}");
        }
    }

    #[test]
    fn width_and_case_are_mapped() {
        assert_eq!(enforce("ＡＢｃ").as_deref(), Some("abc"));
        assert_eq!(enforce("ｶﾞ").as_deref(), Some("ガ"));
        assert_eq!(enforce("Ა\u{1c91}").as_deref(), Some("აბ"));
        assert_eq!(enforce(""), None);
    }
}
