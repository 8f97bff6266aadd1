//! Who gives way when there are as many connections as there may be.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_waits_makes_room_and_who_is_served_does_not() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 3, per_network: 3 }, Arc::default());
            let take =
                |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());
            let (mut silent, silent_served) = connect_by(take(1).unwrap(), 4096);
            let (mut idle, idle_served) = connect_by(take(2).unwrap(), 4096);
            let (mut busy, busy_served) = connect_by(take(3).unwrap(), 4096);
            idle.write_all(GET).await.unwrap();
            answer(&mut idle).await;
            busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(SECOND).await;

            let _fourth = connect_by(take(4).unwrap(), 4096);
            silent_served.await.unwrap();
            assert_eq!(rest(&mut silent).await, "");
            assert!(!idle_served.is_finished());

            // The fourth has said nothing yet, and so it goes before the one that was served.
            let mut fifth = connect_by(take(5).unwrap(), 4096).0;
            fifth.write_all(GET).await.unwrap();
            answer(&mut fifth).await;
            let mut sixth = connect_by(take(6).unwrap(), 4096).0;
            idle_served.await.unwrap();
            assert_eq!(rest(&mut idle).await, "");

            assert!(!busy_served.is_finished());
            sixth.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            fifth.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert!(take(7).is_none());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_sent_all_of_a_request_makes_room() {
    let padded = format!("POST /echo HTTP/1.1\r\nhost:{}x\r\ncontent-length: 99\r\n\r\n", " ".repeat(200));
    for (sent, said) in
        [("GET /quick HT", "HTTP/1.1 408 "), (CHUNKED, "HTTP/1.1 408 "), (&padded, "HTTP/1.1 408 ")]
    {
        LocalSet::new()
            .run_until(async {
                let seats = Seats::new(Limits { connections: 1, per_network: 1 }, Arc::default());
                let take = |n: u8| {
                    seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default())
                };
                let (mut slow, _served) = connect_by(take(1).unwrap(), 4096);
                slow.write_all(sent.as_bytes()).await.unwrap();
                tokio::time::sleep(SECOND).await;

                let other = take(2);

                assert!(other.is_some(), "{sent}");
                // And a second for what the client may still be sending.
                let (took, rest) = seconds(rest(&mut slow)).await;
                assert!(took <= 1 && rest.starts_with(said), "{took} {rest}");
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_an_answer_makes_room_and_who_has_taken_it_does_not() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 2, per_network: 2 }, Arc::default());
            let take =
                |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());
            let large = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
            let slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
            let (mut takes, takes_served) = connect_by(take(1).unwrap(), 1024);
            takes.write_all(large).await.unwrap();
            tokio::time::sleep(SECOND).await;
            takes.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
            takes.write_all(slow).await.unwrap();
            let (mut stuck, stuck_served) = connect_by(take(2).unwrap(), 1024);
            stuck.write_all(large).await.unwrap();
            tokio::time::sleep(SECOND).await;

            let (mut third, _served) = connect_by(take(3).unwrap(), 1024);

            assert_eq!(seconds(stuck_served).await.0, 0);
            third.write_all(slow).await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert!(take(4).is_none() && !takes_served.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_in_the_moment_of_asking_is_answered_first() {
    LocalSet::new()
        .run_until(async {
            let seats = Seats::new(Limits { connections: 1, per_network: 1 }, Arc::default());
            let (mut client, _served) = connect_by(
                seats.take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap(),
                4096,
            );
            client.write_all(GET).await.unwrap();
            answer(&mut client).await;

            // The connection has not seen this yet when another one takes its seat.
            client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let _other =
                seats.take([192, 0, 2, 2].into(), &TrustedProxies::default(), SitePrefix::default()).unwrap();

            let (took, rest) = seconds(rest(&mut client)).await;
            assert!(rest.starts_with("HTTP/1.1 503 "), "{rest}");
            assert_eq!(took, 10);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_network_has_no_more_than_its_share_and_a_proxy_has_all() {
    let proxies = TrustedProxies::new(["198.51.100.0/24".parse().unwrap()]).unwrap();
    let seats = Seats::new(Limits { connections: 8, per_network: 2 }, Arc::default());
    let take = |address: &str| seats.take(address.parse().unwrap(), &proxies, SitePrefix::default()).unwrap();
    let waker = Waker::noop();

    let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
    let other = take("192.0.2.1");
    let third = take("2001:db8::3");

    let is_to_go = |seat: &Seat| seat.standing().is_to_go(waker);
    assert!(is_to_go(&first) != is_to_go(&second) && !is_to_go(&third) && !is_to_go(&other));
    let by_proxy: Vec<Seat> = (0..5).map(|_| take("::ffff:198.51.100.7")).collect();
    assert!(by_proxy.iter().all(|seat| !is_to_go(seat)));
}

#[tokio::test(start_paused = true)]
async fn ipv6_site_has_the_connections_of_four_networks() {
    let seats = Seats::new(Limits { connections: 64, per_network: 2 }, Arc::default());
    let take = |address: &str| {
        seats.take(address.parse().unwrap(), &TrustedProxies::default(), SitePrefix::default()).unwrap()
    };
    let is_to_go = |seat: &Seat| seat.standing().is_to_go(Waker::noop());

    let of_site: Vec<Seat> = (0..8).map(|number| take(&format!("2001:db8:0:{number}::1"))).collect();
    let others = [take("2001:db8:1::1"), take("192.0.2.1")];
    assert!(of_site.iter().chain(&others).all(|seat| !is_to_go(seat)));
    let ninth = take("2001:db8:0:8::1");

    assert_eq!(of_site.iter().filter(|seat| is_to_go(seat)).count(), 1);
    assert!(!is_to_go(&ninth) && others.iter().all(|seat| !is_to_go(seat)));
    drop((of_site, others, ninth));
    assert!(seats.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_is_counted_by_the_reason_and_whoever_was_served_is_not() {
    LocalSet::new()
        .run_until(async {
            let endless = format!("GET / HTTP/1.1\r\nx:{}", "x".repeat(40_000));
            let large = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
            let quick = str::from_utf8(GET).unwrap();
            for (sent, reason) in [
                (quick, None),
                ("", Some("silent")),
                ("GET", Some("slow_head")),
                (&endless, Some("large_head")),
                (large, Some("untaken_answer")),
            ] {
                let traffic = Arc::new(Traffic::default());
                let seats = Seats::new(nobody_else(), traffic.clone());
                let seat = seats
                    .take([192, 0, 2, 1].into(), &TrustedProxies::default(), SitePrefix::default())
                    .unwrap();
                let (mut client, served) = connect_by(seat, 1024);

                assert_eq!(traffic.connections(), 1);
                _ = client.write_all(sent.as_bytes()).await;
                served.await.unwrap();

                assert_eq!(traffic.connections(), 0);
                let counts: Vec<_> = traffic.cut().filter(|(_, count)| *count > 0).collect();
                assert_eq!(counts, reason.map(|reason| (reason, 1)).as_slice(), "{sent:.40}");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_room_and_whoever_finds_none_is_counted() {
    let traffic = Arc::new(Traffic::default());
    let seats = Seats::new(Limits { connections: 1, per_network: 1 }, traffic.clone());
    let take = |n: u8| seats.take([192, 0, 2, n].into(), &TrustedProxies::default(), SitePrefix::default());

    let _first = take(1).unwrap();
    let second = take(2).unwrap();
    second.standing().set(Rank::Busy, now());
    assert!(take(3).is_none());

    let counts: Vec<_> = traffic.cut().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        (traffic.connections(), counts.as_slice()),
        (2, [("no_room", 1), ("to_make_room", 1)].as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn seats_that_are_given_up_are_free() {
    let seats = Seats::new(Limits { connections: 2, per_network: 1 }, Arc::default());
    for _ in 0..1000 {
        let seat = seats
            .take("192.0.2.1".parse().unwrap(), &TrustedProxies::default(), SitePrefix::default())
            .unwrap();
        assert!(!seat.standing().is_to_go(Waker::noop()));
    }
    assert!(seats.is_empty());
}
