use std::time::Duration;

use domain::ports::{PortError, Readiness as _};

#[tokio::test]
async fn a_store_that_serves_is_ready() {
    let store = super::fresh();

    assert!(store.check().await.is_ok());
}

#[tokio::test]
async fn a_store_that_is_taken_away_is_not_ready_a_second_later() {
    let store = super::fresh();
    store.check().await.unwrap();

    store.take_away();
    store.pass(Duration::from_secs(1));

    assert!(matches!(store.check().await, Err(PortError::Unavailable(_))));
}

#[tokio::test]
async fn a_store_that_is_brought_back_is_ready_a_second_later() {
    let store = super::fresh();
    store.take_away();
    store.check().await.unwrap_err();

    store.bring_back();
    store.pass(Duration::from_secs(1));

    assert!(store.check().await.is_ok());
}
