//! A directory as a store: what is special about it.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;
use crate::durable_fs;
use crate::store::{StoreConfig, conformance, connect, read_all};

fn open(root: &Path) -> Arc<dyn ObjectStore> {
    let url = url::Url::from_file_path(root).unwrap().to_string();
    connect(&StoreConfig {
        url,
        ..StoreConfig::default()
    })
    .unwrap()
}

fn key(key: &str) -> ObjectKey {
    ObjectKey::from_listing(key)
}

async fn keys(store: &dyn ObjectStore) -> Vec<String> {
    let listed = store.list("", None).map_ok(|object| object.key.to_string());
    listed.try_collect().await.unwrap()
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("my archive");
    conformance::all(&|| open(&root), "").await;
    conformance::all(&|| open(&root), "below/").await;
}

#[tokio::test]
async fn a_store_that_was_never_written_is_empty_and_reading_does_not_make_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/yet");
    let store = open(&root);
    assert_eq!(keys(store.as_ref()).await, Vec::<String>::new());
    assert_eq!(store.head(&key("a")).await.unwrap(), None);
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    assert_eq!(store.list_prefixes("").await.unwrap(), Vec::<String>::new());
    assert!(!dir.path().join("not").exists());
}

#[tokio::test]
async fn a_listing_is_in_byte_order_over_all_folders() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sorted = [
        "a!", "a-b", "a.b", "a/a", "a/b/c", "a/b0", "a0", "ab/c", "b",
    ];
    for name in sorted.iter().rev() {
        store.put_if_absent(&key(name), "x".into()).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>| -> Vec<String> {
        let after = after.map(key);
        let listed = store.list(prefix, after.as_ref());
        listed
            .map_ok(|object| object.key.to_string())
            .try_collect()
            .await
            .unwrap()
    };
    assert_eq!(list("", None).await, sorted);
    assert_eq!(list("a", None).await, sorted[..8]);
    for (index, name) in sorted.iter().enumerate() {
        assert_eq!(list("", Some(name)).await, sorted[index + 1..], "{name}");
    }
    assert_eq!(list("", Some("a/b/")).await, sorted[4..]);
    assert_eq!(list("", Some("a/b/zz")).await, sorted[5..]);
    assert_eq!(list("", Some("zz")).await, Vec::<String>::new());
}

#[tokio::test]
async fn foreign_files_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = open(root);
    store
        .put_if_absent(&key("a/object"), "mine".into())
        .await
        .unwrap();
    durable_fs::replace(&root.join("README.txt"), b"foreign").unwrap();
    durable_fs::replace(&root.join(std::ffi::OsStr::from_bytes(b"\xFF\xFE")), b"").unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    symlink(root, root.join("a/loop")).unwrap();
    durable_fs::create_dir_all(&root.join("a/empty")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let pipe = root.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();

    assert_eq!(keys(store.as_ref()).await, ["README.txt", "a/object"]);
    for foreign in [
        "link",
        "pipe",
        "socket",
        "a/loop",
        "a/empty",
        "README.txt/below",
    ] {
        assert_eq!(store.head(&key(foreign)).await.unwrap(), None, "{foreign}");
        let put = store
            .put_if_absent(&key(foreign), "x".into())
            .await
            .unwrap_err();
        assert!(matches!(put, StoreError::Io { .. }), "{foreign}: {put:?}");
        assert_eq!(
            put.retry_class(),
            crate::retry::RetryClass::Never,
            "{put:?}"
        );
    }
    assert_eq!(store.list_uploads("").await.unwrap(), []);
}

#[tokio::test]
async fn a_torn_journal_line_costs_one_part_and_no_truth() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (key, body) = (key("object"), Bytes::from_static(b"0123456789"));
    let facts = UploadFacts {
        size: 10,
        crc32c: crc32c::crc32c(&body),
    };
    let id = store.begin_upload(&key, &facts).await.unwrap();
    let part = |number: u32, range: Range<usize>| Part {
        number,
        offset: range.start as u64,
        body: body.slice(range.clone()),
        crc32c: crc32c::crc32c(&body[range]),
    };
    store.upload_part(&key, &id, part(1, 0..4)).await.unwrap();
    store.upload_part(&key, &id, part(2, 4..10)).await.unwrap();
    let journal = dir
        .path()
        .join(".gtide-uploads")
        .join(id.as_str())
        .join("parts");
    let whole = std::fs::read(&journal).unwrap();
    let torn = whole.strip_suffix(b"}\n").unwrap();
    durable_fs::replace(&journal, torn).unwrap();

    let held = store.uploaded_parts(&key, &id).await.unwrap().unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [1]);
    let again = store.upload_part(&key, &id, part(2, 4..10)).await.unwrap();
    let held = store.uploaded_parts(&key, &id).await.unwrap().unwrap();
    assert_eq!(held.last(), Some(&again));
    store
        .complete_upload(&key, &id, &held, &facts)
        .await
        .unwrap();
    assert_eq!(read_all(store.as_ref(), &key, 10).await.unwrap(), body);
}

#[tokio::test]
async fn an_upload_id_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("root"));
    durable_fs::create_dir_all(&dir.path().join("root/.gtide-uploads")).unwrap();
    durable_fs::create_dir_all(&dir.path().join("outside")).unwrap();
    let facts = br#"{"key": "object", "size": 1, "crc32c": 0}"#;
    durable_fs::replace(&dir.path().join("outside/upload.json"), facts).unwrap();
    durable_fs::replace(&dir.path().join("outside/data"), b"x").unwrap();
    for id in ["../../outside", "", ".", "/etc"] {
        let id = UploadId::new(id);
        assert_eq!(
            store.uploaded_parts(&key("object"), &id).await.unwrap(),
            None
        );
        store.abort_upload(&key("object"), &id).await.unwrap();
    }
    assert!(dir.path().join("outside/data").exists());
}

