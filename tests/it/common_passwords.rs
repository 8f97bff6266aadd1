//! The list of common passwords that is built in is one of zxcvbn's, which shows it to nobody. So it is read
//! from the source that is built in.

use std::fs;

use domain::{Password, PasswordPolicy, PasswordProblem, Username};

#[test]
fn every_common_password_that_is_long_enough_is_refused() {
    let metadata = crate::support::workspace::metadata();
    let zxcvbn = metadata.packages.iter().find(|package| package.name.as_str() == "zxcvbn").unwrap();
    let source = zxcvbn.manifest_path.with_file_name("src").join("frequency_lists.rs");
    let source = fs::read_to_string(source).unwrap();
    let (_, list) = source.split_once("const PASSWORDS: &str = \"").unwrap();
    let (list, _) = list.split_once("\";").unwrap();
    let username = Username::parse("somebody").unwrap();
    let policy = PasswordPolicy::new(8).unwrap();

    let long_enough: Vec<_> = list.split(',').filter(|password| password.chars().count() >= 8).collect();
    assert!(list.split(',').count() >= 3000 && long_enough.len() >= 1000, "{}", long_enough.len());
    for password in long_enough {
        let chosen = policy.admit(Password::parse(password).unwrap(), username.clone()).unwrap();
        assert_eq!(chosen.judge().unwrap_err(), PasswordProblem::TooGuessable, "{password}");
    }
}
