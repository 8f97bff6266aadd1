use super::*;
use crate::testing::{ann, attempt};
use crate::{Attempt, LoginName, Renamed};

fn key() -> AuditKey {
    AuditKey::new(b"a secret of the tests")
}

fn event(number: u32) -> Event {
    let user_agent = UserAgent::from_header("curl/8");
    let origin = Origin::Request {
        address: "192.0.2.7".parse().unwrap(),
        request_id: format!("r-{number}"),
        user_agent,
    };
    Event { count: number, ..Attempt { origin, ..attempt() }.ended(Outcome::Refused("wrong_password")) }
}

fn log(length: u32) -> Vec<SealedEntry> {
    log_of((1..=length).map(|number| key().entry(&event(number))))
}

fn log_of(entries: impl Iterator<Item = AuditEntry>) -> Vec<SealedEntry> {
    let mut last = Link::NONE;
    entries
        .map(|entry| {
            last = key().seal(&entry, last);
            SealedEntry { entry, link: last }
        })
        .collect()
}

fn digest(digit: char) -> String {
    digit.to_string().repeat(16)
}

fn inspect(log: &[SealedEntry], anchor: Option<Anchor>, expected: Option<Link>) -> Result<Link, Tampering> {
    let key = key();
    let mut inspection = Inspection::begin(&key, anchor, expected)?;
    log.iter().try_for_each(|sealed| inspection.look_at(sealed))?;
    inspection.end()
}

#[test]
fn an_untouched_log_is_in_order_and_its_head_is_told() {
    let log = log(5);

    assert_eq!(inspect(&[], None, None), Ok(Link::NONE));
    assert_eq!(inspect(&log, None, None), Ok(log[4].link));
    for known in &log {
        assert_eq!(inspect(&log, None, Some(known.link)), Ok(log[4].link));
    }
}

#[test]
fn a_change_of_any_part_of_an_event_is_found() {
    let change: [fn(&mut AuditEntry); 17] = [
        |entry| entry.at = Timestamp::UNIX_EPOCH,
        |entry| entry.event = "log_out".to_owned(),
        |entry| entry.outcome = "success".to_owned(),
        |entry| entry.reason = None,
        |entry| entry.reason = Some(String::new()),
        |entry| entry.count += 1,
        |entry| entry.user = None,
        |entry| entry.user = Some(UserId(8)),
        |entry| entry.name_digest = Some(String::new()),
        |entry| entry.request_id = Some("r-1".to_owned()),
        |entry| entry.client.as_mut().unwrap().address = "192.0.2.8".parse().unwrap(),
        |entry| entry.client.as_mut().unwrap().user_agent = None,
        |entry| entry.client.as_mut().unwrap().salt = [1; 16],
        |entry| entry.client_digest = None,
        |entry| entry.renamed = None,
        |entry| entry.renamed.as_mut().unwrap().old.clone_from(&digest('b')),
        |entry| entry.renamed.as_mut().unwrap().new.clone_from(&digest('a')),
    ];
    for (number, change) in change.into_iter().enumerate() {
        let mut log = log_of((1..=5).map(|number| {
            let mut entry = key().entry(&event(number));
            entry.renamed = Some(RenamedDigests { old: digest('a'), new: digest('b') });
            entry
        }));
        change(&mut log[2].entry);

        assert_eq!(inspect(&log, None, None), Err(Tampering::Altered(3)), "change {number}");
    }
}

