//! Requests' bodies: bytes to fields, fields to domain types.
//!
//! Two refusals, told apart: what is not one well-formed JSON object is malformed; what is one, but not the
//! one that was asked for, is not valid, and every field that is wrong is named, once for each rule that it breaks.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use actix_web::{FromRequest, HttpRequest};
use domain::{LoginName, Password, PasswordPolicy, PasswordProblem, Username};
use futures_util::StreamExt;
use garde::Validate;
use serde::de::value::{Error as ReadError, MapDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use zeroize::Zeroizing;

use crate::Api;
use crate::extract::authentication;
use crate::net::LARGEST_BODY;
use crate::problem::{Code, FieldCode, FieldError, Problem};

/// The most members of one JSON object, or of a form. No request has a tenth of them, and what they cost is bounded.
pub(crate) const MAX_MEMBERS: usize = 64;

/// The most unknown fields that are named; whoever sends more has not read the description.
const MOST_UNKNOWN: usize = 16;

/// A request's body, read and found valid.
pub(crate) struct Body<T>(pub(crate) T);

/// One field of a request: what it was parsed to, or every rule that it breaks.
pub(crate) struct Field<T>(Result<T, Vec<FieldCode>>);

/// A password that somebody chooses, by the operator's rules. Whether it is too easy to guess is left to the domain.
#[derive(Clone)]
pub(crate) struct ChosenPassword(pub(crate) Password);

/// A password that a request chooses, with what is needed to judge it.
pub(crate) struct Choice {
    pub(crate) field: &'static str,
    pub(crate) password: Password,
    pub(crate) username: Option<Username>,
}

/// What a body can be read to.
pub(crate) trait Fields: DeserializeOwned + Validate<Context = PasswordPolicy> {
    /// The password that it chooses, if it does.
    fn choice(&self) -> Option<Choice> {
        None
    }
}

/// A domain type that a field's text can be parsed to.
pub(crate) trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>>;

    /// The operator's rules that it breaks.
    fn broken_rules(&self, _: PasswordPolicy) -> Vec<FieldCode> {
        Vec::new()
    }
}

impl FromText for Username {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>> {
        Self::parse(text).map_err(|_| Self::broken_rules(text).into_iter().map(FieldCode::from).collect())
    }
}

impl FromText for LoginName {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>> {
        Ok(Self::from_typed(text))
    }
}

impl FromText for Password {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>> {
        Self::parse(text).map_err(|problem| vec![problem.into()])
    }
}

impl FromText for ChosenPassword {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>> {
        let invalid = text.contains('\0').then_some(FieldCode::InvalidCharacters);
        let too_long = |problem: PasswordProblem| [Some(problem.into()), invalid].into_iter().flatten();
        Password::parse(text).map(Self).map_err(|problem| too_long(problem).collect())
    }

    fn broken_rules(&self, policy: PasswordPolicy) -> Vec<FieldCode> {
        policy.broken_rules(&self.0).into_iter().map(FieldCode::from).collect()
    }
}

/// Any text: what it is good for, the domain says.
impl FromText for Zeroizing<String> {
    fn from_text(text: &str) -> Result<Self, Vec<FieldCode>> {
        Ok(Self::new(text.to_owned()))
    }
}

impl<T: Fields> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            if !is_json(request.headers()) {
                return Err(Problem::new(Code::UnsupportedMediaType));
            }
            let bytes = read(request.headers(), payload).await?;
            let api = Api::of(&request)?;
            let (fields, mut errors) = parse::<T>(&bytes, api.auth.rules().passwords)?;
            if errors.is_empty() {
                return Ok(Self(fields));
            }
            if let Some(Choice { field, password, username }) = fields.choice() {
                let judged =
                    api.auth.judge_password(&authentication::origin(&request), password, username).await;
                errors.extend(judged.map(|problem| FieldError::of_password(field, problem)));
            }
            // By a stable sort: the rules of one field keep their order.
            errors.sort_by(|one, other| one.field().cmp(other.field()));
            Err(Problem::validation(errors))
        })
    }
}

impl<T> Field<T> {
    /// The value, if it breaks no rule of its own.
    pub(crate) fn parsed(&self) -> Option<&T> {
        self.0.as_ref().ok()
    }

    /// The value. A request that was found valid has one in every field.
    pub(crate) fn into_parsed(self) -> Result<T, Problem> {
        self.0.map_err(|_| Problem::new(Code::ValidationFailed))
    }
}

/// Whether a request has a body (RFC 9112, section 6.3). One in chunks counts as one, though it may turn out empty.
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    has_length || headers.contains_key(TRANSFER_ENCODING)
}

/// Nothing but JSON: a page of another origin can send a form or plain text without asking first, and so log
/// somebody in.
fn is_json(headers: &HeaderMap) -> bool {
    is_declared(headers, "application/json")
}

