//! `GET /.well-known/jwks.json`

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use domain::{PublicKey, PublicKeyMaterial};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::{Api, etag};

/// The public keys of this service (RFC 7517, section 5).
#[derive(Serialize, ToSchema)]
#[schema(as = KeySet)]
pub(crate) struct KeySetView<'a> {
    /// Keys that verify tokens, and those that soon will; none while tokens are signed with a shared secret.
    keys: Vec<KeyView<'a>>,
}

/// A public key (RFC 7517, section 4).
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyView<'a> {
    /// The kind of key.
    #[schema(example = "OKP")]
    kty: &'static str,
    /// What it is used for.
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    usage: &'static str,
    /// The one algorithm that it verifies.
    #[schema(example = "EdDSA")]
    alg: &'static str,
    /// What the header of a token calls it.
    #[schema(example = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    kid: &'a str,
    /// With `EC` and `OKP`: the curve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "Ed25519")]
    crv: Option<&'static str>,
    /// With `EC` and `OKP`: the point, or its one coordinate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    x: Option<&'a str>,
    /// With `EC`: the other coordinate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    y: Option<&'a str>,
    /// With `RSA`: the modulus.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    n: Option<&'a str>,
    /// With `RSA`: the exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    e: Option<&'a str>,
}

/// Get the keys that verify access tokens.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks",
    tag = "verification",
    responses(
        (status = 200, description = "The keys. Keep them for five minutes.", body = KeySetView, headers(
            ("ETag" = String, description = "What to ask with in `If-None-Match`."),
        )),
        (status = 304, description = "They are those that the client has."),
    ),
)]
pub(crate) async fn jwks(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let published = api.auth.public_keys();
    etag::json(&request, &KeySetView { keys: published.keys.iter().map(KeyView::from).collect() })
}

impl<'a> From<&'a PublicKey> for KeyView<'a> {
    fn from(key: &'a PublicKey) -> Self {
        let PublicKey { id, algorithm, material } = key;
        let (kty, crv, x, y, n, e) = match material {
            PublicKeyMaterial::Rsa { n, e } => ("RSA", None, None, None, Some(&**n), Some(&**e)),
            PublicKeyMaterial::EllipticCurve { curve, x, y } => {
                ("EC", Some(*curve), Some(&**x), Some(&**y), None, None)
            }
            PublicKeyMaterial::EdwardsCurve { curve, x } => {
                ("OKP", Some(*curve), Some(&**x), None, None, None)
            }
        };
        Self { kty, usage: "sig", alg: algorithm, kid: id, crv, x, y, n, e }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_key_has_its_own_members_and_no_other() {
        let shown = |algorithm, material| {
            let key = PublicKey { id: "k".to_owned(), algorithm, material };
            serde_json::to_value(KeyView::from(&key)).unwrap()
        };
        let text = str::to_owned;

        let rsa = PublicKeyMaterial::Rsa { n: text("N"), e: text("AQAB") };
        let curve = PublicKeyMaterial::EllipticCurve { curve: "P-256", x: text("X"), y: text("Y") };
        let edwards = PublicKeyMaterial::EdwardsCurve { curve: "Ed25519", x: text("X") };

        let expected =
            json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k", "n": "N", "e": "AQAB" });
        assert_eq!(shown("RS256", rsa), expected);
        let expected = json!({ "kty": "EC", "use": "sig", "alg": "ES256", "kid": "k", "crv": "P-256", "x": "X", "y": "Y" });
        assert_eq!(shown("ES256", curve), expected);
        let expected =
            json!({ "kty": "OKP", "use": "sig", "alg": "EdDSA", "kid": "k", "crv": "Ed25519", "x": "X" });
        assert_eq!(shown("EdDSA", edwards), expected);
    }
}
