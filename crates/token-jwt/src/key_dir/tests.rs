use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use jiff::SignedDuration;
use tempfile::TempDir;

use super::*;

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const LEAD_TIME: Duration = Duration::from_mins(20);

fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn folder() -> (TempDir, KeyFolder) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data/keys");
    let token_lifetime = Duration::from_mins(15);
    (temporary, KeyFolder { path, algorithm: KeyPairAlgorithm::EdDsa, token_lifetime })
}

fn file(folder: &KeyFolder, id: &str) -> PathBuf {
    folder.path.join(format!("{id}.pem"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn states(folder: &KeyFolder, now: Timestamp) -> Vec<(String, KeyState)> {
    folder.list(now).unwrap().into_iter().map(|key| (key.id, key.state)).collect()
}

#[test]
fn the_first_key_signs_at_once_and_only_its_owner_reads_it() {
    let (_temporary, folder) = folder();

    let id = folder.generate(noon()).unwrap();

    assert_eq!((mode(&folder.path), mode(&file(&folder, &id))), (0o700, 0o600));
    assert_eq!(folder.ring().unwrap().signing_key_id(noon()), id);
    assert_eq!(states(&folder, noon()), [(id.clone(), KeyState::Active)]);
    let again = folder.generate(noon() + SECOND);
    assert!(matches!(again, Err(KeyFolderError::HasKey { id: there, .. }) if there == id));
    assert_eq!(folder.generate_if_none(noon()).unwrap(), None);
}

#[test]
fn of_many_who_make_the_first_key_at_once_one_does() {
    let (_temporary, folder) = folder();
    let start = Barrier::new(8);

    let made = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    folder.generate_if_none(noon()).unwrap()
                })
            })
            .collect();
        makers.into_iter().filter_map(|maker| maker.join().unwrap()).count()
    });

    assert_eq!((made, folder.list(noon()).unwrap().len()), (1, 1));
}

#[test]
fn a_key_goes_from_next_to_active_to_verifying_to_unneeded_by_the_clock_alone() {
    let (_temporary, folder) = folder();
    let old = folder.generate(noon()).unwrap();

    let rotation = folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();

    let (new, takeover) = (rotation.id, rotation.signs_from);
    assert!(rotation.is_new);
    assert_eq!(takeover, noon() + SECOND + LEAD_TIME);
    let unneeded = takeover + folder.token_lifetime + MARGIN;
    for (at, of_new, of_old) in [
        (noon() + SECOND, KeyState::Next, KeyState::Active),
        (takeover - SECOND, KeyState::Next, KeyState::Active),
        (takeover, KeyState::Active, KeyState::Verifying),
        (unneeded - SECOND, KeyState::Active, KeyState::Verifying),
        (unneeded, KeyState::Active, KeyState::Unneeded),
    ] {
        assert_eq!(states(&folder, at), [(new.clone(), of_new), (old.clone(), of_old)], "{at}");
        let signing = if of_new == KeyState::Active { &new } else { &old };
        assert_eq!(folder.ring().unwrap().signing_key_id(at), signing, "{at}");
    }
    let needed_until: Vec<_> = folder.list(takeover).unwrap().iter().map(|key| key.needed_until).collect();
    assert_eq!(needed_until, [None, Some(unneeded)]);
}

#[test]
fn a_rotation_that_is_under_way_is_not_begun_again_and_can_be_hurried() {
    let (_temporary, folder) = folder();
    let old = folder.generate(noon()).unwrap();
    let begun = folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();

    let again = folder.rotate(noon() + 2 * SECOND, Takeover::Announced(LEAD_TIME)).unwrap();
    assert_eq!(again, Rotation { is_new: false, ..begun.clone() });
    let hurried = folder.rotate(noon() + 3 * SECOND, Takeover::AtOnce).unwrap();

    let now = noon() + 3 * SECOND;
    assert_eq!(hurried, Rotation { id: begun.id.clone(), signs_from: now, is_new: false });
    assert_eq!(states(&folder, now), [(begun.id, KeyState::Active), (old, KeyState::Verifying)]);
    let next = folder.rotate(noon() + 4 * SECOND, Takeover::AtOnce).unwrap();
    assert!(next.is_new);
    assert_eq!(folder.ring().unwrap().signing_key_id(noon() + 4 * SECOND), next.id);
}

#[test]
fn a_key_is_retired_when_nobody_needs_it_or_when_somebody_says_so_and_never_the_one_that_signs() {
    let (_temporary, folder) = folder();
    let first = folder.generate(noon()).unwrap();
    let second = folder.rotate(noon() + SECOND, Takeover::AtOnce).unwrap().id;
    let third = folder.rotate(noon() + 2 * SECOND, Takeover::AtOnce).unwrap().id;
    let next = folder.rotate(noon() + 3 * SECOND, Takeover::Announced(LEAD_TIME)).unwrap().id;
    let soon = noon() + 4 * SECOND;

    assert_eq!(folder.retire(None, soon, false).unwrap(), [""; 0]);
    let needed = folder.retire(Some(&first), soon, false);
    assert!(matches!(needed, Err(KeyFolderError::StillNeeded { until: Some(_), .. })), "{needed:?}");
    for at_once in [false, true] {
        let signs = folder.retire(Some(&third), soon, at_once);
        assert!(matches!(signs, Err(KeyFolderError::Signs(_))), "{signs:?}");
        let unknown = folder.retire(Some("../x"), soon, at_once);
        assert!(matches!(unknown, Err(KeyFolderError::UnknownKey(_))), "{unknown:?}");
    }
    assert_eq!(folder.list(soon).unwrap().len(), 4);

    assert_eq!(folder.retire(Some(&second), soon, true).unwrap(), [second]);
    assert_eq!(folder.retire(Some(&next), soon, false).unwrap(), [next]);
    let later = noon() + folder.token_lifetime + MARGIN + 10 * SECOND;
    assert_eq!(folder.retire(None, later, false).unwrap(), [first]);
    assert_eq!(states(&folder, later), [(third, KeyState::Active)]);
}

