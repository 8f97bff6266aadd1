//! What a handler takes from a request.

pub(crate) mod authentication;
pub(crate) mod json_body;
pub(crate) mod refresh_token;
pub(crate) mod token_form;