#[test]
fn username_change_holds_both_names_under_the_salt_of_its_event() {
    let renaming = |salt| {
        let renamed = Renamed { old: name("ann"), new: name("mia") };
        Event { renamed: Some(renamed), ..Attempt { salt, ..attempt() }.ended(Outcome::Success) }
    };
    let digests = |salt| key().entry(&renaming(salt)).renamed.unwrap();

    let one = digests([1; 16]);
    assert!([&one.old, &one.new].iter().all(|digest| digest.len() == 16), "{one:?}");
    assert_eq!(digests([1; 16]), one);
    assert_eq!(RenamedDigests::from_stored(&one.to_stored()), Some(one.clone()));
    assert_eq!(RenamedDigests::from_stored(&one.old), None);
    let other = digests([2; 16]);
    assert!(one.old != one.new && one.old != other.old && one.new != other.new);
    // Nor is either the digest by which attempts at the name are found.
    let attempted = key().subject(&Subject::Name(name("ann"))).1.unwrap();
    assert_ne!(one.old, attempted);
    assert_ne!(AuditKey::new(b"another secret of the tests").renamed(&renaming([1; 16])), Some(one));
    // Without a client there is no salt to blank.
    let command = Attempt { origin: Origin::CommandLine, ..renaming([1; 16]).attempt };
    assert_eq!(key().entry(&Event { attempt: command, ..renaming([1; 16]) }).renamed, None);
}

fn name(text: &str) -> UsernameKey {
    crate::testing::username(text).key().clone()
}

#[test]
fn an_event_that_was_removed_inserted_or_moved_is_the_first_that_is_named() {
    let mut removed = log(5);
    removed.remove(1);
    assert_eq!(inspect(&removed, None, None), Err(Tampering::Missing { first: 2, next: 3 }));

    let mut swapped = log(5);
    let (second, third) = (swapped[1].entry.clone(), swapped[2].entry.clone());
    (swapped[1].entry, swapped[2].entry) = (third, second);
    assert_eq!(inspect(&swapped, None, None), Err(Tampering::Altered(2)));

    let mut inserted = log(5);
    let forged = SealedEntry { entry: key().entry(&event(9)), link: inserted[1].link };
    inserted.insert(1, forged);
    assert_eq!(inspect(&inserted, None, None), Err(Tampering::Altered(2)));

    let mut appended = log(5);
    let mut forged = appended[4].clone();
    forged.link.number = 6;
    appended.push(forged);
    assert_eq!(inspect(&appended, None, None), Err(Tampering::Altered(6)));
}

#[test]
fn an_end_that_was_cut_off_or_written_anew_shows_against_a_head_that_is_known() {
    let whole = log(5);
    let head = whole[4].link;
    assert!(inspect(&whole[..3], None, None).is_ok());
    assert_eq!(inspect(&whole[..3], None, Some(head)), Err(Tampering::CutOff { last: 3, head: 5 }));
    assert_eq!(inspect(&[], None, Some(head)), Err(Tampering::CutOff { last: 0, head: 5 }));

    // By somebody with the key.
    let mut anew = whole[..4].to_vec();
    let entry = key().entry(&event(9));
    anew.push(SealedEntry { link: key().seal(&entry, anew[3].link), entry });
    assert!(inspect(&anew, None, None).is_ok());
    assert_eq!(inspect(&anew, None, Some(head)), Err(Tampering::OtherHead(5)));
}

#[test]
fn what_is_left_when_old_events_are_removed_is_proven_from_the_anchor_on() {
    let log = log(5);
    let anchor = key().anchor(log[2].link);

    assert_eq!(inspect(&log[3..], Some(anchor), None), Ok(log[4].link));
    assert_eq!(inspect(&log[3..], Some(anchor), Some(log[2].link)), Ok(log[4].link));
    assert_eq!(inspect(&log[3..], Some(anchor), Some(log[1].link)), Err(Tampering::HeadTooOld(3)));
    assert_eq!(inspect(&log[3..], None, None), Err(Tampering::Missing { first: 1, next: 4 }));
    assert_eq!(inspect(&log[4..], Some(anchor), None), Err(Tampering::Missing { first: 4, next: 5 }));
    // Whoever removes more cannot make an anchor of it, although the link stands in the event.
    let forged = Anchor { link: log[3].link, ..anchor };
    assert_eq!(inspect(&log[4..], Some(forged), None), Err(Tampering::ForgedAnchor));
}

