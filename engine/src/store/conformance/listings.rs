//! Listings.

use futures::{StreamExt, TryStreamExt};

use super::Place;

/// More keys than one page of a listing has.
const MANY: usize = 1005;

pub(super) async fn listings_are_complete_and_ordered(place: &Place) {
    let names: Vec<String> = (0..MANY).map(|n| format!("log/{n:010}.gtb")).collect();
    // Not in order, and sixteen at a time.
    let puts = names.iter().rev().map(|name| place.put(name, "x"));
    futures::stream::iter(puts)
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    place.put("manifest/0000000001.json", "x").await;
    assert!(
        place.names("log/", None).await == names,
        "all, once, in order"
    );
    let after = place.key(&names[MANY - 3]);
    assert_eq!(place.names("log/", Some(&after)).await, names[MANY - 2..]);
    let after = place.key(&names[1]);
    assert!(
        place.names("log/", Some(&after)).await == names[2..],
        "pages behind the start"
    );
    let last = place.key(&names[MANY - 1]);
    assert_eq!(place.names("log/", Some(&last)).await, Vec::<String>::new());
    let sizes = place
        .store
        .list(&place.prefix, None)
        .map_ok(|object| object.size);
    let sizes: Vec<u64> = sizes.try_collect().await.unwrap();
    assert_eq!(sizes, vec![1; MANY + 1]);
}

pub(super) async fn listings_order_by_bytes_within_a_folder(place: &Place) {
    let in_a = ["a/!", "a/-", "a/b/c", "a/b0", "a/é"];
    let all = ["a!", "a-b", "a.b", "a0", "ab/c", "b"];
    for name in in_a.iter().chain(&all).rev() {
        place.put(name, "x").await;
    }
    assert_eq!(place.names("a/", None).await, in_a);
    assert_eq!(place.names("a/b", None).await, in_a[2..4]);
    for (index, name) in in_a.iter().enumerate() {
        let after = place.key(name);
        assert_eq!(
            place.names("a/", Some(&after)).await,
            in_a[index + 1..],
            "{name}"
        );
    }
    // A key that is not there is a place to begin all the same.
    let after = place.key("a/.");
    assert_eq!(place.names("a/", Some(&after)).await, in_a[2..]);
    assert_eq!(place.names("a/", Some(&place.key("a/zz"))).await, in_a[4..]);
    assert_eq!(
        place.names("a/", Some(&place.key("b"))).await,
        Vec::<String>::new()
    );

    // Over all folders: everything once, each folder in its order.
    let every = place.names("", None).await;
    let mut sorted: Vec<&str> = in_a.iter().chain(&all).copied().collect();
    sorted.sort_unstable();
    let mut seen: Vec<&str> = every.iter().map(String::as_str).collect();
    let of_a: Vec<&str> = seen
        .iter()
        .filter(|name| name.starts_with("a/"))
        .copied()
        .collect();
    assert_eq!(of_a, in_a);
    seen.sort_unstable();
    assert_eq!(seen, sorted);
}

pub(super) async fn folders_are_listed(place: &Place) {
    for name in [
        "orders/gtide.json",
        "orders/uuid/1/log/x",
        "billing/x",
        "at the top",
    ] {
        place.put(name, "x").await;
    }
    let under = |prefix: &str| format!("{}{prefix}", place.prefix);
    let folders = place.store.list_prefixes(&under("")).await.unwrap();
    assert_eq!(folders, [under("billing/"), under("orders/")]);
    let folders = place.store.list_prefixes(&under("orders/")).await.unwrap();
    assert_eq!(folders, [under("orders/uuid/")]);
    let none = place.store.list_prefixes(&under("nothing/")).await.unwrap();
    assert_eq!(none, Vec::<String>::new());
}
