//! The arithmetic of uploads in parts, the same for every backend. Pure.

use super::{Part, PartReceipt, UploadFacts};

/// The smallest part. S3 asks for 5 MiB, GCS for multiples of 256 KiB.
const MIN_PART_SIZE: u64 = 8 << 20;

/// The most parts of one upload (S3 user guide, "Amazon S3 multipart upload limits").
pub(super) const MAX_PARTS: u64 = 10_000;

/// An object of no bytes is put, not uploaded.
pub(super) const NO_BYTES: &str = "an upload of no bytes cannot be made of parts";

/// Bigger parts grow by whole MiB.
const PART_STEP: u64 = 1 << 20;

/// What [`ObjectStore::part_size`](super::ObjectStore::part_size) is for every store.
pub fn part_size(size: u64) -> u64 {
    let even = size.div_ceil(MAX_PARTS).div_ceil(PART_STEP);
    MIN_PART_SIZE.max(even.saturating_mul(PART_STEP))
}

/// Why `part` cannot be one of the object, if so.
pub(super) fn part_defect(part: &Part) -> Option<String> {
    let number = u64::from(part.number);
    if number == 0 || number > MAX_PARTS {
        return Some(format!("part number {number} is not 1 to {MAX_PARTS}"));
    }
    if part.body.is_empty() {
        return Some(format!("part {number} is empty"));
    }
    None
}

/// Why `parts` cannot add up to the object, if so.
pub(super) fn receipts_defect(parts: &[PartReceipt], facts: &UploadFacts) -> Option<String> {
    let mut size = 0_u64;
    for (expected, part) in (1..).zip(parts) {
        if part.number != expected {
            return Some(format!(
                "part {} stands where part {expected} should",
                part.number
            ));
        }
        size = size.saturating_add(part.size);
    }
    if size != facts.size {
        return Some(format!("its parts have {size} bytes, not {}", facts.size));
    }
    (size == 0).then(|| NO_BYTES.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn receipt(number: u32, size: u64) -> PartReceipt {
        PartReceipt {
            number,
            size,
            etag: String::new(),
            crc32c: None,
        }
    }

    proptest! {
        #[test]
        fn every_object_fits_into_ten_thousand_parts(size in 0_u64..(50 << 40)) {
            let part = part_size(size);
            prop_assert!(part >= MIN_PART_SIZE);
            prop_assert!(size.div_ceil(part) <= MAX_PARTS);
            prop_assert_eq!(part % (256 << 10), 0);
        }
    }

    #[test]
    fn parts_are_eight_mebibytes_until_ten_thousand_are_not_enough() {
        assert_eq!(part_size(1), 8 << 20);
        assert_eq!(part_size((8 << 20) * MAX_PARTS), 8 << 20);
        assert_eq!(part_size((8 << 20) * MAX_PARTS + 1), 9 << 20);
    }

    #[test]
    fn receipts_must_be_all_parts_in_order() {
        let facts = UploadFacts { size: 7, crc32c: 0 };
        assert_eq!(
            receipts_defect(&[receipt(1, 5), receipt(2, 2)], &facts),
            None
        );
        for wrong in [
            vec![receipt(1, 5)],
            vec![receipt(2, 2), receipt(1, 5)],
            vec![receipt(1, 5), receipt(3, 2)],
            vec![receipt(1, 5), receipt(1, 2)],
            vec![receipt(1, u64::MAX), receipt(2, u64::MAX)],
            vec![],
        ] {
            assert!(receipts_defect(&wrong, &facts).is_some(), "{wrong:?}");
        }
        assert!(receipts_defect(&[], &UploadFacts { size: 0, crc32c: 0 }).is_some());
    }

    #[test]
    fn a_part_has_a_number_and_bytes() {
        let part = |number, body: &'static [u8]| Part {
            number,
            offset: 0,
            body: Bytes::from_static(body),
            crc32c: 0,
        };
        assert_eq!(part_defect(&part(1, b"x")), None);
        assert_eq!(part_defect(&part(10_000, b"x")), None);
        for wrong in [part(0, b"x"), part(10_001, b"x"), part(1, b"")] {
            assert!(part_defect(&wrong).is_some(), "{wrong:?}");
        }
    }
}
