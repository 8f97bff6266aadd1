//! What a path answers to, and to nothing else: every other method is 405 with `Allow`.

use actix_web::web;
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use crate::problem::Problem;

/// A path to read from. `HEAD` is `GET` without the body, which the framework leaves away.
pub(crate) fn get<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(async || only("GET, HEAD")))
}

/// A path to send something to.
pub(crate) fn post<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(web::to(async || only("POST")))
}

/// A path to put something at.
pub(crate) fn put<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path).route(web::put().to(handler)).default_service(web::to(async || only("PUT")))
}

/// A path to delete.
pub(crate) fn delete<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path).route(web::delete().to(handler)).default_service(web::to(async || only("DELETE")))
}

/// A path to read from and to delete.
pub(crate) fn get_and_delete<Get, GetArgs, Delete, DeleteArgs>(
    path: &str,
    get: Get,
    delete: Delete,
) -> Resource
where
    Get: Handler<GetArgs>,
    GetArgs: FromRequest + 'static,
    Get::Output: Responder + 'static,
    Delete: Handler<DeleteArgs>,
    DeleteArgs: FromRequest + 'static,
    Delete::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(get.clone()))
        .route(web::head().to(get))
        .route(web::delete().to(delete))
        .default_service(web::to(async || only("GET, HEAD, DELETE")))
}

/// A path to read from, to change and to delete.
pub(crate) fn get_patch_and_delete<Get, GetArgs, Patch, PatchArgs, Delete, DeleteArgs>(
    path: &str,
    reader: Get,
    changer: Patch,
    remover: Delete,
) -> Resource
where
    Get: Handler<GetArgs>,
    GetArgs: FromRequest + 'static,
    Get::Output: Responder + 'static,
    Patch: Handler<PatchArgs>,
    PatchArgs: FromRequest + 'static,
    Patch::Output: Responder + 'static,
    Delete: Handler<DeleteArgs>,
    DeleteArgs: FromRequest + 'static,
    Delete::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(reader.clone()))
        .route(web::head().to(reader))
        .route(web::patch().to(changer))
        .route(web::delete().to(remover))
        .default_service(web::to(async || only("GET, HEAD, PATCH, DELETE")))
}

fn only(allow: &'static str) -> Result<HttpResponse, Problem> {
    Err(Problem::method_not_allowed(allow))
}
