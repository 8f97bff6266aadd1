//! `GET /.well-known/change-password` (W3C, A Well-Known URL for Changing Passwords)

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use crate::Api;
use crate::problem::{Code, Problem};

/// Sends password managers and their users to the page that the operator named.
pub(super) async fn redirect(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let page = api.settings.change_password_page.as_deref().ok_or(Problem::new(Code::NotFound))?;
    Ok(HttpResponse::Found().insert_header((LOCATION, page)).finish())
}