#[test]
fn a_client_may_be_blanked_when_a_later_deletion_is_on_record_and_not_otherwise() {
    let mut log = log(3);
    let deletion = |action, outcome, subject, last: Link| {
        let attempt = Attempt { action, subject, ..attempt() };
        let entry = key().entry(&attempt.ended(outcome)).without_client();
        SealedEntry { link: key().seal(&entry, last), entry }
    };
    let ann = Subject::User(ann().user.id);
    let last = log[2].link;
    log[1].entry.client = None;
    assert_eq!(inspect(&log, None, None), Err(Tampering::Blanked(2)));

    for action in [Action::Delete, Action::CloseAccount] {
        let deleted = deletion(action, Outcome::Success, ann.clone(), last);
        assert!(inspect(&[&log[..], &[deleted]].concat(), None, None).is_ok());
    }
    for (action, outcome, subject) in [
        (Action::LogOut, Outcome::Success, ann.clone()),
        (Action::Delete, Outcome::Failed, ann),
        (Action::Delete, Outcome::Success, Subject::User(UserId(8))),
    ] {
        let other = deletion(action, outcome, subject, last);
        assert_eq!(inspect(&[&log[..], &[other]].concat(), None, None), Err(Tampering::Blanked(2)));
    }

    let stranger = Subject::from(&LoginName::from_typed("nobody"));
    let entry = key().entry(&Attempt { subject: stranger, ..attempt() }.ended(Outcome::Abandoned));
    let link = key().seal(&entry, Link::NONE);
    let nobody = SealedEntry { entry: AuditEntry { client: None, ..entry }, link };
    assert_eq!(inspect(&[nobody], None, None), Err(Tampering::Blanked(1)));
}

#[test]
fn a_mark_is_of_one_entry_and_one_key_and_is_no_seal() {
    let (entry, other) = (key().entry(&event(1)), key().entry(&event(2)));
    let mark = key().mark(&entry);

    assert_eq!(key().mark(&entry), mark);
    assert_ne!(key().mark(&other), mark);
    assert_ne!(AuditKey::new(b"another secret of the tests").mark(&entry), mark);
    assert_ne!(key().seal(&entry, Link::NONE).seal, mark);
}

#[test]
fn another_key_seals_otherwise_and_shows_itself() {
    let log = log(1);
    let other = AuditKey::new(b"another secret of the tests");
    let mut inspection = Inspection::begin(&other, None, None).unwrap();

    assert_eq!(inspection.look_at(&log[0]), Err(Tampering::Altered(1)));
    assert!(Inspection::begin(&other, Some(key().anchor(log[0].link)), None).is_err());
    assert_eq!(format!("{other:?}"), "AuditKey");
}

#[test]
fn a_name_is_a_digest_whether_it_is_possible_or_not_and_its_spellings_have_one() {
    let digest = |typed: &str| key().subject(&Subject::from(&LoginName::from_typed(typed))).1.unwrap();

    for typed in ["hunter2hunter2", "hunter2 hunter2\n{\"event\":\"forged\"}\u{1b}[31m"] {
        let digest = digest(typed);
        assert!(digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    }
    assert_eq!(digest("Ann"), digest("ann"));
    assert_ne!(digest("ann"), digest("bob"));
    assert_eq!(key().subject(&Subject::User(ann().user.id)), (Some(ann().user.id), None));
}

#[test]
fn a_command_has_no_client_to_blank() {
    let attempt = Attempt { action: Action::Disable, origin: Origin::CommandLine, ..attempt() };
    let entry = key().entry(&attempt.ended(Outcome::Success));

    assert_eq!((entry.client, entry.client_digest, entry.request_id), (None, None, None));
}

#[test]
fn a_head_has_one_spelling_and_what_is_none_is_refused() {
    let head = log(3)[2].link;
    assert_eq!(head.to_string().parse(), Ok(head));
    assert_eq!(Link::NONE.to_string().parse(), Ok(Link::NONE));

    let digits = "0".repeat(64);
    for text in
        ["", ":", "3", "3:", &digits, "-1:00", &format!("-1:{digits}"), &format!("3:{}+1", &digits[2..])]
    {
        assert_eq!(text.parse::<Link>(), Err(InvalidHead), "{text}");
    }
}