#[tokio::test]
async fn an_upload_belongs_to_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .put_if_absent(&key("other"), "x".into())
        .await
        .unwrap();
    let facts = UploadFacts { size: 1, crc32c: 0 };
    let id = store.begin_upload(&key("object"), &facts).await.unwrap();
    let parts = [PartReceipt {
        number: 1,
        size: 1,
        etag: String::new(),
        crc32c: None,
    }];
    let refused = store
        .complete_upload(&key("other"), &id, &parts, &facts)
        .await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyExists { .. })),
        "{refused:?}"
    );
    store.abort_upload(&key("other"), &id).await.unwrap();
    let held = store.uploaded_parts(&key("object"), &id).await.unwrap();
    assert_eq!(held, Some(vec![]), "untouched");
}

#[tokio::test]
async fn a_part_behind_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let facts = UploadFacts {
        size: 10,
        crc32c: 0,
    };
    let id = store.begin_upload(&key("object"), &facts).await.unwrap();
    for offset in [8, u64::MAX] {
        let part = Part {
            number: 1,
            offset,
            body: Bytes::from_static(b"abc"),
            crc32c: crc32c::crc32c(b"abc"),
        };
        let refused = store
            .upload_part(&key("object"), &id, part)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, StoreError::InvalidUpload { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn killed_between_publishing_and_cleaning_up_the_object_stands() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let facts = UploadFacts {
        size: 3,
        crc32c: crc32c::crc32c(b"abc"),
    };
    let part = Part {
        number: 1,
        offset: 0,
        body: Bytes::from_static(b"abc"),
        crc32c: facts.crc32c,
    };
    let id = store.begin_upload(&key("object"), &facts).await.unwrap();
    let receipt = store
        .upload_part(&key("object"), &id, part.clone())
        .await
        .unwrap();
    let upload = dir.path().join(".gtide-uploads").join(id.as_str());
    durable_fs::rename_new(&upload.join("data"), &dir.path().join("object")).unwrap();

    let completed = store
        .complete_upload(&key("object"), &id, &[receipt], &facts)
        .await;
    assert!(
        matches!(completed, Err(StoreError::AlreadyExists { .. })),
        "{completed:?}"
    );
    assert_eq!(
        store.uploaded_parts(&key("object"), &id).await.unwrap(),
        None
    );
    let late = store.upload_part(&key("object"), &id, part).await;
    assert!(
        matches!(late, Err(StoreError::UploadUnknown { .. })),
        "{late:?}"
    );
    assert!(!upload.exists(), "what was left is gone");
    assert_eq!(keys(store.as_ref()).await, ["object"]);
}

#[tokio::test]
async fn what_an_interrupted_put_left_is_swept_a_day_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .put_if_absent(&key("object"), "x".into())
        .await
        .unwrap();
    let staging = dir.path().join(".gtide-uploads");
    let (old, new) = (staging.join("new-old"), staging.join("new-new"));
    durable_fs::replace(&old, b"x").unwrap();
    durable_fs::replace(&new, b"x").unwrap();
    let day = jiff::SignedDuration::from_hours(25);
    let yesterday = jiff::Timestamp::now().checked_sub(day).unwrap();
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(yesterday.into()).unwrap();
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    assert!(!old.exists() && new.exists());
}

/// A sealed object in a spool beside the archive.
fn spooled(dir: &Path, bytes: &str) -> PathBuf {
    let path = dir.join("spooled");
    durable_fs::create_new(&path, bytes.as_bytes(), 0o600).unwrap();
    path
}

#[tokio::test]
async fn a_spooled_object_on_the_same_filesystem_becomes_the_object_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file) = (dir.path().join("archive"), spooled(dir.path(), "sealed"));
    let store = open(&root);
    assert!(store.link_if_absent(&key("a/b"), &file).await.unwrap());
    let there = store.head(&key("a/b")).await.unwrap().unwrap();
    assert_eq!(there.crc32c, Some(crc32c::crc32c(b"sealed")));
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(inode(&root.join("a/b")), inode(&file));

    // The spool lets go of it.
    std::fs::remove_file(&file).unwrap();
    let read = read_all(store.as_ref(), &key("a/b"), 100).await.unwrap();
    assert_eq!(read, "sealed");
}

#[tokio::test]
async fn a_link_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file) = (dir.path().join("archive"), spooled(dir.path(), "mine"));
    let store = open(&root);
    let theirs = key("a");
    store.put_if_absent(&theirs, "theirs".into()).await.unwrap();
    let refused = store.link_if_absent(&theirs, &file).await.unwrap_err();
    let is_taken = matches!(refused, StoreError::AlreadyExists { .. });
    assert!(is_taken, "{refused:?}");
    let read = read_all(store.as_ref(), &theirs, 100).await.unwrap();
    assert_eq!(read, "theirs");
}

#[tokio::test]
async fn two_archives_never_share_the_bytes_of_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let file = spooled(dir.path(), "sealed");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    assert!(open(&first).link_if_absent(&key("a"), &file).await.unwrap());
    let again = open(&second).link_if_absent(&key("a"), &file).await;
    assert!(!again.unwrap(), "it is sent instead");
    assert!(!second.join("a").exists());
}

#[tokio::test]
async fn what_cannot_be_linked_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("archive"));
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = spooled(elsewhere.path(), "sealed");
    assert!(!store.link_if_absent(&key("a"), &file).await.unwrap());
    let gone = dir.path().join("gone");
    assert!(!store.link_if_absent(&key("a"), &gone).await.unwrap());
    assert_eq!(keys(store.as_ref()).await, Vec::<String>::new());
}