#[test]
fn keys_of_another_algorithm_go_on_verifying_and_are_retired_by_hand() {
    let (_temporary, edwards) = folder();
    let old = edwards.generate(noon()).unwrap();
    let curve = KeyFolder { algorithm: KeyPairAlgorithm::Es256, ..edwards.clone() };
    let missing = curve.ring();
    assert!(matches!(missing, Err(KeyFolderError::NoSigningKey { .. })), "{missing:?}");

    let new = curve.generate(noon() + SECOND).unwrap();

    assert_eq!(edwards.ring().unwrap().signing_key_id(noon() + SECOND), old);
    assert_eq!(curve.ring().unwrap().signing_key_id(noon()), new);
    let much_later = noon() + SignedDuration::from_hours(1000);
    let expected = [(new, KeyState::Active), (old.clone(), KeyState::Verifying)];
    assert_eq!(states(&curve, much_later), expected);
    assert!(matches!(
        curve.retire(Some(&old), much_later, false),
        Err(KeyFolderError::StillNeeded { until: None, .. })
    ));
    assert_eq!(curve.retire(Some(&old), much_later, true).unwrap(), [old]);
}

#[test]
fn one_file_that_is_no_good_spoils_the_folder_and_is_named() {
    let (_temporary, folder) = folder();
    let id = folder.generate(noon()).unwrap();
    let path = file(&folder, &id);
    let text = fs::read_to_string(&path).unwrap();
    let refusal = || folder.ring().unwrap_err().to_string();

    for open in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        assert!(refusal().contains("chmod 600"), "{open:o}");
        assert!(refusal().contains(&id), "{open:o}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    folder.ring().unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

    let private = text.lines().nth(4).unwrap();
    for (spoilt, what) in [
        (text[..text.len() - 40].to_owned(), "holds no whole private key"),
        (text.replace("Algorithm", "Alg"), "is not a key file"),
        (String::new(), "is not a key file"),
    ] {
        fs::write(&path, spoilt).unwrap();
        assert!(refusal().contains(what) && refusal().contains(&id), "{}", refusal());
        assert!(!refusal().contains(private), "{}", refusal());
    }
    fs::write(&path, [0xff; 10]).unwrap();
    assert!(refusal().contains("is not a key file"), "{}", refusal());
    fs::write(&path, &text).unwrap();
    fs::rename(&path, folder.path.join("other.pem")).unwrap();
    assert!(refusal().contains("is not named after the key in it"), "{}", refusal());
    fs::rename(folder.path.join("other.pem"), &path).unwrap();
    fs::create_dir(folder.path.join("folder.pem")).unwrap();
    assert!(refusal().contains("folder.pem"), "{}", refusal());
    fs::remove_dir(folder.path.join("folder.pem")).unwrap();

    fs::write(folder.path.join(".editor.pem"), "x").unwrap();
    fs::write(folder.path.join("README"), "x").unwrap();
    folder.ring().unwrap();
    fs::set_permissions(&folder.path, Permissions::from_mode(0o770)).unwrap();
    assert!(refusal().contains("chmod 700"), "{}", refusal());
}

#[test]
fn a_glance_shows_every_change() {
    let (_temporary, folder) = folder();
    let mut seen = vec![folder.glance()];
    let mut look = |what: &str| {
        let glance = folder.glance();
        assert!(!seen.contains(&glance), "{what}");
        assert_eq!(glance, folder.glance(), "{what}");
        seen.push(glance);
    };

    let id = folder.generate(noon()).unwrap();
    look("a key");
    folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();
    look("another key");
    folder.rotate(noon() + 2 * SECOND, Takeover::AtOnce).unwrap();
    look("another file of the same name");
    fs::set_permissions(file(&folder, &id), Permissions::from_mode(0o640)).unwrap();
    look("another mode");
    fs::remove_file(file(&folder, &id)).unwrap();
    look("one key less");
}

#[test]
fn no_two_keys_are_the_same() {
    let (_temporary, folder) = folder();
    folder.generate(noon()).unwrap();
    for second in 1..20 {
        folder.rotate(noon() + second * SECOND, Takeover::AtOnce).unwrap();
    }

    let ids: BTreeSet<_> = folder.list(noon()).unwrap().into_iter().map(|key| key.id).collect();

    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|id| id.len() == 43 && !id.starts_with('-')), "{ids:?}");
}
