//! A cursor over the fields of one event's body.

/// The body ends within a field.
#[derive(Debug)]
pub(super) struct Short;

/// What is left of the body. All integers are little-endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    /// An integer of `len` bytes, at most eight.
    pub(super) fn uint(&mut self, len: usize) -> Result<u64, Short> {
        let bytes = self.take(len)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// The protocol's length-encoded integer of 1 to 9 bytes (`net_field_length_ll` in the server's
    /// `mysys/pack.cc`); its NULL (251) and error (255) count as short.
    pub(super) fn packed(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            value @ 0..=250 => Ok(value.into()),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            251 | 255 => Err(Short),
        }
    }

    /// The serialization library's variable-length integer of 1 to 9 bytes
    /// (`libs/mysql/serialization/variable_length_integers.h`): as many trailing ones in the first
    /// byte as bytes follow it, a zero unless that are eight, then the value.
    pub(super) fn varlen(&mut self) -> Result<u64, Short> {
        let first = self.u8()?;
        let following = first.trailing_ones();
        let high = self.uint(following as usize)?;
        if following == 8 {
            return Ok(high);
        }
        // `following` + 1 bits say the length, the other 7 - `following` are the lowest of the value.
        Ok(high << (7 - following) | u64::from(first) >> (following + 1))
    }

    /// The same of a signed integer: the sign is the lowest bit.
    pub(super) fn varlen_signed(&mut self) -> Result<i64, Short> {
        let value = self.varlen()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varlen_integers_are_those_of_the_serialization_library() {
        // Examples of libs/mysql/serialization/readme.md, bytes in file order.
        let signed = |bytes: &[u8]| Fields(bytes).varlen_signed().unwrap();
        assert_eq!(Fields(&[0xFB, 0xFF, 0x07]).varlen().unwrap(), 65535);
        assert_eq!(signed(&[0xF3, 0xFF, 0x0F]), 65535);
        assert_eq!(signed(&[0xEB, 0xFF, 0x0F]), -65535);
        assert_eq!(signed(&[0xFB, 0xFF, 0x0F]), -65536);
        assert_eq!(Fields(&[0x00]).varlen().unwrap(), 0);
        assert_eq!(Fields(&[0xFE]).varlen().unwrap(), 127);
        assert_eq!(Fields(&[0x01, 0x02]).varlen().unwrap(), 128);
        let eight = [0x7F, 1, 0, 0, 0, 0, 0, 0x80];
        assert_eq!(Fields(&eight).varlen().unwrap(), 1 << 55 | 1);
        assert_eq!(Fields(&[0xFF; 9]).varlen().unwrap(), u64::MAX);
        assert_eq!(signed(&[0xFF; 9]), i64::MIN);
        assert!(Fields(&[0xFB, 0xFF]).varlen().is_err());
        assert!(Fields(&[]).varlen().is_err());
    }

    #[test]
    fn packed_integers_are_those_of_the_protocol() {
        assert_eq!(Fields(&[250]).packed().unwrap(), 250);
        assert_eq!(Fields(&[252, 0xFB, 0]).packed().unwrap(), 251);
        assert_eq!(Fields(&[253, 0, 0, 1]).packed().unwrap(), 65536);
        assert_eq!(
            Fields(&[254, 0, 0, 0, 0, 0, 0, 0, 1]).packed().unwrap(),
            1 << 56
        );
        assert!(Fields(&[251]).packed().is_err());
        assert!(Fields(&[255, 1]).packed().is_err());
        assert!(Fields(&[254, 1, 2]).packed().is_err());
    }
}
