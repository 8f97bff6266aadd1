//! What both listeners have in common: HTTP/1.1 by actix, on connections that are ours.

use std::fmt::Debug;
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Request};
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::Error;
use actix_web::dev::{AppConfig, ServiceResponse};
use tokio::net::TcpStream;

use crate::LINGER;
use crate::net::{AnswerBody, ClientConnection, Lobby};

/// Has `builder` serve what `app` makes to those whom `lobby` admits, as `actix_web::HttpServer` would.
pub(crate) fn serve<A, S>(
    builder: ServerBuilder,
    name: &str,
    listener: TcpListener,
    lobby: Lobby,
    app: impl Fn() -> A + Clone + Send + 'static,
) -> io::Result<ServerBuilder>
where
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<AnswerBody>,
            Error = Error,
            InitError: Debug,
        > + 'static,
{
    let stopping = builder.graceful_shutdown_signal();
    builder.listen(name, listener, move || {
        let (lobby, stopping) = (lobby.clone(), stopping.clone());
        let app = app().into_factory().map_err(|error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // The connection holds its own deadlines.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
            // A client that closes its side has gone away. Nobody half-closes a connection and waits, and
            // work for those who left would keep those who are there waiting.
            .h1_allow_half_closed(false)
            .on_connect_ext(|connection: &ClientConnection, data| _ = data.insert(connection.exchange()))
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let admitted = lobby.admit(stream).map_err(DispatchError::Io);
            ready(admitted.map(|(connection, peer)| (connection, Some(peer))))
        })
        .and_then(http)
    })
}
