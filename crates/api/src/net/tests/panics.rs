//! Handlers, extractors and bodies that panic, and bodies that nobody reads.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_handler_or_an_extractor_that_panics_is_500_and_the_connection_goes_on() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            for path in ["/panic", "/untakable"] {
                client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
                client.write_all(GET).await.unwrap();

                let answers = answer(&mut client).await;

                assert!(
                    answers.starts_with("HTTP/1.1 500 ") && answers.contains("HTTP/1.1 200 "),
                    "{answers}"
                );
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_body_was_read_is_the_last_that_is_answered() {
    LocalSet::new()
        .run_until(async {
            let (mut client, served) = connect();
            let request = CHUNKED.replace("/echo", "/panic") + "5\r\nhello\r\n0\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            client.write_all(GET).await.unwrap();

            let (took, answers) = seconds(rest(&mut client)).await;

            assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
            assert_eq!((answers.matches("HTTP/1.1 ").count(), took), (1, LINGER.as_secs()), "{answers}");
            served.await.unwrap();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whose_body_nobody_reads_keeps_the_connection_if_all_of_it_comes() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            let post = |length: usize| {
                format!("POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
            };
            for (path, status) in [("refused", 429), ("refused", 429), ("quick", 200), ("refused", 429)] {
                let request = post(5).replace("refused", path) + "hello";
                client.write_all(request.as_bytes()).await.unwrap();
                assert!(answer(&mut client).await.starts_with(&format!("HTTP/1.1 {status} ")));
            }
            // Whose does not come, or is more than anybody would read, loses it.
            client.write_all(post(5).as_bytes()).await.unwrap();
            let (took, answered) = seconds(rest(&mut client)).await;
            assert!(answered.starts_with("HTTP/1.1 429 ") && answered.contains("connection: close"));
            assert_eq!(took, 2 * LINGER.as_secs());
            let (mut client, _served) = connect();
            client.write_all(post(17 * 1024).as_bytes()).await.unwrap();
            let (took, answered) = seconds(rest(&mut client)).await;
            assert!(answered.starts_with("HTTP/1.1 429 ") && answered.contains("connection: close"));
            assert_eq!(took, LINGER.as_secs());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_ends_its_connection_and_no_other_and_leaves_its_seat() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(nobody_else(), Arc::default());
            let take = || {
                seats.take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap()
            };
            let (mut other, other_served) = connect_by(take(), 4096);
            let (mut client, served) = connect_by(take(), 4096);
            client.write_all(b"GET /half HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

            assert!(served.await.unwrap_err().is_panic());
            // Chunks that end without the last one, so nobody takes it for an answer that is whole.
            assert!(!rest(&mut client).await.contains("\r\n0\r\n"));
            other.write_all(GET).await.unwrap();
            assert!(answer(&mut other).await.starts_with("HTTP/1.1 200 "));

            drop(other);
            other_served.await.unwrap();
            assert!(seats.is_empty());
        })
        .await;
}