/// Whether the body is of this media type, with or without `charset=utf-8`, said once, and not compressed.
pub(crate) fn is_declared(headers: &HeaderMap, media_type: &str) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE);
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = only.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let is_it = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(media_type));
    let mut parameters = parts.filter(|parameter| !parameter.is_empty());
    let is_utf8 = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
        })
    };
    is_it && parameters.all(is_utf8) && !headers.contains_key(CONTENT_ENCODING)
}

/// Reads no further than the limit, whatever the request says of its length.
pub(crate) async fn read(headers: &HeaderMap, mut payload: Payload) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced: usize = announced.unwrap_or(LARGEST_BODY);
    if announced > LARGEST_BODY {
        return Err(Problem::new(Code::BodyTooLarge));
    }
    // Sized before it is filled: a vector that grows leaves copies of a password behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(match error {
                PayloadError::Overflow => Code::BodyTooLarge,
                _ => Code::MalformedRequest,
            })
        })?;
        if bytes.len() + chunk.len() > LARGEST_BODY {
            return Err(Problem::new(Code::BodyTooLarge));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The fields, and everything that is wrong with them.
fn parse<T: Fields>(bytes: &[u8], policy: PasswordPolicy) -> Result<(T, Vec<FieldError>), Problem> {
    let Object(members) = serde_json::from_slice(bytes).map_err(|_| Problem::new(Code::MalformedRequest))?;
    let mut unknown = Vec::new();
    let fields = FieldReader { members, unknown: &mut unknown };
    let value = T::deserialize(fields).map_err(|_| Problem::new(Code::ValidationFailed))?;

    let named = unknown.iter().take(MOST_UNKNOWN);
    let mut errors: Vec<FieldError> =
        named.map(|name| FieldError::new(shown(name), FieldCode::UnknownField)).collect();
    if let Err(report) = value.validate_with(&policy) {
        for (path, error) in report.iter() {
            errors.push(FieldError::of_rule(&path.to_string(), FieldCode::named(error.message()), policy));
        }
    }
    Ok((value, errors))
}

/// The name of an unknown field is repeated only if it is a plain identifier, and so cannot be much else.
fn shown(name: &str) -> &str {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let plain = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if starts && plain && name.len() <= 64 { name } else { "" }
}

/// A JSON object whose names, at every depth, stand once each, and are no more than [`MAX_MEMBERS`] in each object.
struct Object(Members);

type Members = BTreeMap<String, Member>;

/// The value of a member: the text of a string, or a mark that it is something else.
enum Member {
    Text(Zeroizing<String>),
    Other,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                read_members(map).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

fn read_members<'de, A: MapAccess<'de>>(mut map: A) -> Result<Members, A::Error> {
    let mut members = Members::new();
    while let Some((name, value)) = map.next_entry::<String, Member>()? {
        if members.insert(name, value).is_some() {
            return Err(de::Error::custom("a name occurs twice"));
        }
        if members.len() > MAX_MEMBERS {
            return Err(de::Error::custom("an object has too many members"));
        }
    }
    Ok(members)
}

impl<'de> Deserialize<'de> for Member {
    /// Reads every value to its end, those nobody asked for as well: `IgnoredAny` would skip over strings
    /// that are not UTF-8 and over names that stand twice.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;

        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
                while seq.next_element::<Member>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member, A::Error> {
                read_members(map)?;
                Ok(Member::Other)
            }
        }

        deserializer.deserialize_any(MemberVisitor)
    }
}

/// Hands an object's members to a struct, and keeps the names of those that the struct does not know.
struct FieldReader<'a> {
    members: Members,
    unknown: &'a mut Vec<String>,
}

impl<'de> Deserializer<'de> for FieldReader<'_> {
    type Error = ReadError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.members.into_iter().partition(|(name, _)| fields.contains(&name.as_str()));
        self.unknown.extend(unknown.into_iter().map(|(name, _)| name));
        visitor.visit_map(MapDeserializer::new(known.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("a request is a struct of fields"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, ReadError> for Member {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Member {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Self::Text(text) => visitor.visit_str(&text),
            Self::Other => visitor.visit_unit(),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// For a member that is not there.
impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(Err(vec![FieldCode::Required]))
    }
}

impl<'de, T: FromText> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(std::marker::PhantomData<T>);

        impl<T: FromText> Visitor<'_> for TextVisitor<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
                Ok(Field(T::from_text(text)))
            }

            fn visit_unit<E>(self) -> Result<Field<T>, E> {
                Ok(Field(Err(vec![FieldCode::WrongType])))
            }
        }

        deserializer.deserialize_any(TextVisitor(std::marker::PhantomData))
    }
}

/// Lets garde collect what is wrong over all fields of a request. A garde error is a text, so it carries the
/// code's name.
impl<T: FromText> Validate for Field<T> {
    type Context = PasswordPolicy;

    fn validate_into(
        &self,
        policy: &PasswordPolicy,
        parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        let broken = match &self.0 {
            Ok(value) => &value.broken_rules(*policy),
            Err(broken) => broken,
        };
        for code in broken {
            report.append(parent(), garde::Error::new(code.as_str()));
        }
    }
}
