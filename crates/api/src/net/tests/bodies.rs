//! Bodies and answers that are slow.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_byte_by_byte_is_answered_after_fifteen_seconds() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect();
            let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n";
            client.write_all(head).await.unwrap();

            let (took, rest) = seconds(async {
                drip(&mut client, b"abc").await;
                rest(&mut client).await
            })
            .await;

            assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
            // And a second for what the client may still be sending.
            assert_eq!(took, 16);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_waited_for_however_its_head_is_written() {
    let padded = format!("POST /echo HTTP/1.1\r\nhost:{}x\r\ncontent-length: 99\r\n\r\n", " ".repeat(200));
    let bare = "\r\nPOST /echo HTTP/1.1\nhost:x\ncontent-length:99\n\n";
    for head in [CHUNKED, &padded, bare] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(head.as_bytes()).await.unwrap();

                let mut status = [0; 12];
                let (took, _) = seconds(client.read_exact(&mut status)).await;

                assert_eq!((took, &status), (15, b"HTTP/1.1 408"), "{head}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_answered_for_after_ten_seconds() {
    for request in [
        "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /slow HTTP/1.1\r\nhost:x\r\ncontent-length:5\r\n\r\nquick",
        "POST /slow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nquick\r\n0\r\n\r\n",
        // A body that nobody asks for has come as well.
        "GET /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nquick",
    ] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(request.as_bytes()).await.unwrap();

                let mut status = [0; 12];
                let (took, _) = seconds(client.read_exact(&mut status)).await;

                assert_eq!((took, &status), (10, b"HTTP/1.1 503"), "{request}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_the_last_that_is_sent() {
    let known = "POST /quick HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n";
    for head in [known, &CHUNKED.replace("echo", "quick")] {
        LocalSet::new()
            .run_until(async {
                let (mut client, _served) = connect();
                client.write_all(head.as_bytes()).await.unwrap();

                assert!(answer(&mut client).await.contains("connection: close"), "{head}");
                // And a second for what the client may still be sending.
                assert_eq!(seconds(rest(&mut client)).await, (1, String::new()), "{head}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    LocalSet::new()
        .run_until(async {
            let (mut client, served) = connect_by(seat(), 1024);
            client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

            let (took, ()) = seconds(async {
                let mut bytes = [0; 32];
                let sip = async {
                    loop {
                        client.read_exact(&mut bytes).await.unwrap();
                        tokio::time::sleep(SECOND).await;
                    }
                };
                tokio::select! { () = sip => {}, _ = served => {} }
            })
            .await;

            assert_eq!(took, 30);
        })
        .await;
}

#[tokio::test]
async fn a_large_answer_is_handed_over_in_pieces() {
    let mut request = TestRequest::default().to_srv_request();
    let in_flight = Exchange::of(&request).begin(&mut request).await;
    let mut answer = HttpResponse::Ok().finish();
    let large = BoxBody::new("x".repeat(3 * STRIDE + 1));
    let mut body = pin!(AnswerBody::new(answer.head_mut(), large, in_flight));

    let mut lengths = Vec::new();
    while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        lengths.push(piece.unwrap().len());
    }

    assert_eq!(lengths, [STRIDE, STRIDE, STRIDE, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    LocalSet::new()
        .run_until(async {
            let (mut client, _served) = connect_by(seat(), 64 * 1024);
            client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();

            let mut piece = vec![0; 32 * 1024];
            let (took, length) = seconds(async {
                let mut length = 0;
                loop {
                    match client.read(&mut piece).await.unwrap() {
                        0 => break length,
                        read => length += read,
                    }
                    tokio::time::sleep(SECOND * 10).await;
                }
            })
            .await;

            assert!(took > 60 && length > 1 << 20, "{took} {length}");
        })
        .await;
}
