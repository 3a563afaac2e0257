//! The fields of a packet's payload. Integers are little-endian.

/// It ends within a field, or holds what no client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed packet")]
pub(super) struct Malformed;

/// What is left of a payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl<'a> Payload<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes up to a zero, which is taken, too.
    pub(super) fn until_zero(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or(Malformed)?)?;
        self.u8()?;
        Ok(text)
    }

    /// Bytes behind their length ("length-encoded").
    pub(super) fn with_length(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.u8()? {
            short @ ..=250 => u64::from(short),
            252 => u64::from(self.u16()?),
            253 => {
                let [low, middle, high] = self.array()?;
                u64::from(u32::from_le_bytes([low, middle, high, 0]))
            }
            254 => self.u64()?,
            251 | 255 => return Err(Malformed),
        };
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    /// A field of four bytes of length and as many bytes.
    pub(super) fn behind_u32(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
}

/// Appends bytes behind their length.
pub(super) fn put_with_length(payload: &mut Vec<u8>, bytes: &[u8]) {
    match u16::try_from(bytes.len()) {
        Ok(length @ ..=250) => payload.extend(length.to_le_bytes().first()),
        Ok(length) => {
            payload.push(252);
            payload.extend(length.to_le_bytes());
        }
        Err(_) => {
            payload.push(254);
            payload.extend((bytes.len() as u64).to_le_bytes());
        }
    }
    payload.extend(bytes);
}
