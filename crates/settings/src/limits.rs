//! Who may sign up, and how much a client may send.

use std::num::{NonZero, NonZeroU32};

use domain::SitePrefix;

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{Environment, readers};

/// How much somebody may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whether there is a bound to anything.
    pub enabled: bool,
    /// How many requests within a minute.
    pub quotas: api::Quotas,
    /// How many wrong passwords in a row are compared for an account.
    pub failures: u32,
    /// How often an account may try to change its username within an hour.
    pub username_changes: NonZero<u32>,
}

impl Limits {
    /// Which IPv6 networks share what they may have, whether or not requests are limited.
    pub fn site_prefix(&self) -> SitePrefix {
        self.quotas.site_prefix
    }
}

/// Who may make an account.
#[derive(Clone, Copy, Debug)]
pub struct Signup {
    /// Whether anybody may; otherwise only operators.
    pub enabled: bool,
}

pub(crate) static SIGNUP_ENABLED: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_SIGNUP__ENABLED",
        DefaultValue::Text("true"),
        "whether anybody may sign up; otherwise only the command line makes accounts",
    ),
    read: readers::flag,
};

pub(crate) static LIMITS_ENABLED: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_LIMITS__ENABLED",
        DefaultValue::Text("true"),
        "whether anything is limited; false is for load tests, and refused in production",
    ),
    read: readers::flag,
};

pub(crate) static LIMITS_SIGNUPS: Setting<NonZeroU32> = Setting {
    key: Key::number("AUTH_LIMITS__SIGNUPS", DefaultValue::Text("10"), "sign-ups a minute from one network")
        .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_LOGINS: Setting<NonZeroU32> = Setting {
    key: Key::number("AUTH_LIMITS__LOGINS", DefaultValue::Text("30"), "logins a minute from one network")
        .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_REFRESHES: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__REFRESHES",
        DefaultValue::Text("60"),
        "refreshes a minute from one network",
    )
    .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_ANONYMOUS: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__ANONYMOUS",
        DefaultValue::Text("600"),
        "other requests a minute without a token that holds, from one network",
    )
    .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_SESSION: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__SESSION",
        DefaultValue::Text("600"),
        "requests a minute with the tokens of one session",
    )
    .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_ACCOUNT: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__ACCOUNT",
        DefaultValue::Text("60"),
        "requests a minute that change something, with the tokens of one account",
    )
    .live(),
    read: readers::quota,
};

pub(crate) static LIMITS_USERNAME_CHANGES: Setting<NonZeroU32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__USERNAME_CHANGES",
        DefaultValue::Text("10"),
        "tries an hour of one account at another username",
    ),
    read: readers::quota,
};

pub(crate) static LIMITS_IPV6_PREFIX: Setting<SitePrefix> = Setting {
    key: Key::number(
        "AUTH_LIMITS__IPV6_PREFIX",
        DefaultValue::Text("48"),
        "leading bits of an IPv6 address that make a site, which may have four times as much as a /64, 32 to 64",
    )
    .live(),
    read: readers::ipv6_prefix,
};

pub(crate) static LIMITS_FAILURES: Setting<u32> = Setting {
    key: Key::number(
        "AUTH_LIMITS__FAILURES",
        DefaultValue::Text("100"),
        "how many wrong passwords in a row are compared for an account, 10 to 100",
    ),
    read: readers::failures,
};

impl Reading {
    pub(crate) fn limits(&mut self, environment: Option<Environment>) -> Option<Limits> {
        let enabled = self.read(&LIMITS_ENABLED);
        let sign_ups = self.read(&LIMITS_SIGNUPS);
        let log_ins = self.read(&LIMITS_LOGINS);
        let refreshes = self.read(&LIMITS_REFRESHES);
        let anonymous = self.read(&LIMITS_ANONYMOUS);
        let session = self.read(&LIMITS_SESSION);
        let account = self.read(&LIMITS_ACCOUNT);
        let site_prefix = self.read(&LIMITS_IPV6_PREFIX);
        let failures = self.read(&LIMITS_FAILURES);
        let username_changes = self.read(&LIMITS_USERNAME_CHANGES);
        let enabled = enabled?;
        if !enabled && environment == Some(Environment::Production) {
            self.refuse(
                &LIMITS_ENABLED.key,
                "is for load tests, and AUTH_ENV is production, where anybody could try passwords without end; raise \
                 the limits that are too low instead",
            );
        }
        let quotas = api::Quotas {
            sign_ups: sign_ups?,
            log_ins: log_ins?,
            refreshes: refreshes?,
            anonymous: anonymous?,
            session: session?,
            account: account?,
            site_prefix: site_prefix?,
        };
        Some(Limits { enabled, quotas, failures: failures?, username_changes: username_changes? })
    }
}
