//! Where a front end's pages come from.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Where its one page is.
pub(crate) const PAGE: &str = "/app";

/// A front end that serves a page.
pub(crate) struct FrontEnd {
    /// `http://127.0.0.1:` and a port of its own.
    pub(crate) origin: String,
}

impl FrontEnd {
    /// Serves the page and nothing else.
    pub(crate) async fn serve(page: String) -> Self {
        Self::start(page, None).await
    }

    /// Serves the page and passes the rest on to the API at this address, as a development server does.
    pub(crate) async fn before(api: &str, page: String) -> Self {
        Self::start(page, Some(api.to_owned())).await
    }

    async fn start(page: String, api: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (page, api) = (Arc::<str>::from(page), Arc::new(api));
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                let (page, api) = (page.clone(), api.clone());
                // A browser that has gone is nobody's fault.
                tokio::spawn(async move { answer(browser, &page, api.as_deref()).await.ok() });
            }
        });
        Self { origin }
    }

    /// The URL of its page.
    pub(crate) fn page(&self) -> String {
        format!("{}{PAGE}", self.origin)
    }
}

/// One request, after which the connection is closed: each is looked at for where it goes.
async fn answer(mut browser: TcpStream, page: &str, api: Option<&str>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if browser.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    if request.starts_with(format!("GET {PAGE} ").as_bytes()) {
        let kind = "Content-Type: text/html; charset=utf-8";
        let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n", page.len());
        return browser.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes()).await;
    }
    let Some(api) = api else {
        let nothing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return browser.write_all(nothing).await;
    };
    let request = String::from_utf8(request).unwrap();
    let request = request.replacen("Connection: keep-alive\r\n", "Connection: close\r\n", 1);
    let mut api = TcpStream::connect(api).await?;
    api.write_all(request.as_bytes()).await?;
    copy_bidirectional(&mut browser, &mut api).await.map(drop)
}
