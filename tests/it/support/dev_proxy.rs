//! Where a front end's pages come from.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Where its one page is.
pub(crate) const PAGE: &str = "/app";

/// What a front end does with requests that are not for its page.
#[derive(Clone)]
enum Proxy {
    /// There is nothing else.
    None,
    /// It passes them on to this address as they are.
    Verbatim(String),
    /// It passes them on with another `Host`, and without the browser's word of whose page asks, as an old browser's.
    Rewriting(String),
}

/// A front end that serves a page.
pub(crate) struct FrontEnd {
    /// `http://127.0.0.1:` and a port of its own.
    pub(crate) origin: String,
}

impl FrontEnd {
    /// Serves the page and nothing else.
    pub(crate) async fn serve(page: String) -> Self {
        Self::start(page, Proxy::None).await
    }

    /// Serves the page and passes the rest on to the API at this address, as a development server does.
    pub(crate) async fn before(api: &str, page: String) -> Self {
        Self::start(page, Proxy::Verbatim(api.to_owned())).await
    }

    /// The same with another `Host`, for a browser that does not say of which site a page is.
    pub(crate) async fn rewriting(api: &str, page: String) -> Self {
        Self::start(page, Proxy::Rewriting(api.to_owned())).await
    }

    async fn start(page: String, proxy: Proxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let page = Arc::<str>::from(page);
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                let (page, proxy) = (page.clone(), proxy.clone());
                // A browser that has gone is nobody's fault.
                tokio::spawn(async move { answer(browser, &page, proxy).await.ok() });
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
async fn answer(mut browser: TcpStream, page: &str, proxy: Proxy) -> std::io::Result<()> {
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
    let request = String::from_utf8(request).unwrap();
    let mut request = request.replacen("Connection: keep-alive\r\n", "Connection: close\r\n", 1);
    let api = match proxy {
        Proxy::None => {
            let nothing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return browser.write_all(nothing).await;
        }
        Proxy::Verbatim(api) => api,
        Proxy::Rewriting(api) => {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let is_kept = |line: &&str| !line.starts_with("Host:") && !line.starts_with("Sec-Fetch-");
            let lines: Vec<_> = head.split("\r\n").filter(is_kept).collect();
            request = format!("{}\r\nHost: {api}\r\n\r\n{body}", lines.join("\r\n"));
            api
        }
    };
    let mut api = TcpStream::connect(api).await?;
    api.write_all(request.as_bytes()).await?;
    copy_bidirectional(&mut browser, &mut api).await.map(drop)
}
