//! Key files: one key-encryption key as text (FORMAT.md §8.4).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use rustix::fs::OFlags;
use zeroize::{Zeroize, Zeroizing};

use super::KeyringError;
use crate::archive::key::KEY_SIZE;
use crate::archive::{ArchiveError, KeyEncryptionKey, KeyId};
use crate::digest::Digest;
use crate::durable_fs;

/// The longest key file, in bytes, comments and all.
pub const MAX_KEY_FILE: usize = 4096;

/// What the key's line begins with: the version of this file's format.
const PREFIX: &str = "gtide-key-1:";

/// Separates the digest that names a key from all other digests (FORMAT.md §8.3).
const ID_DOMAIN: &[u8] = b"gtide-key-id-1:";

/// Hexadecimal digits of the digest in a key id.
const ID_DIGITS: usize = 16;

/// Makes a key file with a new key, readable by its owner only. The file and its name are on the disk
/// when this returns.
///
/// # Errors
/// [`KeyringError::Exists`]: never overwrites. [`KeyringError::Io`]: there is no key file, or a whole
/// one whose name may not survive a crash.
pub fn create_key_file(path: &Path) -> Result<KeyId, KeyringError> {
    let mut bytes = Zeroizing::new([0; KEY_SIZE]);
    getrandom::fill(bytes.as_mut_slice()).map_err(ArchiveError::Random)?;
    let id = key_id(&bytes);
    let text = to_text(&id, &bytes);

    match durable_fs::create_new(path, text.as_bytes(), 0o600) {
        Ok(()) => Ok(id),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeyringError::Exists {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error("create", path)(error)),
    }
}

/// Reads a key file that is a regular file and open to its owner only.
pub(super) fn read_key_file(path: &Path) -> Result<KeyEncryptionKey, KeyringError> {
    // Non-blocking: opening a pipe must not wait for someone to write to it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(io_error("open", path))?;
    // Of the open file, not of the path: it cannot be exchanged in between.
    let metadata = file.metadata().map_err(io_error("open", path))?;
    if !metadata.is_file() {
        return Err(KeyringError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let text = read_bounded(&file).map_err(io_error("read", path))?;
    parse(&text).map_err(|reason| KeyringError::Malformed {
        path: path.to_owned(),
        reason,
    })
}

/// The file's bytes; one more than [`MAX_KEY_FILE`] at most.
fn read_bounded(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_KEY_FILE));
    file.take(MAX_KEY_FILE as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// A key file's text: comment lines, and exactly one key. Errors never quote it.
pub(crate) fn parse(text: &[u8]) -> Result<KeyEncryptionKey, &'static str> {
    if text.len() > MAX_KEY_FILE {
        return Err("it is larger than any key file");
    }
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err("it does not have exactly one line that is no comment");
    };
    let encoded = line
        .strip_prefix(PREFIX)
        .ok_or("its key does not begin with \"gtide-key-1:\"")?;
    let bytes = decode(encoded).ok_or("its key is not the base64 of 32 bytes")?;
    Ok(KeyEncryptionKey::new(key_id(&bytes), &bytes))
}

fn decode(encoded: &str) -> Option<Zeroizing<[u8; KEY_SIZE]>> {
    // 44 characters of base64 may stand for 33 bytes; 32 are what a padded key has.
    let mut decoded = Zeroizing::new([0; KEY_SIZE + 1]);
    let expected = BASE64.decode_len(encoded.len()).ok()?;
    if expected != decoded.len() {
        return None;
    }
    let size = BASE64
        .decode_mut(encoded.as_bytes(), decoded.as_mut_slice())
        .ok()?;
    let mut bytes = Zeroizing::new([0; KEY_SIZE]);
    bytes.copy_from_slice(decoded.get(..size).filter(|key| key.len() == KEY_SIZE)?);
    Some(bytes)
}

fn to_text(id: &KeyId, bytes: &[u8; KEY_SIZE]) -> Zeroizing<String> {
    let mut encoded = BASE64.encode(bytes);
    let text = Zeroizing::new(format!(
        "# gtide key {id}\n\
         # Whoever has this file can read the archive. Without it nobody can: keep a copy elsewhere.\n\
         {PREFIX}{encoded}\n"
    ));
    encoded.zeroize();
    text
}

/// FORMAT.md §8.3.
fn key_id(bytes: &[u8; KEY_SIZE]) -> KeyId {
    let digest = Digest::of_parts(&[ID_DOMAIN, bytes]);
    let digits: String = HEXLOWER
        .encode(digest.as_bytes())
        .chars()
        .take(ID_DIGITS)
        .collect();
    format!("file:{digits}")
        .parse()
        .expect("hexadecimal digits are printable")
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyringError {
    move |source| KeyringError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::exit::Diagnose;

    fn folder_with_key() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.key");
        create_key_file(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn a_new_key_file_is_its_owners_alone_and_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.key");
        let id = create_key_file(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_key_file(&path).unwrap().id(), &id);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("# gtide key {id}\n")));
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let (_folder, path) = folder_with_key();
        let before = std::fs::read(&path).unwrap();
        let error = create_key_file(&path).unwrap_err();
        assert!(matches!(error, KeyringError::Exists { .. }));
        assert!(error.to_string().contains("archive.key"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_folder, path) = folder_with_key();
        for mode in [0o640, 0o604, 0o644, 0o660, 0o602, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read_key_file(&path).unwrap_err();
            assert!(
                error.to_string().contains(&format!("{mode:04o}")),
                "{error}"
            );
            assert_eq!(error.hint(), Some(format!("chmod 600 {}", path.display())));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read_key_file(&path).is_ok());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [folder.path(), &pipe, Path::new("/dev/null")] {
            let error = read_key_file(path).unwrap_err();
            assert!(matches!(error, KeyringError::NotAFile { .. }), "{error}");
        }
    }

    #[test]
    fn bad_text_is_refused_and_never_quoted() {
        let key = format!("gtide-key-1:{}", BASE64.encode(&[7; 32]));
        assert!(parse(key.as_bytes()).is_ok());
        assert!(parse(format!("\n# a\r\n  {key}\r\n\n").as_bytes()).is_ok());
        let (_folder, path) = folder_with_key();
        for text in [
            String::new(),
            "# only a comment\n".to_owned(),
            format!("{key}\n{key}\n"),
            key.replace("key-1", "key-2"),
            key.replace('=', ""),
            format!("gtide-key-1:{}", BASE64.encode(&[7; 31])),
            format!("gtide-key-1:{}", BASE64.encode(&[7; 33])),
            format!("gtide-key-1:{}", BASE64.encode(&[7; 16])),
            format!("{key}\n#{}", "x".repeat(MAX_KEY_FILE)),
            "gtide-key-1:secretsecret".to_owned(),
        ] {
            std::fs::File::create(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            let error = read_key_file(&path).unwrap_err();
            assert!(matches!(error, KeyringError::Malformed { .. }), "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&[0xFF, 0xFE])
            .unwrap();
        assert!(read_key_file(&path).is_err());
    }

    /// FORMAT.md §8.3: stored in every object, so it may never change.
    #[test]
    fn key_ids_are_as_specified() {
        let expected = Digest::of(&[&b"gtide-key-id-1:"[..], &[7; 32]].concat()).to_string();
        assert_eq!(
            key_id(&[7; 32]).as_str(),
            format!("file:{}", &expected[..16])
        );
    }
}
