//! The one form there is: a token that a backend asks about (RFC 7662, section 2.1) or revokes (RFC 7009, section
//! 2.1). Those two speak of forms and not of JSON, and so do the libraries that backends use.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use domain::AskedAbout;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::extract::json_body::{MAX_MEMBERS, is_declared, read};
use crate::problem::{Code, Problem};

/// A token, and what kind of token it is taken for. Other parameters count for nothing (RFC 6749, section 3.2).
#[derive(ToSchema)]
pub(crate) struct TokenForm {
    /// An access token, or a refresh token.
    #[schema(value_type = String, min_length = 1)]
    pub(crate) token: Zeroizing<String>,
    /// `access_token` or `refresh_token`; any other text counts for nothing.
    #[schema(value_type = String, required = false, example = "access_token")]
    token_type_hint: Option<String>,
}

impl TokenForm {
    /// Which tokens an answer may be about.
    pub(crate) fn asked_about(&self) -> AskedAbout {
        match self.token_type_hint.as_deref() {
            Some("refresh_token") => AskedAbout::RefreshTokensToo,
            _ => AskedAbout::AccessTokens,
        }
    }
}

impl FromRequest for TokenForm {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            if !is_declared(request.headers(), "application/x-www-form-urlencoded") {
                return Err(Problem::new(Code::UnsupportedMediaType));
            }
            let bytes = read(request.headers(), payload).await?;
            parse(&bytes).ok_or(Problem::new(Code::InvalidRequest))
        })
    }
}

/// A parameter without a value counts as left out, and one that stands twice as a mistake (RFC 6749, section 3.2). More
/// than [`MAX_MEMBERS`] parameters are a mistake too.
fn parse(bytes: &[u8]) -> Option<TokenForm> {
    let mut names: BTreeSet<Cow<'_, str>> = BTreeSet::new();
    let (mut token, mut token_type_hint) = (None, None);
    for (name, value) in form_urlencoded::parse(bytes) {
        let value = Zeroizing::new(value.into_owned());
        // What stands for bytes that are not UTF-8; nothing that we know is written with it.
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
            return None;
        }
        match &*name {
            "token" => token = Some(value),
            "token_type_hint" => token_type_hint = Some(value.to_string()),
            _ => {}
        }
        if !names.insert(name) || names.len() > MAX_MEMBERS {
            return None;
        }
    }
    let token = token.filter(|token| !token.is_empty())?;
    Some(TokenForm { token, token_type_hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_what_is_not_known_is_passed_over() {
        for form in [
            "token=a.b.c",
            "&token=a.b.c&",
            "scope=x&token=a%2Eb%2ec&resource=",
            "token=a.b.c&token_type_hint",
            "token=a.b.c&token_type_hint=saml&client_id=shop",
            "%74oken=a.b.c&Token=x",
        ] {
            let form = parse(form.as_bytes()).unwrap_or_else(|| panic!("{form}"));
            assert_eq!((&**form.token, form.asked_about()), ("a.b.c", AskedAbout::AccessTokens));
        }
        assert_eq!(&**parse(b"token=a+%2B%20b").unwrap().token, "a + b");
    }

    #[test]
    fn refresh_tokens_are_asked_about_by_their_name_alone() {
        let asked =
            |hint: &str| parse(format!("token=x&token_type_hint={hint}").as_bytes()).unwrap().asked_about();

        assert_eq!(asked("refresh_token"), AskedAbout::RefreshTokensToo);
        for hint in ["access_token", "", "Refresh_Token", "refresh_token+", "any"] {
            assert_eq!(asked(hint), AskedAbout::AccessTokens, "{hint}");
        }
    }

    #[test]
    fn form_with_more_than_64_parameters_is_refused() {
        let form = |count: usize| {
            let others: Vec<String> = (1..count).map(|number| format!("n{number}=1")).collect();
            parse(format!("{}&token=x", others.join("&")).as_bytes())
        };

        assert!(form(64).is_some());
        assert!(form(65).is_none());
    }

    #[test]
    fn without_one_token_or_with_anything_twice_it_is_no_form() {
        for form in [
            &b""[..],
            b"&",
            b"token",
            b"token=",
            b"Token=x",
            b"token[]=x",
            b"token=x&token=x",
            b"token=&token=x",
            b"token=x&%74oken=y",
            b"token=x&scope=a&scope=b",
            b"token=x&token_type_hint=access_token&token_type_hint=refresh_token",
            b"token=\xff",
            b"token=%ff",
            b"token=x&%c3=y",
            b"{\"token\":\"x\"}",
        ] {
            assert!(parse(form).is_none(), "{}", String::from_utf8_lossy(form));
        }
    }
}
